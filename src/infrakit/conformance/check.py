"""A check: a rule of the protocol in one sentence, and the code that tests whether a plugin follows it."""

import enum
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from infrakit.conformance.probe import Exchange, Failure, Probe, Unmet
from infrakit.spi import errors
from infrakit.spi.values import wire_name

# Errors that a check may raise because of a malformed or missing response.
RESPONSE_ERRORS = (
    errors.InfraKitError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    TimeoutError,
    RecursionError,
)

BY_TYPE = {"Instance", "Flavor"}  # services whose requests have `Type`, the name after its first slash
BY_NAME = {"Group", "Metadata", "Updatable"}  # services whose requests have `Name`, the whole name


class Verdict(enum.StrEnum):
    """The result of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    PRESENT = "present"  # an optional capability
    ABSENT = "absent"


class Outcome(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """One line of the report. `object` is the checked type, if a plugin has several."""

    name: str
    rule: str
    verdict: Verdict
    object: str = ""
    expected: str = ""
    seen: str = ""
    seconds: float = 0.0
    exchanges: tuple[Exchange, ...] = ()


class Inapplicable(Exception):
    """The rule does not apply here; the message is the reason."""


class Subject(msgspec.Struct, kw_only=True):
    """One object of a plugin under test, the settings of the run, and the instances that the checks created."""

    probe: Probe
    name: str  # `lookup`, or `lookup/type`
    properties: Any  # properties of an instance or a flavor, as JSON
    init: str  # the boot script of provisioned instances
    settle_s: float  # how long a listing may lag behind
    writes: bool  # whether groups and variables may be changed
    run: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex[:12])  # the run's ID, a tag of its instances
    created: set[str] = msgspec.field(default_factory=set)  # IDs of instances, until they are destroyed
    destroyed: set[str] = msgspec.field(default_factory=set)
    unconfirmed: int = 0  # failed provisions that may have created an instance

    @property
    def type(self) -> str:
        return self.name.partition("/")[2]

    def address(self, method: str) -> dict[str, str]:
        """Return the fields of a request that select the object."""
        service = method.partition(".")[0]
        if service in BY_TYPE:
            return {"Type": self.type}
        return {"Name": self.name} if service in BY_NAME else {}

    async def ask(self, method: str, **params: Any) -> dict[str, Any] | Failure:
        """Call a method of this object."""
        return await self.probe.ask(method, self.address(method) | params)

    async def succeed(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method, which must succeed, and return its result. Raises `Unmet`."""
        reply = await self.ask(method, **params)
        if isinstance(reply, Failure):
            raise Unmet(f"{method} succeeds", f"{reply.code} {reply.message}")
        return reply

    async def fail(self, method: str, **params: Any) -> None:
        """Call a method, which must return an error. Raises `Unmet`."""
        expect_error(await self.ask(method, **params), method)


Test = Callable[[Subject], Awaitable[bool | None]]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A rule and its test. `test` raises `Unmet`; for a capability it returns whether the plugin has it."""

    name: str
    rule: str
    test: Test


def expect(holds: object, expected: str, seen: object) -> None:
    """Raise `Unmet` unless `holds` is true."""
    if not holds:
        raise Unmet(expected, seen)


def expect_error(reply: dict[str, Any] | Failure, to: str) -> None:
    """Raise `Unmet` unless the reply is a valid JSON-RPC error with a message, which is all that clients show."""
    if not isinstance(reply, Failure):
        raise Unmet(f"an error from {to}", reply)
    expect(isinstance(reply.message, str) and reply.message, f"a message with the error of {to}", reply.message)
    expect(type(reply.code) is int, f"a code, an integer, with the error of {to}", reply.code)


class Suite:
    """The checks of one interface, in the order in which they run."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.checks: list[Check] = []

    def rule(self, name: str, rule: str) -> Callable[[Test], Test]:
        """Return a decorator that adds a function as a check."""

        def add(test: Test) -> Test:
            self.checks.append(Check(name=f"{self.kind}/{name}", rule=rule, test=test))
            return test

        return add
