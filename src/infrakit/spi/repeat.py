"""Marks the methods whose calls a client may repeat after a connection failure; any other call is sent only once."""

from collections.abc import Callable
from typing import Any, TypeVar

M = TypeVar("M", bound=Callable[..., Any])


def repeatable(method: M) -> M:
    """Mark a Protocol's method as safe to repeat: calling it twice has the same effect as calling it once.

    When the connection fails before the response, the client repeats a marked call once; it also applies the short
    timeout of reads to it. Any other call is never sent twice: the caller gets `OutcomeUnknown` and decides, even if
    the method is idempotent, such as `Instance.destroy`.
    """
    method.repeatable = True  # type: ignore[attr-defined]
    return method


def is_repeatable(method: Callable[..., Any]) -> bool:
    """Whether a Protocol's method is marked with `repeatable`."""
    return getattr(method, "repeatable", False) is True
