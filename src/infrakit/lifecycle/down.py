"""The end of a cluster that hosts its own replicas, from outside: nobody inside may end the machine that he runs on.

Two who act on the same machines are what must never be (law 1), and whoever runs this is a second one. So first it
makes sure that nobody inside acts any more, and only then it touches anything:

1.  A halt of everything is committed through a replica. When that returns, the halt is durable in the cluster's own
    store. Every leader after that loads it before it acts, by a read that is linearizable; so does one that comes back
    from a volume later.
2.  The one that leads now may not have read it yet, and may have calls under way. So it is asked until its own status
    shows the halt and nothing that is being done. It has to be the one that the store names as holder of the epoch: a
    stale one would tell of itself only. One that lost the epoch cannot act, with or without a halt, because it proves
    the epoch before each call; and one that holds it and has seen the halt refuses at that same place.
3.  Everything is ended through the provider, group after group, those that host replicas last: for as long as there is
    a quorum, it keeps the halt.

Where no replica could be halted, one may be alive all the same, cut off from us only. Then nothing is ended unless the
operator says that nobody acts. Machines in other groups than the document's would be left behind with nobody to keep
them, so the declaration is compared first. Volumes stay unless asked, and with them the declaration and its halt.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from infrakit.lifecycle.access import COMMIT_S
from infrakit.lifecycle.replicas import Replicas, SelfHosted, self_hosted
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
from infrakit.spi.manager import LeaderStatus, Status
from infrakit.spi.values import GroupID

HALT_S = 60.0  # for the leader to have read the halt, and to end the calls under way
STATUS_S = 5.0
POLL_S = 0.3


class TeardownRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator has asked for."""

    text: str
    source: str
    who: str
    why: str
    volumes: bool = False
    unhalted: bool = False  # go on where nobody could be halted
    timeout_s: float = 300.0


async def down(
    request: TeardownRequest, *, home: Path, report: Callable[[str], object], agree: Callable[[str], object]
) -> bool:
    """Whether something was ended whose volumes are kept. `agree` is given the question, and raises at a no.

    Raises `InvalidSpec`, `Refused` where it would not be safe, or something is left when the time is up.
    """
    registry = Registry(home)
    try:
        groups = await validate.checked(request.text, request.source, registry)
        hosts = await self_hosted(groups, registry)
        if hosts is None:
            raise errors.Refused(
                "no group of it hosts replicas of InfraKit",
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
    """The same for groups whose plugins are known; those in `endings` are ended in that order."""
    counts = {each.name: len(await each.machines()) for each in teardowns}
    async with Replicas(hosts.places) as replicas:
        answers = await _answers(replicas)
        if answers:
            await _compare(replicas, teardowns, hosts, counts)
        elif any(counts.values()):
            _refuse_unless_unhalted("no replica answers", replicas.why, request, report)
        if not any(counts.values()) and not request.volumes:
            report("there is nothing of it")
            return False
        agree(_question(counts, volumes=request.volumes))
        if answers:
            await _halt(replicas, request, report)
    loop = asyncio.get_running_loop()
    until = loop.time() + request.timeout_s
    for each in teardowns:
        await each.run(until)
        report(f"{each.name} is gone")
    if request.volumes:
        for each in teardowns:
            await each.delete_volumes()
    return any(each.has_volumes for each in teardowns) and not request.volumes


def _in_order(groups: Iterable[Group], hosts: SelfHosted) -> list[Group]:
    """The last by name first, and those that host replicas after all others."""
    return sorted(sorted(groups, key=lambda each: each.name, reverse=True), key=lambda each: each.name in hosts.groups)


async def _teardown_of(group: Group, registry: Registry, report: Callable[[str], object]) -> GroupTeardown:
    flavor = await registry.flavor(group.properties.flavor.plugin)
    attaches = flavor if isinstance(flavor, Attaches) else None
    return GroupTeardown(group, await registry.instance(group.properties.instance.plugin), attaches, report)


def _question(counts: Mapping[GroupID, int], *, volumes: bool) -> str:
    what = ", ".join(f"{count} of {name}" for name, count in counts.items())
    data = "with their volumes and the data on them" if volumes else "keeping their volumes"
    return f"Halt the cluster and destroy all of it, {what}, {data}?"


# -- nobody inside acts ------------------------------------------------------------------------------------------------


async def _answers(replicas: Replicas) -> bool:
    try:
        await replicas.ask("status", within_s=STATUS_S)
    except errors.Unreachable:
        return False
    return True


def _refuse_unless_unhalted(
    what: str, why: dict[str, str], request: TeardownRequest, report: Callable[[str], object]
) -> None:
    details = "; ".join(f"{place}: {reason}" for place, reason in why.items())
    if request.unhalted:
        report(f"{what} ({details}): goes on all the same, as was said" if details else f"{what}: goes on, as was said")
        return
    raise errors.Refused(
        f"{what}, and there are machines: a replica that lives all the same would make again what is destroyed here",
        where=details or "the cluster",
        remedy="bring one back (infrakit bootstrap --recover); if you know that none of them acts: --without-halt",
    )


async def _compare(
    replicas: Replicas, teardowns: Sequence[GroupTeardown], hosts: SelfHosted, counts: Mapping[GroupID, int]
) -> None:
    """Whether the document is that of the cluster that answers, and this its provider. Raises `Refused`."""
    if not any(counts[name] for name in hosts.groups):
        raise errors.Refused(
            f"the replica at {replicas.at} lives, and the provider lists no machine of {', '.join(hosts.groups)}",
            where="the provider here",
            remedy="run it where the machines were made from (INFRAKIT_HOME, and what the provider is reached by)",
        )
    try:
        newest = await replicas.ask("history", limit=1)
        if not newest:
            return
        text = await replicas.ask("show", version=newest[0].version)
    except errors.Unreachable:
        return  # without the store nothing can be halted either, which is told where it matters
    known = {each.name: each.plugin for each in teardowns}
    for group in documents.read(text, source="the declaration").groups:
        if group.name not in known:
            raise errors.Refused(
                f"the cluster declares a group that is not in it, {group.name}, which would be left without anybody",
                where="FILE",
                remedy=f"name a file that has all groups, or before: infrakit group destroy {group.name}",
            )
        if group.properties.instance.plugin != known[group.name]:
            raise errors.Refused(
                f"the cluster has {group.name} on {group.properties.instance.plugin}, not on {known[group.name]}",
                where="FILE",
                remedy="name the file that was committed (infrakit history)",
            )


async def _halt(replicas: Replicas, request: TeardownRequest, report: Callable[[str], object]) -> None:
    """Return when nobody inside acts any more. Raises `Refused` if that cannot be had."""
    try:
        await replicas.ask("halt", within_s=COMMIT_S, who=request.who, why=request.why)
    except (errors.Unreachable, errors.OutcomeUnknown, errors.NotLeader, TimeoutError) as error:
        why = str(error) or f"no answer within {COMMIT_S:g} s"
        _refuse_unless_unhalted(f"the cluster could not be halted: {why}", {}, request, report)
        return
    try:
        async with asyncio.timeout(HALT_S):
            await _until_still(replicas)
    except (errors.OutcomeUnknown, TimeoutError) as error:
        why = str(error) or f"its leader does not show that it stands still after {HALT_S:g} s"
        _refuse_unless_unhalted(
            f"the cluster is halted, which infrakit unhalt would lift, but {why}", {}, request, report
        )
        return
    report("halted: nobody inside acts any more")


async def _until_still(replicas: Replicas) -> None:
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
