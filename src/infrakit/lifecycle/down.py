"""`infrakit down FILE`: tear down a self-hosted cluster from outside, because no replica may destroy its own machine.

Two controllers must never act on the same machines (law 1), and this command is a second one. So it first makes sure
that no replica of the cluster acts any more, and only then changes anything:

1.  It commits a halt of everything through a replica. When the commit returns, the halt is durable in the cluster's own
    store. Every later leader loads it with a linearizable read before it acts; so does a replica that is restored from
    a volume later.
2.  The current leader may not have read the halt yet, and may have calls in flight. So it is polled until its own
    status shows the halt and no action in progress. It has to be the replica that the store names as the holder of the
    epoch, because a stale leader would report only its own state. A replica that lost the epoch cannot act, halted or
    not, because of the fencing check before each call; one that holds the epoch and has read the halt refuses there.
3.  Every group is destroyed through its provider, one after the other, and those that host replicas last: for as long
    as there is a quorum, it stores the halt. Instances of other clusters are left, if a replica reports which are ours.

If no replica could be halted, one may still run, cut off only from this machine. Then nothing is destroyed unless the
operator confirms that no replica acts. Machines of groups that the document omits would be left without a controller,
so the document is compared with the declaration first. Volumes are kept unless their deletion is requested, and with
them the declaration and its halt.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from infrakit.gate.authority import Teardown
from infrakit.gate.gate import Gate
from infrakit.lifecycle.access import COMMIT_S
from infrakit.lifecycle.replicas import Replicas, SelfHosted, self_hosted
from infrakit.lifecycle.request import DocumentRequest
from infrakit.lifecycle.teardown import GroupTeardown
from infrakit.manager.declaration import validate
from infrakit.runtime.lock import StateLock
from infrakit.runtime.registry import Registry
from infrakit.spec import document as documents
from infrakit.spi import errors
from infrakit.spi.clock import SystemClock
from infrakit.spi.event import timestamp
from infrakit.spi.flavor import Attaches
from infrakit.spi.group import Group
from infrakit.spi.manager import Committed, LeaderStatus, Status
from infrakit.spi.values import GroupID

HALT_S = 60.0  # timeout for the leader to read the halt and to complete the calls in flight
STATUS_S = 5.0
POLL_S = 0.3


class TeardownRequest(DocumentRequest, frozen=True, kw_only=True):
    """How the cluster of this document is destroyed."""

    volumes: bool = False
    unhalted: bool = False  # continue even if no replica could be halted
    timeout_s: float = 300.0


async def down(
    request: TeardownRequest, *, home: Path, report: Callable[[str], object], agree: Callable[[str], object]
) -> bool:
    """Tear the cluster down; True if volumes are kept. `agree` asks for confirmation and raises if it is denied.

    Raises `InvalidSpec`, and `Refused` if it would not be safe or if instances are left after the timeout.
    """
    registry = Registry(home)
    try:
        groups = await validate.checked(request.text, request.source, registry)
        hosts = await self_hosted(groups, registry)
        if hosts is None:
            raise errors.Refused(
                "no group hosts InfraKit replicas",
                where=request.source,
                remedy="`infrakit down`, without FILE",
            )
        with StateLock(home, started=timestamp(SystemClock().now())):
            teardowns = [await _teardown_of(group, registry, report) for group in _in_order(groups, hosts)]
            return await teardown(request, hosts, teardowns, report, agree)
    finally:
        await registry.close()


async def teardown(
    request: TeardownRequest,
    hosts: SelfHosted,
    teardowns: Sequence[GroupTeardown],
    report: Callable[[str], object],
    agree: Callable[[str], object],
) -> bool:
    """Halt the cluster, then destroy the groups in the order of `teardowns`. Returns and raises as `down` does."""
    async with Replicas(hosts.places) as replicas:
        status = await _status(replicas)
        answers = status is not None
        for each in teardowns:
            each.clusters = (status.clusters or None) if status is not None else None
        counts = {each.name: len(await each.machines()) for each in teardowns}
        if answers:
            await _compare(replicas, teardowns, hosts, counts)
        elif any(counts.values()):
            _refuse_unless_unhalted("no replica answers", replicas.why, request, report)
        if not any(counts.values()) and not request.volumes:
            report("no instances of this cluster exist")
            return False
        agree(_question(counts, volumes=request.volumes))
        halted_at = await _halt(replicas, request, report) if answers else 0
        gate = Gate(Teardown(lambda: _halt_stands(replicas, request, halted_at)))
        until = asyncio.get_running_loop().time() + request.timeout_s
        for each in teardowns:
            await each.run(until, gate)
            report(f"{each.name} is destroyed")
        if request.volumes:
            for each in teardowns:
                await each.delete_volumes(gate)
    return any(each.has_volumes for each in teardowns) and not request.volumes


def _in_order(groups: Iterable[Group], hosts: SelfHosted) -> list[Group]:
    """Groups in reverse order of their names, those that host replicas last."""
    return sorted(sorted(groups, key=lambda each: each.name, reverse=True), key=lambda each: each.name in hosts.groups)


async def _teardown_of(group: Group, registry: Registry, report: Callable[[str], object]) -> GroupTeardown:
    flavor = await registry.flavor(group.properties.flavor.plugin)
    attaches = flavor if isinstance(flavor, Attaches) else None
    return GroupTeardown(group, await registry.instance(group.properties.instance.plugin), attaches, report)


def _question(counts: Mapping[GroupID, int], *, volumes: bool) -> str:
    what = ", ".join(f"{count} of {name}" for name, count in counts.items())
    data = "with their volumes and the data on them" if volumes else "keeping their volumes"
    return f"Halt the cluster and destroy all of it, {what}, {data}?"


# -- halting the cluster -----------------------------------------------------------------------------------------------


async def _status(replicas: Replicas) -> Status | None:
    try:
        status: Status = await replicas.ask("status", within_s=STATUS_S)
    except errors.Unreachable:
        return None
    return status


def _refuse_unless_unhalted(
    what: str, why: dict[str, str], request: TeardownRequest, report: Callable[[str], object]
) -> None:
    details = "; ".join(f"{place}: {reason}" for place, reason in why.items())
    if request.unhalted:
        report(f"{what} ({details}): continuing, as requested" if details else f"{what}: continuing, as requested")
        return
    raise errors.Refused(
        f"{what}, and machines exist: a replica that still runs would recreate what is destroyed here",
        where=details or "the cluster",
        remedy="recover a replica (infrakit bootstrap --recover); if you know that none of them acts: --without-halt",
    )


async def _compare(
    replicas: Replicas, teardowns: Sequence[GroupTeardown], hosts: SelfHosted, counts: Mapping[GroupID, int]
) -> None:
    """Raise `Refused` unless the document and the provider are those of the cluster that answers."""
    if not any(counts[name] for name in hosts.groups):
        raise errors.Refused(
            f"the replica at {replicas.at} answers, and the provider lists no machine of {', '.join(hosts.groups)}",
            where="the provider here",
            remedy="run it where the machines were created from, with the same INFRAKIT_HOME and provider",
        )
    try:
        newest = await replicas.ask("history", limit=1)
        if not newest:
            return
        text = await replicas.ask("show", version=newest[0].version)
    except errors.Unreachable:
        return  # without the store the halt fails too, and that error is reported
    known = {each.name: each.plugin for each in teardowns}
    for group in documents.read(text, source="the declaration").groups:
        if group.name not in known:
            raise errors.Refused(
                f"the cluster declares group {group.name}, which FILE omits: it would be left without a controller",
                where="FILE",
                remedy=f"name a file with all groups, or first: infrakit group destroy {group.name}",
            )
        if group.properties.instance.plugin != known[group.name]:
            raise errors.Refused(
                f"the cluster has {group.name} on {group.properties.instance.plugin}, not on {known[group.name]}",
                where="FILE",
                remedy="name the file that was committed (infrakit history)",
            )


async def _halt(replicas: Replicas, request: TeardownRequest, report: Callable[[str], object]) -> int:
    """Return once no replica of the cluster acts any more: the version of the declaration with the halt, or 0.

    Raises `Refused` if that cannot be ensured.
    """
    try:
        committed: Committed = await replicas.ask("halt", within_s=COMMIT_S, who=request.who, why=request.why)
    except (errors.Unreachable, errors.OutcomeUnknown, errors.NotLeader, TimeoutError) as error:
        why = str(error) or f"no answer within {COMMIT_S:g} s"
        _refuse_unless_unhalted(f"the cluster could not be halted: {why}", {}, request, report)
        return 0
    try:
        async with asyncio.timeout(HALT_S):
            await _until_idle(replicas)
    except (errors.OutcomeUnknown, TimeoutError) as error:
        why = str(error) or f"its leader has not confirmed that it is idle within {HALT_S:g} s"
        _refuse_unless_unhalted(
            f"the cluster is halted (to lift that: infrakit unhalt), but {why}", {}, request, report
        )
    else:
        report("halted: no replica of the cluster acts any more")
    return committed.version


async def _halt_stands(replicas: Replicas, request: TeardownRequest, halted_at: int) -> bool | None:
    """Whether the cluster is still halted; None if that is unknown, or if the operator does without a halt.

    All replicas are asked, and the newest version counts: a follower that the leader and the store do not reach shows
    an old one, in which the halt may still be in force. If none has read the version with the halt, for example after a
    restart without a quorum, that is unknown.
    """
    if request.unhalted:
        return None
    statuses: list[Status] = await replicas.ask_all("status", within_s=STATUS_S)
    status = max(statuses, key=lambda each: each.version, default=None)
    if status is None or status.version < halted_at:
        return None
    return any(halt.group is None for halt in status.halts)


async def _until_idle(replicas: Replicas) -> None:
    while True:
        try:
            status: Status = await replicas.ask("status", within_s=STATUS_S)
            leader: LeaderStatus = await replicas.ask("leader", within_s=2 * STATUS_S)
        except (errors.Unreachable, errors.NotLeader):
            await asyncio.sleep(POLL_S)
            continue
        leads = status.replica if status.leader else status.leading
        halted = any(halt.group is None for halt in status.halts)
        if leads and leads == leader.leader and halted and not any(group.doing for group in status.groups):
            return
        await asyncio.sleep(POLL_S)
