"""What the demonstrations share: a printed timeline, checks with a verdict, and waiting with a timeout.

They are scripts in directories of their own, and add this directory to `sys.path` themselves.
"""

import time
from collections.abc import Callable
from typing import Any

POLL_S = 0.05
TIMEOUT_S = 180.0


class CheckFailed(Exception):
    """A guarantee did not hold, or an operation timed out."""


class Timeline:
    """Prints lines with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def log(self, text: str) -> None:
        print(f"{self.seconds():6.1f} s  {text}", flush=True)

    def check(self, holds: bool, text: str) -> None:
        """Print the verdict. Raises `CheckFailed` if it does not hold."""
        self.log(f"{'ok     ' if holds else 'FAILED '} {text}")
        if not holds:
            raise CheckFailed(text)


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = TIMEOUT_S) -> Any:
    """Poll a condition until it is true, and return its value. Raises `CheckFailed` on a timeout."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise CheckFailed(f"timeout after {timeout_s:.0f} s, waiting for: {what}")
        time.sleep(POLL_S)
    return value
