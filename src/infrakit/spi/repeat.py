"""The mark of methods whose calls a client may send again after the connection broke; without it, none is."""

from collections.abc import Callable
from typing import Any, TypeVar

M = TypeVar("M", bound=Callable[..., Any])


def repeatable(method: M) -> M:
    """Mark a Protocol's method as one that a client may repeat by itself: a second call has no effect of its own.

    When the connection breaks before the response, the client repeats a marked call once; it also gives it the short
    timeout of a read. Any other call is never sent twice: the caller gets `OutcomeUnknown` and decides, also where the
    method is idempotent, such as `Instance.destroy`.
    """
    method.repeatable = True  # type: ignore[attr-defined]
    return method


def is_repeatable(method: Callable[..., Any]) -> bool:
    """Whether a Protocol's method is marked with `repeatable`."""
    return getattr(method, "repeatable", False) is True
