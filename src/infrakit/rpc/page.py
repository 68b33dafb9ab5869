"""Pages: text served to GET requests beside the calls, rendered on request."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple


class Page(NamedTuple):
    """A text response."""

    text: str
    status: int = 200  # HTTP status
    media: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Awaitable[Page]]]  # by path, `/metrics`
