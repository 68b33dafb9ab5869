"""The conformance kit: checks whether a plugin, in any language, implements the protocol."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from infrakit.conformance import envelope, flavors, groups, instances, made, trees
from infrakit.conformance.check import (
    BY_TYPE,
    RESPONSE_ERRORS,
    Check,
    Inapplicable,
    Outcome,
    Subject,
    Suite,
    Verdict,
)
from infrakit.conformance.probe import Probe, Unmet
from infrakit.conformance.raw import Wire
from infrakit.spi import errors

INIT = "#!/bin/sh\nexec sleep 3600\n"
CHECK_DEADLINE_S = 300.0
SUITES: dict[str, Suite] = {
    "Instance": instances.SUITE,
    "Flavor": flavors.SUITE,
    "Metadata": trees.METADATA,
    "Updatable": trees.UPDATABLE,
    "Group": groups.SUITE,
    "Event": trees.EVENT,
}
EXTENSIONS = {
    "Instance": ("Capable", "Inspects", "Watches", "Logs", "Tails", "Volumes", "Keeps", "Identified"),
    "Flavor": ("JudgesMany", "Quorum", "Attaches", "Releases", "Members", "Voters", "Hosts"),
}
GROUPS = "groups"  # the object of a manager for all groups; each group also has an object of its own
NOTHING_LEFT = "instance/nothing-left"
NOTHING_LEFT_RULE = "all instances that the checks created are destroyed at the end"


async def run(
    address: str,
    name: str,
    *,
    kinds: Sequence[str] = (),
    properties: Any = None,
    init: str = INIT,
    settle_s: float = 60.0,
    writes: bool = False,
) -> AsyncGenerator[Outcome, None]:
    """Run every check of the interfaces that a plugin announces (or of `kinds`), and yield each result.

    `name` is `lookup` to check each of its objects, or `lookup/type`. Provisioned instances are destroyed, also when
    the iterator is closed or cancelled. Raises `Unreachable` if no plugin answers at `address`, `Refused` if it
    announces no interface to check, and `PluginError` if the run was stopped early and instances remain.
    """
    probe = Probe(Wire(address))
    plugin = Subject(probe=probe, name=name, properties=properties or {}, init=init, settle_s=settle_s, writes=writes)
    served = await _served(probe)
    wanted = list(_wanted(served, name, kinds))
    subjects = list(_subjects(wanted, served, plugin))
    providers = [subject for kind, subject in subjects if kind == "Instance"]
    stopped_early = True
    try:
        for check in (*envelope.HTTP.checks, *envelope.SUITE.checks):
            yield await _run(check, plugin)
        for kind, subject in subjects:
            for check in SUITES[kind].checks:
                yield await _run(check, subject)
        for extension in (each for kind in wanted for each in EXTENSIONS.get(kind, ())):
            why = "" if extension in (served or {}) else await _hidden(address, extension)
            yield _extension(extension, served or {}, why)
        stopped_early = False
    finally:
        left = {provider.type: await made.clean(provider) for provider in providers}
        if stopped_early and any(left.values()):
            remain = ", ".join(each for ids in left.values() for each in ids)
            tags = " or ".join(f"{made.TAG}={provider.run}" for provider in providers)
            remedy = f"destroy them manually; they have the tag {tags}"
            raise errors.PluginError(f"stopped early; these instances remain: {remain}", where=name, remedy=remedy)
    for type_, ids in left.items():
        verdict = Verdict.FAILED if ids else Verdict.PASSED
        seen = ", ".join(ids)
        yield Outcome(
            name=NOTHING_LEFT,
            rule=NOTHING_LEFT_RULE,
            verdict=verdict,
            object=type_,
            expected="no instance left",
            seen=seen,
        )


async def _served(probe: Probe) -> dict[str, list[str]] | None:
    """Return the names of objects by interface, without versions; None if the handshake violates the protocol."""
    try:
        announced = await envelope.announced(probe)
    except (errors.Unreachable, errors.Refused):
        raise
    except (Unmet, *RESPONSE_ERRORS):
        return None
    return {interface.partition("/")[0]: names for interface, names in announced.items()}


def _wanted(served: Mapping[str, Sequence[str]] | None, name: str, kinds: Iterable[str]) -> Iterator[str]:
    """Yield the interfaces to check: the requested ones, or else those that have an object of that name."""
    requested = {kind.capitalize() for kind in kinds}
    if served is None:  # the broken handshake is reported; the requested interfaces may still work
        yield from (kind for kind in SUITES if kind in requested)
        return
    if missing := sorted(requested - served.keys()):
        raise errors.Refused(f"it does not announce {', '.join(missing)}", where=name, remedy="leave out --kind")
    type_ = name.partition("/")[2]
    wanted = [kind for kind in SUITES if kind in (requested or served)]
    if not wanted:
        announced = ", ".join(sorted(served)) or "nothing"
        raise errors.Refused(f"it announces {announced}: there are no checks for these", where=name)
    named = [kind for kind in wanted if kind in requested or not type_ or type_ in served[kind]]
    if not named:
        known = sorted({each for kind in wanted for each in served[kind]} - {".", ""}) or ["none"]
        lookup = name.partition("/")[0]
        raise errors.NotFound(f"{lookup} has no {type_!r}", where=name, remedy=f"its objects: {', '.join(known)}")
    yield from named


def _subjects(
    wanted: Iterable[str], served: Mapping[str, Sequence[str]] | None, plugin: Subject
) -> Iterator[tuple[str, Subject]]:
    """Yield every object of every interface to check."""
    for kind in wanted:
        for type_ in _objects(kind, (served or {}).get(kind, ()), plugin.type):
            lookup = plugin.name.partition("/")[0]
            yield (
                kind,
                msgspec.structs.replace(
                    plugin, name=f"{lookup}/{type_}" if type_ else lookup, created=set(), destroyed=set()
                ),
            )


def _objects(kind: str, names: Sequence[str], type_: str) -> list[str]:
    """Return the types to check: the named one; else the default object, if there is one; else all."""
    if type_ or kind == "Event" or not names or "." in names:
        return [type_]
    if kind not in BY_TYPE and len(names) == 1:
        return [""]
    return [GROUPS] if kind == "Group" and GROUPS in names else sorted(filter(None, names))


def _extension(extension: str, served: Mapping[str, object], hidden: str) -> Outcome:
    name, rule = f"extension/{extension.lower()}", "capability: announced in addition to the interface that it extends"
    if hidden:
        expected = "methods that the plugin's class defines"
        return Outcome(name=name, rule=rule, verdict=Verdict.FAILED, expected=expected, seen=hidden)
    return Outcome(name=name, rule=rule, verdict=Verdict.PRESENT if extension in served else Verdict.ABSENT)


async def _hidden(address: str, extension: str) -> str:
    """Return the explanation of InfraKit's own server if `__getattr__` hides the methods of an interface."""
    wire = Wire(address)
    request = {"jsonrpc": "2.0", "method": f"{extension}.{extension}", "params": {}, "id": 1}
    body = msgspec.json.encode(request)
    try:
        answer = await wire.send(wire.head(body), body, deadline_s=CHECK_DEADLINE_S)
        message = str(msgspec.json.decode(answer.body)["error"]["message"])
    except (errors.InfraKitError, msgspec.MsgspecError, KeyError, TypeError):
        return ""
    return message if message.startswith(f"{extension}: ") and "__getattr__" in message else ""


async def evaluate(test: Awaitable[bool | None]) -> tuple[Verdict, str, str]:
    """Run a test and return its verdict and, unless it passed, what was expected and what was found."""
    verdict, expected, seen = Verdict.PASSED, "", ""
    try:
        async with asyncio.timeout(CHECK_DEADLINE_S):
            capability = await test
        if capability is not None:
            verdict = Verdict.PRESENT if capability else Verdict.ABSENT
    except Inapplicable as why:
        verdict, seen = Verdict.SKIPPED, str(why)
    except Unmet as unmet:
        verdict, expected, seen = Verdict.FAILED, unmet.expected, unmet.seen
    except RESPONSE_ERRORS as error:
        verdict, expected, seen = Verdict.FAILED, "an answer in the shape of the protocol", _describe(error)
    return verdict, expected, seen


async def _run(check: Check, subject: Subject) -> Outcome:
    subject.probe.exchanges.clear()
    began = time.perf_counter()
    verdict, expected, seen = await evaluate(check.test(subject))
    return Outcome(
        name=check.name,
        rule=check.rule,
        verdict=verdict,
        object=subject.type,
        expected=expected,
        seen=seen,
        seconds=round(time.perf_counter() - began, 3),
        exchanges=tuple(subject.probe.exchanges),
    )


def _describe(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error.args[0]}"
    return str(error) or type(error).__name__
