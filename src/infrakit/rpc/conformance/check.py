"""What a check is: a rule of the protocol in one sentence, and the code that asks a plugin whether it keeps it."""

import enum
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from infrakit.rpc.conformance.probe import Exchange, Probe
from infrakit.spi.values import wire_name


class Verdict(enum.StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    PRESENT = "present"  # a capability, which no plugin must have
    ABSENT = "absent"


class Outcome(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """One line of the report."""

    name: str
    rule: str
    verdict: Verdict
    expected: str = ""
    seen: str = ""
    seconds: float = 0.0
    exchanges: tuple[Exchange, ...] = ()


class Unmet(Exception):
    """The plugin does not keep the rule."""

    def __init__(self, expected: str, seen: object) -> None:
        super().__init__(expected)
        self.expected = expected
        self.seen = seen if isinstance(seen, str) else msgspec.json.encode(seen).decode(errors="replace")


class Inapplicable(Exception):
    """The rule cannot be asked about here, and why."""


class Subject(msgspec.Struct, kw_only=True):
    """What is checked: a plugin under one name, and how."""

    probe: Probe
    name: str  # `lookup` or `lookup/type`
    properties: Any  # of an instance or a flavor, as JSON
    init: str  # the boot script of what is provisioned
    settle_s: float  # for which a listing may lag behind

    @property
    def type(self) -> str:
        return self.name.partition("/")[2]


Ask = Callable[[Subject], Awaitable[bool | None]]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A rule; `ask` raises `Unmet`, or answers for a capability whether it is there."""

    name: str
    rule: str
    ask: Ask


def expect(holds: object, expected: str, seen: object) -> None:
    """Raise `Unmet` unless it holds."""
    if not holds:
        raise Unmet(expected, seen)


class Suite:
    """The checks of one interface, in the order in which they are asked."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.checks: list[Check] = []

    def rule(self, name: str, rule: str) -> Callable[[Ask], Ask]:
        """Makes a check of a function."""

        def add(ask: Ask) -> Ask:
            self.checks.append(Check(name=f"{self.kind}/{name}", rule=rule, ask=ask))
            return ask

        return add
