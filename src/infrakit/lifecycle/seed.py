"""The seed: the machine that is created before any replica leads. This module selects it and builds its spec.

The same flavor prepares it from the same declaration as every later machine of its group, with two differences. A seed
is prepared as the only member of its group, because there is no other member to join. And its hash is the word
`bootstrap`, so that the first leader adopts it unchanged, and replaces the tag by the current hash.

There is no ledger yet whose name could be in its token. A name is generated instead, which the command that creates the
machine adopts for the cluster with its first commit.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import msgspec

from infrakit.gate.gate import CALL_DEADLINE_S, Gate
from infrakit.group import listing as listings
from infrakit.group.prepare import prepared
from infrakit.manager.declaration.validate import Plugins
from infrakit.spec import hash as hashes
from infrakit.spi import errors, values
from infrakit.spi.clock import Clock
from infrakit.spi.event import timestamp
from infrakit.spi.flavor import Attaches, Flavor, Quorum
from infrakit.spi.group import Group
from infrakit.spi.instance import Instance, Keeps
from infrakit.spi.token import cluster_of, is_seed_cluster, seed_cluster
from infrakit.spi.values import Allocation, Attachment, Description, InstanceSpec, LogicalID, State

LIST_DEADLINE_S = 60.0
STOPPING_S = 60.0  # timeout for a machine that is stopping to terminate
POLL_S = 0.3
_SHOWN_MAX = 20
TERMINATED = (State.TERMINATED, State.FINISHED)


class SeedChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Which node is the first one, where it is not the first that is declared."""

    logical_id: str = ""
    sequence: int = 0  # counted from 1; 0: any
    script: str = ""  # its boot script, if it was prepared before


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """The position of one machine in its group."""

    slot: str  # a pet's logical ID, or the ordinal of a member of cattle
    logical_id: LogicalID | None
    sequence: int  # counted from 1

    def __str__(self) -> str:
        return self.slot


def nodes(group: Group) -> tuple[Node, ...]:
    """Return all nodes of a group, in order."""
    allocation = group.properties.allocation
    if allocation.logical_ids is not None:
        return tuple(
            Node(slot=each, logical_id=each, sequence=number)
            for number, each in enumerate(allocation.logical_ids, start=1)
        )
    numbers = range(1, (allocation.size or 0) + 1)
    return tuple(Node(slot=str(number), logical_id=None, sequence=number) for number in numbers)


def node(group: Group, choice: SeedChoice) -> Node:
    """Return the chosen node; the first one by default. Raises `Refused` if there is no such node."""
    logical_id, sequence = choice.logical_id, choice.sequence
    known = nodes(group)
    for each in known:
        if logical_id in ("", each.logical_id) and sequence in (0, each.sequence):
            return each
    requested = [f"the logical ID {logical_id}"] * bool(logical_id) + [f"the number {sequence}"] * bool(sequence)
    names = ", ".join(map(str, known[:_SHOWN_MAX])) or "none"
    what = f"no node with {' and '.join(requested) or 'any number'}"
    raise errors.Refused(what, where=f"group {group.name}", remedy=f"its nodes: {names}")


async def store_group(
    groups: Sequence[Group], plugins: Plugins, name: str, *, only: bool = False
) -> tuple[Group, Flavor]:
    """The group that hosts the store: the one of that name, or the only quorum; with `only`, also the only group.

    Raises `Refused` if there is no such group, or the choice is ambiguous.
    """
    found: list[tuple[Group, Flavor]] = []
    for group in groups:
        flavor = await plugins.flavor(group.properties.flavor.plugin)
        if group.name == name or (only and not name and len(groups) == 1):
            return group, flavor
        if not name and isinstance(flavor, Quorum):
            properties = group.properties.flavor.properties
            if group.properties.allocation.logical_ids and await flavor.is_quorum(properties=properties):
                found.append((group, flavor))
    if len(found) == 1:
        return found[0]
    names = ", ".join(group.name for group in groups)
    what = f"there is no group {name!r}" if name else f"{len(found)} groups are a quorum"
    raise errors.Refused(what, where="the declaration", remedy=f"name the one with the store: --group, one of {names}")


def drawn_cluster() -> str:
    """Generate a name that distinguishes the machines created before there is a ledger from those of other clusters."""
    return seed_cluster(os.urandom(4).hex())


async def seed_of(
    group: Group, flavor: Flavor, node: Node, clock: Clock, *, script: str = "", cluster: str = ""
) -> InstanceSpec:
    """The spec of the first machine for its provider; `script`: its boot script, if it was prepared before.

    `cluster`: whose it is; empty: a new one's. Raises what the flavor raises.
    """
    cluster = cluster or drawn_cluster()
    spec = await _prepared(_as_only_member(group, node), flavor, node, clock, cluster, version=values.BOOTSTRAP)
    return msgspec.structs.replace(spec, init=script) if script else spec


class Provisioner:
    """Creates machines of one group."""

    def __init__(
        self,
        group: Group,
        flavor: Flavor,
        instance: Instance,
        *,
        gate: Gate,
        clock: Clock,
        report: Callable[[str], object],
    ) -> None:
        self.group = group
        self.nodes = nodes(group)
        self._flavor = flavor
        self._instance = instance
        self._gate = gate
        self._clock = clock
        self.report = report
        self.adopts = ""  # the cluster of machines that exist and that no ledger names; empty: none
        self._cluster = ""  # whose the next machines are

    async def machines(self) -> dict[str, Description]:
        """The existing machines, by a complete listing: by slot, or by ID if they have none.

        A machine that is stopping still holds its slot, so this waits for its termination; `Refused` on a timeout.
        """
        loop, properties = asyncio.get_running_loop(), self.group.properties
        until = loop.time() + STOPPING_S
        while True:
            async with _answering(LIST_DEADLINE_S, properties.instance.plugin):
                listed = await self._instance.describe_instances(tags={values.TAG_GROUP: self.group.name})
            listings.check(listed, provider=properties.instance.plugin)
            listed = listings.of_group(listed, self.group.name)
            stopping = [each.id for each in listed if each.state is State.STOPPING]
            if not stopping:
                return {_slot(each): each for each in listed if each.state not in TERMINATED}
            if loop.time() >= until:
                what = f"{', '.join(stopping)} is stopping, and has not terminated after {STOPPING_S:g} s"
                raise errors.Refused(
                    what, where=f"group {self.group.name}", remedy="destroy it, then repeat the command"
                )
            await asyncio.sleep(POLL_S)

    async def refuse_existing_data(self, first: Node) -> None:
        """Raise `Refused` if attachments of other members exist: they may contain the data of an earlier cluster.

        A first machine without data would found a second cluster beside them. Its own attachments may exist: with data,
        it rejoins as the former member; without, no other data is at risk. Also raises what the plugins raise.
        """
        attachments, plugin = await self._attachments_of_others(first), self.group.properties.instance.plugin
        if not attachments:
            return
        if not isinstance(self._instance, Keeps):
            self._report_unknown(f"the provider {plugin}")
            return
        async with _answering(LIST_DEADLINE_S, plugin):
            found = await self._instance.existing(attachments=attachments)
        if found:
            shown = ", ".join([each.id for each in found[:_SHOWN_MAX]] + ["..."] * (len(found) > _SHOWN_MAX))
            raise errors.Refused(
                f"no machines exist, but {shown} exist{'s' * (len(found) == 1)}, where other members store their data:"
                f" {first}, created as the first, might found a second cluster beside that",
                where=f"group {self.group.name}",
                remedy="recover the earlier cluster: infrakit bootstrap --recover; to start over and lose its data,"
                " delete them first",
            )

    async def _attachments_of_others(self, first: Node) -> list[Attachment]:
        """The attachments of every other declared logical ID, as far as the flavor reports them."""
        others = [each.logical_id for each in self.nodes if each.logical_id not in (None, first.logical_id)]
        if not others:
            return []
        properties = self.group.properties
        if not isinstance(self._flavor, Attaches):
            self._report_unknown(f"the flavor {properties.flavor.plugin}")
            return []
        async with _answering(CALL_DEADLINE_S, properties.flavor.plugin):
            attached = await self._flavor.attachments(
                properties=properties.flavor.properties,
                allocation=Allocation(logical_ids=properties.allocation.logical_ids),
            )
        return [each for other in others for each in attached.get(other, ())]

    def _report_unknown(self, plugin: str) -> None:
        self.report(
            f"{plugin} cannot list volumes of former members of {self.group.name}: if there was a cluster before,"
            " interrupt this and run: infrakit bootstrap --recover"
        )

    def exist(self, machines: Iterable[Description]) -> None:
        """Record the machines that exist: an earlier command, interrupted since, may have created the first."""
        clusters = {cluster for each in machines if is_seed_cluster(cluster := cluster_of(each.tags))}
        self.adopts = clusters.pop() if len(clusters) == 1 else ""

    async def create(self, node: Node, others: Iterable[Description] = ()) -> None:
        """Create one machine of a group that has others, as one of their cluster. The provider reports conflicts."""
        clusters = {cluster_of(each.tags) for each in others} - {""}
        self._cluster = clusters.pop() if len(clusters) == 1 else self._cluster or drawn_cluster()
        properties = self.group.properties
        version = hashes.of(properties.instance, properties.flavor)
        spec = await _prepared(self.group, self._flavor, node, self._clock, self._cluster, version=version)
        await self._create(node, spec, "")

    async def create_first(self, node: Node, *, script: str = "") -> None:
        """Create one machine as the only member of its group; the first leader adopts it."""
        self._cluster = drawn_cluster()
        spec = await seed_of(self.group, self._flavor, node, self._clock, script=script, cluster=self._cluster)
        await self._create(node, spec, ", the first of its group")

    async def _create(self, node: Node, spec: InstanceSpec, how: str) -> None:
        try:
            created = await self._gate.provision(self._instance, spec=spec, begin=lambda: None)
        except TimeoutError:
            raise errors.OutcomeUnknown(
                f"no answer to the creation of {node} within {CALL_DEADLINE_S:g} s",
                where=f"plugin {self.group.properties.instance.plugin}",
                remedy="it may exist: repeat the command, which lists machines first",
            ) from None
        self.adopts = self._cluster if is_seed_cluster(self._cluster) else ""
        self.report(f"{node}: {created} is created{how}")


@contextlib.asynccontextmanager
async def _answering(limit_s: float, plugin: str) -> AsyncIterator[None]:
    """A timeout around a read-only call. Raises `Unreachable` when it expires."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise errors.Unreachable(f"no answer within {limit_s:g} s", where=f"plugin {plugin}") from None


async def _prepared(
    group: Group, flavor: Flavor, node: Node, clock: Clock, cluster: str, *, version: str
) -> InstanceSpec:
    return await prepared(
        group,
        flavor,
        slot=node.slot,
        logical_id=node.logical_id,
        sequence=node.sequence,
        version=version,
        token=f"{cluster}/{group.name}/{node.slot}/{os.urandom(4).hex()}",
        created=timestamp(clock.now()),
    )


def _as_only_member(group: Group, node: Node) -> Group:
    if node.logical_id is None:
        return group
    properties = group.properties
    allocation = msgspec.structs.replace(properties.allocation, logical_ids=(node.logical_id,))
    return msgspec.structs.replace(group, properties=msgspec.structs.replace(properties, allocation=allocation))


def _slot(machine: Description) -> str:
    tags = machine.tags or {}
    named = machine.logical_id or tags.get(values.TAG_LOGICAL_ID) or tags.get(values.TAG_SLOT)
    return named or machine.id
