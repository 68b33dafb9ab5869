"""What a check is: a rule of the protocol in one sentence, and the code that asks a plugin whether it keeps it."""

import enum
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from infrakit.conformance.probe import Exchange, Failure, Probe, Unmet
from infrakit.spi import errors
from infrakit.spi.values import wire_name

# What a check meets when an answer has another shape than any rule asks about, or does not come.
WRONG = (
    errors.InfraKitError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    TimeoutError,
    RecursionError,
)

BY_TYPE = {"Instance", "Flavor"}  # services whose requests say `Type`, the name after its first slash
BY_NAME = {"Group", "Metadata", "Updatable"}  # those that say `Name`, the whole of it


class Verdict(enum.StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    PRESENT = "present"  # a capability, which no plugin must have
    ABSENT = "absent"


class Outcome(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """One line of the report. `object` is the type that was checked, if a plugin has several."""

    name: str
    rule: str
    verdict: Verdict
    object: str = ""
    expected: str = ""
    seen: str = ""
    seconds: float = 0.0
    exchanges: tuple[Exchange, ...] = ()


class Inapplicable(Exception):
    """The rule cannot be asked about here, and why."""


class Subject(msgspec.Struct, kw_only=True):
    """What is checked: one object of a plugin, and how; and what the checks have made there."""

    probe: Probe
    name: str  # `lookup`, or `lookup/type`
    properties: Any  # of an instance or a flavor, as JSON
    init: str  # the boot script of what is provisioned
    settle_s: float  # for which a listing may lag behind
    writes: bool  # whether groups and variables may be changed
    run: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex[:12])  # marks what is made
    made: set[str] = msgspec.field(default_factory=set)  # IDs of instances, until they are destroyed
    ended: set[str] = msgspec.field(default_factory=set)
    unanswered: int = 0  # provisions that may have made something nonetheless

    @property
    def type(self) -> str:
        return self.name.partition("/")[2]

    def address(self, method: str) -> dict[str, str]:
        """How a request says which object it is for."""
        service = method.partition(".")[0]
        if service in BY_TYPE:
            return {"Type": self.type}
        return {"Name": self.name} if service in BY_NAME else {}

    async def ask(self, method: str, **params: Any) -> dict[str, Any] | Failure:
        """Call a method of this object."""
        return await self.probe.ask(method, self.address(method) | params)

    async def done(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a call that must succeed. Raises `Unmet`."""
        reply = await self.ask(method, **params)
        if isinstance(reply, Failure):
            raise Unmet(f"{method} succeeds", f"{reply.code} {reply.message}")
        return reply

    async def refused(self, method: str, **params: Any) -> None:
        """A call that must be an error. Raises `Unmet`."""
        expect_error(await self.ask(method, **params), method)


Ask = Callable[[Subject], Awaitable[bool | None]]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A rule; `ask` raises `Unmet`, or answers for a capability whether it is there."""

    name: str
    rule: str
    ask: Ask


def expect(blocked: object, expected: str, seen: object) -> None:
    """Raise `Unmet` unless it holds."""
    if not blocked:
        raise Unmet(expected, seen)


def expect_error(reply: dict[str, Any] | Failure, to: str) -> None:
    """Raise `Unmet` unless it is an error in the shape of JSON-RPC: clients show its message, and nothing else."""
    if not isinstance(reply, Failure):
        raise Unmet(f"an error from {to}", reply)
    expect(isinstance(reply.message, str) and reply.message, f"a message with the error of {to}", reply.message)
    expect(type(reply.code) is int, f"a code, an integer, with the error of {to}", reply.code)


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
