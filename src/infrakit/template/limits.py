"""Resource limits of templates, and the budget of one render.

Jinja2's sandbox restricts what a template may access, not how much it may use: a nested loop, or a string doubled forty
times, would exhaust the process. So every call, loop iteration and piece of created text is charged to one counter of
steps, the size of every value is checked before a template receives it, and output and time are bounded. Everything is
counted in the rendering thread, so no signals are needed, and a rejected template has used no more than its limits.
"""

import time
from collections.abc import Mapping

import msgspec

BYTES_PER_STEP = 100  # creating text costs one step per this many bytes
_OBJECT_BYTES = 48  # the size of any value in addition to its content
_INT_BITS_MAX = 4096


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The resource limits of one render. A template that exceeds one is rejected."""

    output_bytes_max: int = 8_000_000  # all printed text, including text captured in variables and printed by includes
    steps_max: int = 1_000_000  # calls, loop iterations, and created text (100 characters per step)
    seconds_max: float = 30.0  # the whole render, including fetches and waits
    fetches_max: int = 200  # distinct addresses on other machines
    depth_max: int = 20  # nested includes
    calls_deep_max: int = 50  # nested calls of macros
    value_bytes_max: int = 2_000_000  # one value, approximately its size in memory
    source_bytes_max: int = 1_000_000  # the text of one template
    tokens_max: int = 40_000  # tokens of one template: names, operators and text


class Exceeded(Exception):
    """A limit was exceeded; the message names it."""


class Budget:
    """The resource usage of one render. Every method but the constructor raises `Exceeded` above a limit."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.steps = 0
        self.output_bytes = 0
        self.deadline = time.monotonic() + limits.seconds_max

    def remaining_s(self) -> float:
        """Return the remaining time in seconds, more than 0."""
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise Exceeded(f"rendering takes more than {self.limits.seconds_max:g} s")
        return remaining

    def step(self, count: int = 1) -> None:
        """Charge steps, and check the deadline."""
        self.steps += count
        if self.steps > self.limits.steps_max:
            raise Exceeded(f"rendering takes more than {self.limits.steps_max:,} steps: check for an endless loop")
        if time.monotonic() > self.deadline:
            raise Exceeded(f"rendering takes more than {self.limits.seconds_max:g} s")

    def print(self, length: int) -> None:
        """Charge printed text."""
        self.output_bytes += length
        if self.output_bytes > self.limits.output_bytes_max:
            raise Exceeded(f"the output has more than {self.limits.output_bytes_max:,} bytes")

    def size(self, count: int) -> None:
        """Check the size of a value before it is created."""
        if count > self.limits.value_bytes_max:
            raise Exceeded(f"a value would have more than {self.limits.value_bytes_max:,} bytes")

    def value(self, value: object) -> None:
        """Charge the size of a created value. A shared part counts as often as it occurs."""
        kind = type(value)
        if kind is str:
            total = len(value)  # type: ignore[arg-type]
            if total > self.limits.value_bytes_max:
                self.size(total)
        elif value is None or kind is bool or kind is float:
            return
        else:
            total = self._size_of(value)
        if total >= BYTES_PER_STEP:
            self.step(total // BYTES_PER_STEP)

    def _size_of(self, value: object) -> int:
        """Return the approximate size of a value, in bytes.

        A shared part counts each time: a list doubled forty times is a small graph, but prints as endless text.
        """
        total, remaining = 0, [value]
        size_max = self.limits.value_bytes_max
        while remaining:
            each = remaining.pop()
            total += _OBJECT_BYTES
            if isinstance(each, str | bytes):
                total += len(each)
            elif isinstance(each, int):
                if each.bit_length() > _INT_BITS_MAX:
                    raise Exceeded(f"a number has more than {_INT_BITS_MAX:,} bits")
            elif isinstance(each, Mapping):
                remaining.extend(each.keys())
                remaining.extend(each.values())
            elif isinstance(each, list | tuple | set | frozenset):
                remaining.extend(each)
            if total + _OBJECT_BYTES * len(remaining) > size_max:
                self.size(size_max + 1)
        return total
