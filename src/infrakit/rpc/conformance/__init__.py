"""The conformance kit: asks any plugin, in any language, whether it keeps the protocol."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from infrakit.rpc import client
from infrakit.rpc.conformance import envelope, flavors, instances, trees
from infrakit.rpc.conformance.check import Check, Inapplicable, Outcome, Subject, Suite, Unmet, Verdict
from infrakit.rpc.conformance.probe import Probe
from infrakit.rpc.transport import Transport
from infrakit.spi import errors

INIT = "#!/bin/sh\nexec sleep 3600\n"
CHECK_DEADLINE_S = 300.0
SUITES: dict[str, Suite] = {
    "Instance": instances.SUITE,
    "Flavor": flavors.SUITE,
    "Metadata": trees.METADATA,
    "Updatable": trees.UPDATABLE,
    "Group": trees.GROUP,
    "Event": trees.EVENT,
}
EXTENSIONS = {
    "Instance": ("Capable", "Inspects", "Watches", "Logs", "Volumes"),
    "Flavor": ("JudgesMany", "Quorum", "Attaches"),
}
LEFT = "instance/nothing-left"


async def run(
    transport: Transport,
    name: str,
    *,
    kinds: Sequence[str] = (),
    properties: Any = None,
    init: str = INIT,
    settle_s: float = 60.0,
) -> AsyncIterator[Outcome]:
    """Every check of the interfaces that a plugin announces (or of `kinds`), as they end.

    Raises `Unreachable` if it does not answer, `Refused` if it announces none of what is to be checked.
    """
    served = await client.hello(transport, name)
    announced = {interface.partition("/")[0] for interface in served}
    asked = {kind.capitalize() for kind in kinds}
    wanted = [kind for kind in SUITES if kind in (asked or announced)]
    if missing := sorted(asked - announced):
        raise errors.Refused(f"it does not announce {', '.join(missing)}", where=name, remedy="leave out --kind")
    if not wanted:
        raise errors.Refused(f"it announces {', '.join(sorted(served))}: nothing of that can be checked", where=name)
    subject = Subject(probe=Probe(transport), name=name, properties=properties or {}, init=init, settle_s=settle_s)
    try:
        for suite in (envelope.SUITE, *(SUITES[kind] for kind in wanted)):
            for check in suite.checks:
                yield await _ask(check, subject)
        for extension in (each for kind in wanted for each in EXTENSIONS.get(kind, ())):
            rule = "capability: announced beside the interface that it extends"
            verdict = Verdict.PRESENT if extension in announced else Verdict.ABSENT
            yield Outcome(name=f"extension/{extension.lower()}", rule=rule, verdict=verdict)
    finally:
        left = await asyncio.shield(instances.clean(subject)) if "Instance" in wanted else []
    if left:
        rule = "everything that the checks have made can be ended"
        yield Outcome(name=LEFT, rule=rule, verdict=Verdict.FAILED, expected="nothing", seen=", ".join(left))


async def _ask(check: Check, subject: Subject) -> Outcome:
    subject.probe.exchanges.clear()
    began = time.perf_counter()
    verdict, expected, seen = Verdict.PASSED, "", ""
    try:
        async with asyncio.timeout(CHECK_DEADLINE_S):
            capability = await check.ask(subject)
        if capability is not None:
            verdict = Verdict.PRESENT if capability else Verdict.ABSENT
    except Inapplicable as why:
        verdict, seen = Verdict.SKIPPED, str(why)
    except Unmet as unmet:
        verdict, expected, seen = Verdict.FAILED, unmet.expected, unmet.seen
    except (errors.InfraKitError, ValueError, KeyError, TypeError, AttributeError, TimeoutError) as error:
        # An answer of another shape than any check asks about, or none.
        verdict, expected, seen = Verdict.FAILED, "an answer in the shape of the protocol", _words(error)
    return Outcome(
        name=check.name,
        rule=check.rule,
        verdict=verdict,
        expected=expected,
        seen=seen,
        seconds=round(time.perf_counter() - began, 3),
        exchanges=tuple(subject.probe.exchanges),
    )


def _words(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no {error.args[0]}"
    return str(error) or type(error).__name__
