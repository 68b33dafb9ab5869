"""A page: what is answered to a GET beside the calls, made when it is asked for."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple


class Page(NamedTuple):
    """An answer in text."""

    text: str
    status: int = 200  # of HTTP
    media: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Awaitable[Page]]]  # by path, `/metrics`
