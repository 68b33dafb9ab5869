"""What a template may cost, and the budget of one render that it is paid from.

Jinja2's sandbox decides what a template may touch, not how much: a loop in a loop, or a string doubled forty times,
would take the process with it. So every call, every turn of a loop and every piece of text that is made pays into one
count of steps; every value is weighed before a template can hold it; output and time are bounded. All of it is
counted in the rendering thread itself, so nothing needs signals, and a template that is refused has cost no more than
its limits.
"""

import time
from collections.abc import Mapping

import msgspec

BYTES_PER_STEP = 100  # making text costs, too: a step for so much of it
_OBJECT_BYTES = 48  # what any value weighs beside its content
_INT_BITS_MAX = 4096


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that one render may take; a template that wants more is refused."""

    output_bytes_max: int = 8_000_000  # all text that is printed, also into variables and by includes
    steps_max: int = 1_000_000  # calls, turns of loops, and text made, 100 characters a step
    seconds_max: float = 30.0  # the whole render, with what it fetches and waits for
    fetches_max: int = 200  # addresses of other machines
    depth_max: int = 20  # includes in includes
    calls_deep_max: int = 50  # macros that call macros
    value_bytes_max: int = 2_000_000  # one value; about, as memory counts it
    source_bytes_max: int = 1_000_000  # the text of one template
    tokens_max: int = 40_000  # names, operators and texts that it consists of


class Exceeded(Exception):
    """A limit was exceeded; the message names it."""


class Budget:
    """What one render has spent."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.steps = 0
        self.output_bytes = 0
        self.deadline = time.monotonic() + limits.seconds_max

    def remaining_s(self) -> float:
        """How long the render may still take; raises `Exceeded` when that is nothing."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Exceeded(f"rendering takes more than {self.limits.seconds_max:g} s")
        return left

    def step(self, count: int = 1) -> None:
        """Pay for work."""
        self.steps += count
        if self.steps > self.limits.steps_max:
            raise Exceeded(f"rendering takes more than {self.limits.steps_max:,} steps: check for an endless loop")
        if time.monotonic() > self.deadline:
            raise Exceeded(f"rendering takes more than {self.limits.seconds_max:g} s")

    def print(self, length: int) -> None:
        """Pay for text that is printed."""
        self.output_bytes += length
        if self.output_bytes > self.limits.output_bytes_max:
            raise Exceeded(f"the output has more than {self.limits.output_bytes_max:,} bytes")

    def size(self, count: int) -> None:
        """Refuse what would be that big, before it is made."""
        if count > self.limits.value_bytes_max:
            raise Exceeded(f"a value would have more than {self.limits.value_bytes_max:,} bytes")

    def value(self, value: object) -> None:
        """Weigh a value that was made, with everything in it as often as it is in there, and pay for it."""
        kind = type(value)
        if kind is str:
            weight = len(value)  # type: ignore[arg-type]
            if weight > self.limits.value_bytes_max:
                self.size(weight)
        elif value is None or kind is bool or kind is float:
            return
        else:
            weight = self._weigh(value)
        if weight >= BYTES_PER_STEP:
            self.step(weight // BYTES_PER_STEP)

    def _weigh(self, value: object) -> int:
        """Doubling a list forty times makes a small graph and an endless text: so what is shared counts every time."""
        weight, left = 0, [value]
        most = self.limits.value_bytes_max
        while left:
            each = left.pop()
            weight += _OBJECT_BYTES
            if isinstance(each, str | bytes):
                weight += len(each)
            elif isinstance(each, int):
                if each.bit_length() > _INT_BITS_MAX:
                    raise Exceeded(f"a number has more than {_INT_BITS_MAX:,} bits")
            elif isinstance(each, Mapping):
                left.extend(each.keys())
                left.extend(each.values())
            elif isinstance(each, list | tuple | set | frozenset):
                left.extend(each)
            if weight + _OBJECT_BYTES * len(left) > most:
                self.size(most + 1)
        return weight
