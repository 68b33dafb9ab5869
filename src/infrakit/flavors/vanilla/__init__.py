"""The flavor `vanilla`: boot lines, tags and attachments as declared, an optional health check and drain command.

Without a check an instance is healthy when its provider lists it as running, which costs next to nothing, even for many
instances. With a check, at most 64 probes run at once, for all groups together.

    properties    what can be declared
    validation    problems that the types do not catch
    scripts       the boot script, and its variables
    placeholders  ${LOGICAL_ID} and the other placeholders
    probes        one probe: command, TCP, HTTP
    verdicts      derives health from consecutive probes
    command       runs processes with a timeout
    parts         what a member is made from
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from infrakit.flavors.vanilla import command, parts, placeholders, probes, scripts, validation, verdicts
from infrakit.flavors.vanilla.properties import Check, decode
from infrakit.spi.errors import InvalidSpec, PluginError, Refused
from infrakit.spi.flavor import MemberParts, health_by_state
from infrakit.spi.group import seconds
from infrakit.spi.metadata import Snapshots
from infrakit.spi.values import (
    TAG_GROUP,
    Allocation,
    Attachment,
    Description,
    GroupID,
    Health,
    HealthReport,
    Index,
    InstanceID,
    InstanceSpec,
    LogicalID,
)
from infrakit.template import boot
from infrakit.template.boot import BootScripts
from infrakit.template.engine import Engine

_PROBES_MAX = 64
_REFUSED_FOR_NOW = 75  # EX_TEMPFAIL of sysexits.h

# Verdicts from the state that the provider lists; shared reports, because there may be 10,000 instances.
_LISTED = HealthReport(health=Health.HEALTHY, note="the provider lists it; no check is declared")
_BY_STATE = health_by_state(finished=HealthReport(health=Health.HEALTHY, note="finished on purpose"))


class Vanilla:
    """Satisfies `Flavor`, `JudgesMany`, `Quorum`, `Attaches` and `MadeFrom` of the contract."""

    def __init__(self, facts: Snapshots | None = None, engine: Engine | None = None) -> None:
        self._scripts = BootScripts(facts, engine)
        self._probes = asyncio.Semaphore(_PROBES_MAX)
        self._http = probes.HTTPProbe()
        self._verdicts = verdicts.Verdicts()

    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None:
        declared = decode(properties)
        found = dict.fromkeys(validation.problems(declared, allocation))
        found |= dict.fromkeys(await self._scripts.problems(scripts.examples(declared, properties, allocation)))
        if found:
            raise InvalidSpec(tuple(found))

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        """Add tags and attachments, and append the boot script to that of `spec`. Raises what rendering raises."""
        declared = decode(properties)
        completed = scripts.completed(declared, spec, index)
        instance = boot.Instance(properties=properties, spec=completed, allocation=allocation, index=index)
        rendered = await self._scripts.render(scripts.of(declared, spec.logical_id), instance)
        return msgspec.structs.replace(completed, init="\n".join(filter(None, (spec.init, *rendered))))

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        check = decode(properties).health
        return _by_state(instance) or (_LISTED if check is None else await self._judge(check, instance))

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        check = decode(properties).health
        if check is None:
            return {each.id: _BY_STATE.get(each.state, _LISTED) for each in instances}
        reports: dict[InstanceID, HealthReport] = {}
        pending = iter(instances)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_PROBES_MAX, len(instances))):
                group.create_task(self._probe_each(check, pending, reports))
        for name in {_group(each) for each in instances}:
            self._verdicts.retain(name, reports)
        return reports

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        """Run the drain command. Exit code 75 raises `Refused` (not now), any other but 0 `PluginError`."""
        declared = decode(properties).drain
        if declared is None:
            return
        where = f"drain of {instance.id}"
        try:
            words, environment = _filled(declared.command, instance)
            result = await command.run(words, environment=environment, timeout_s=seconds(declared.timeout))
        except (placeholders.Missing, OSError, ValueError) as error:
            raise PluginError(f"the drain command cannot be run: {error}", where=where) from error
        output = f": {result.last_line}" if result.last_line else ""
        if result.code == _REFUSED_FOR_NOW:
            raise Refused(f"the drain command refused for now, with exit code {_REFUSED_FOR_NOW}{output}", where=where)
        if result.code is None:
            raise PluginError(f"the drain command did not finish within {declared.timeout} and was killed", where=where)
        if result.code != 0:
            raise PluginError(f"the drain command failed with exit code {result.code}{output}", where=where)

    async def is_quorum(self, *, properties: msgspec.Raw) -> bool:
        return decode(properties).quorum

    def made_from(self, *, properties: msgspec.Raw) -> MemberParts:
        return parts.of(properties)

    async def attachments(
        self, *, properties: msgspec.Raw, allocation: Allocation
    ) -> Mapping[LogicalID, tuple[Attachment, ...]]:
        declared = decode(properties)
        return {each: declared.attached(each) for each in allocation.logical_ids or ()}

    async def close(self) -> None:
        """Close all connections. The object may be used again afterwards."""
        self._scripts.close()
        await self._http.close()

    async def _probe_each(
        self, check: Check, pending: Iterator[Description], reports: dict[InstanceID, HealthReport]
    ) -> None:
        for instance in pending:
            reports[instance.id] = _by_state(instance) or await self._judge(check, instance)

    async def _judge(self, check: Check, instance: Description) -> HealthReport:
        async with self._probes:
            try:
                outcome = await self._probe(check, instance)
            except placeholders.Missing as error:
                outcome = probes.Outcome(None, str(error))
        return self._verdicts.record(_group(instance), instance.id, outcome, check)

    async def _probe(self, check: Check, instance: Description) -> probes.Outcome:
        timeout_s = seconds(check.timeout)
        if check.command is not None:
            words, environment = _filled(check.command, instance)
            name = "command" if isinstance(check.command, str) else f"command {words[0]}"
            return await probes.run(words, name=name, environment=environment, timeout_s=timeout_s)
        known = placeholders.values(instance)
        if check.tcp is not None:
            return await probes.tcp(placeholders.fill(check.tcp.address, known), timeout_s=timeout_s)
        if check.http is not None:
            url = placeholders.fill(check.http.url, known)
            return await self._http.get(url, status=check.http.status, timeout_s=timeout_s)
        return probes.Outcome(None, "the check names neither Command, TCP nor HTTP")


def _group(instance: Description) -> GroupID:
    return GroupID((instance.tags or {}).get(TAG_GROUP, ""))


def _by_state(instance: Description) -> HealthReport | None:
    """Return the verdict if its state alone decides it; None if it is listed as running or without a state."""
    return _BY_STATE.get(instance.state)


def _filled(declared: Sequence[str] | str, instance: Description) -> tuple[list[str], dict[str, str]]:
    known = placeholders.values(instance)
    words = command.argv(declared)
    if not isinstance(declared, str):
        words = [placeholders.fill(word, known) for word in words]
    return words, placeholders.environment(known)
