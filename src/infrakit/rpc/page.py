"""Pages: text that a server renders for each GET request, in addition to the calls."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple


class Page(NamedTuple):
    """A text response."""

    text: str
    status: int = 200  # HTTP status
    media: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Awaitable[Page]]]  # by path, such as `/metrics`
