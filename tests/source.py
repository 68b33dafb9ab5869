"""Source text as a tree, for the tests that read the code."""

import ast
import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Python 3.11 fails to parse (`SystemError`) if a finalizer or a callback of the collector runs meanwhile."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def tree(text: str) -> ast.Module:
    """The text, parsed."""
    with uncollected():
        return ast.parse(text)
