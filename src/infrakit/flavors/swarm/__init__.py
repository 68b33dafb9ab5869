"""The flavors `swarm/manager` and `swarm/worker`: the nodes of a Docker Swarm, which has a node list of its own.

properties  what can be declared
link        identifies the node of an instance
boot        the script that brings an Engine into the Swarm: boot.sh.j2, or another template
nodes       the node list of the Swarm, cached
health      the verdict on one instance, from the node list
quorum      how many managers have to be available
membership  reconciles the node list: promotes managers, removes lost and stale nodes
leaving     drains and removes nodes, and checks the quorum first

Every node joins as a worker. So no boot script contains more than the join token for workers, and the leader makes all
changes of the quorum, one at a time, as changes of the membership.
"""

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import msgspec

from infrakit.clients.swarm_values import Node
from infrakit.ensemble import parts
from infrakit.ensemble.members import PLACEHOLDER, host
from infrakit.flavors.swarm import boot, health, leaving, link, membership, quorum
from infrakit.flavors.swarm import nodes as lists
from infrakit.flavors.swarm import properties as declared_
from infrakit.flavors.swarm.boot import SwarmView
from infrakit.flavors.swarm.membership import Need, Observation
from infrakit.flavors.swarm.nodes import NodeList
from infrakit.flavors.swarm.properties import Manager, Properties, Worker, decode
from infrakit.spi import errors
from infrakit.spi.flavor import MemberParts, MembershipChange, Voter
from infrakit.spi.group import seconds
from infrakit.spi.metadata import Snapshots
from infrakit.spi.values import (
    TAG_GROUP,
    Allocation,
    Attachment,
    Description,
    GroupID,
    HealthReport,
    Index,
    InstanceID,
    InstanceSpec,
    LogicalID,
)
from infrakit.template.boot import BootScripts, Instance
from infrakit.template.boot import examples as examples_of
from infrakit.template.engine import Engine

POLICIES = ("RemoveAfter", "Replica")  # properties that only the leader uses


class _SwarmFlavor:
    """The common part of both flavors. Satisfies `Flavor`, `JudgesMany`, `Members` and `MadeFrom` of the contract."""

    extra: ClassVar = "docker"
    _type: ClassVar[type[Properties]]

    def __init__(self, facts: Snapshots | None = None, engine: Engine | None = None) -> None:
        self._scripts = BootScripts(facts, engine)
        self._lists: set[str] = set()
        # When a node was first observed inconsistent with the instances: by group, then by node ID.
        self._inconsistent_since: dict[GroupID, dict[str, float]] = {}
        self._leaving: set[InstanceID] = set()

    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None:
        declared = decode(properties, self._type)
        found = list(declared_.problems(declared, allocation))
        complete = functools.partial(boot.completed, declared, scripts=self._scripts, known=boot.EXAMPLE)
        if not found:
            examples = [complete(each) for each in examples_of(properties, allocation)]
            found += await self._scripts.problems({boot.script(declared): examples})
        if found:
            raise errors.InvalidSpec(found)

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        """Add the boot script, the tags of the link, and the volume of a manager.

        Raises what rendering raises, and what the client of the Swarm raises: it never guesses the node list.
        """
        declared = decode(properties, self._type)
        known = await self._known(declared, spec, allocation, index)
        plain = Instance(properties=properties, spec=spec, allocation=allocation, index=index)
        instance = boot.completed(declared, plain, self._scripts, known=known)
        (script,) = await self._scripts.render([boot.script(declared)], instance)
        return msgspec.structs.replace(instance.spec, init=script)

    async def _known(self, declared: Properties, spec: InstanceSpec, allocation: Allocation, index: Index) -> SwarmView:
        raise NotImplementedError

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        return (await self.healthy_all(properties=properties, instances=[instance]))[instance.id]

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        """Derive all verdicts from one node list; if it cannot be read, all are unknown."""
        nodes = self._list(decode(properties, self._type))
        try:
            listed = await nodes.recent()
        except errors.InfraKitError as error:
            report = health.unknown(f"the node list of the Swarm cannot be read: {error.what}")
            return dict.fromkeys((each.id for each in instances), report)
        linked, manager = health.by_link(listed), self._type is Manager
        return {each.id: health.verdict(each, linked, manager=manager) for each in instances}

    def made_from(self, *, properties: msgspec.Raw) -> MemberParts:
        return parts.without(properties, POLICIES, script=boot.script(decode(properties, self._type)))

    # -- the node list ---------------------------------------------------------------------------------------------

    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        """Return the changes that the node list needs; none for a group without instances, whose name is unknown."""
        declared = decode(properties, self._type)
        group = _group(instances)
        if group is None:
            return ()
        nodes = await self._list(declared).recent()
        return membership.reported_changes(self._observe(declared, group, instances, allocation, nodes))

    async def change_membership(
        self,
        *,
        properties: msgspec.Raw,
        change: MembershipChange,
        instances: Sequence[Description],
        allocation: Allocation,
    ) -> None:
        declared = decode(properties, self._type)
        nodes, group = self._list(declared), _group(instances)
        if group is None:
            raise errors.Refused("its group has no instances", where=change.id)
        observed = self._observe(declared, group, instances, allocation, await nodes.now())
        need = next((each for each in membership.needs(observed) if each.id == change.id), None)
        if need is None:
            return
        if not any(each.id == change.id and each.due for each in membership.reported_changes(observed)):
            raise errors.Refused(f"{need.what}; {need.blocked or 'another change comes first'}", where="swarm")
        try:
            await _apply(nodes, need)
        finally:
            nodes.invalidate()

    def _observe(
        self,
        declared: Properties,
        group: GroupID,
        instances: Sequence[Description],
        allocation: Allocation,
        nodes: Sequence[Node],
    ) -> Observation:
        """Combine the node list and the instances, with the time for which each node has been inconsistent."""
        now = asyncio.get_running_loop().time()
        observed = Observation(
            group=group,
            manager=self._type is Manager,
            declared=frozenset(allocation.logical_ids or ()),
            nodes=nodes,
            instances=instances,
            leaving=self._leaving,
            remove_after_s=seconds(declared.remove_after),
        )
        known = self._inconsistent_since.get(group, {})
        inconsistent = membership.inconsistent(observed)
        since = self._inconsistent_since[group] = {each: known.get(each, now) for each in inconsistent}
        return dataclasses.replace(observed, inconsistent_for_s={each: now - at for each, at in since.items()})

    async def close(self) -> None:
        """Close all connections. The object may be used again afterwards."""
        self._scripts.close()
        while self._lists:
            await lists.shared(self._lists.pop()).close()

    @contextlib.contextmanager
    def _draining(self, instance: Description) -> Iterator[None]:
        """Keep `membership` from reactivating the node of this instance while it is drained."""
        self._leaving.add(instance.id)
        try:
            yield
        finally:
            self._leaving.discard(instance.id)

    def _list(self, declared: Properties) -> NodeList:
        self._lists.add(declared.docker.host)
        return lists.shared(declared.docker.host)


class SwarmManager(_SwarmFlavor):
    """Managers, as pets with fixed addresses. It also satisfies `Quorum`, `Voters`, `Attaches`, `Releases`, `Hosts`."""

    _type = Manager

    async def _known(self, declared: Properties, spec: InstanceSpec, allocation: Allocation, index: Index) -> SwarmView:
        if spec.logical_id is None:
            raise errors.Refused("a manager needs a logical ID", where="swarm", remedy="declare LogicalIDs")
        if boot.is_first(spec, allocation):
            return SwarmView(found=True)
        nodes = self._list(declared)
        if not boot.is_from_outside(spec):  # the leader prepares it, on a node of the Swarm that it is to join
            return await self._joined(nodes)
        try:  # the Engine of the calling process may belong to no Swarm, or to another one
            is_ours = any(_is_of(each, index.group, allocation.logical_ids or ()) for each in await nodes.now())
            return await self._joined(nodes) if is_ours else SwarmView()
        except (errors.Unreachable, errors.Refused):
            return SwarmView()

    async def _joined(self, nodes: NodeList) -> SwarmView:
        """Return the Swarm that this Engine belongs to."""
        if (await nodes.swarm.info()).state == "inactive":
            return SwarmView()
        return boot.known(await nodes.swarm.cluster(), await nodes.now())

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        """Do nothing: a manager that returns keeps its role, and `release` has removed any other already."""

    async def release(self, *, properties: msgspec.Raw, instance: Description, allocation: Allocation) -> None:
        """Permit the absence of a manager that is declared and will return; remove any other from the Swarm.

        Raises `Refused` if the others would have no quorum.
        """
        nodes = self._list(decode(properties, self._type))
        if link.logical_id(instance) in (allocation.logical_ids or ()):
            await leaving.permit_absence(nodes, instance)
        else:
            with self._draining(instance):
                await leaving.remove(nodes, instance)

    async def voters(
        self,
        *,
        properties: msgspec.Raw,
        instances: Sequence[Description],
        allocation: Allocation,  # noqa: ARG002
    ) -> Sequence[Voter]:
        """Return all managers of the node list, of any group. Raises what the client of the Swarm raises."""
        return quorum.voters(await self._list(decode(properties, self._type)).recent(), instances)

    async def is_quorum(self, *, properties: msgspec.Raw) -> bool:  # noqa: ARG002
        return True

    async def attachments(
        self, *, properties: msgspec.Raw, allocation: Allocation
    ) -> Mapping[LogicalID, tuple[Attachment, ...]]:
        declared = decode(properties, self._type)
        return {each: declared.attachments(each) for each in allocation.logical_ids or ()}

    async def replicas(self, *, properties: msgspec.Raw, allocation: Allocation) -> Sequence[str]:
        """Return the addresses of the InfraKit replicas that `Run` starts."""
        address = decode(properties, Manager).replica
        if not address:
            return ()
        plain = address.startswith("unix:")
        return [address.replace(PLACEHOLDER, each if plain else host(each)) for each in allocation.logical_ids or ()]


class SwarmWorker(_SwarmFlavor):
    """Workers, as cattle or as pets. It also satisfies `Releases`."""

    _type = Worker

    async def _known(
        self,
        declared: Properties,
        spec: InstanceSpec,  # noqa: ARG002
        allocation: Allocation,  # noqa: ARG002
        index: Index,  # noqa: ARG002
    ) -> SwarmView:
        nodes = self._list(declared)
        return boot.known(await nodes.swarm.cluster(), await nodes.recent())

    async def release(self, *, properties: msgspec.Raw, instance: Description, allocation: Allocation) -> None:  # noqa: ARG002
        """Raise `Refused` for a worker that was promoted to manager outside InfraKit."""
        await leaving.refuse_voter(self._list(decode(properties, self._type)), instance)

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        """Move its tasks to other nodes, then remove it from the node list."""
        with self._draining(instance):
            await leaving.drain_and_remove(self._list(decode(properties, self._type)), instance)


async def _apply(nodes: NodeList, need: Need) -> None:
    """Make one change in one call, which the Swarm rejects if the node has changed since it was observed."""
    swarm, node = nodes.swarm, need.node
    if need.act == membership.PROMOTE:
        await swarm.update_node(node.id, node.version, role="manager")
    elif need.act == membership.DEMOTE:
        await swarm.update_node(node.id, node.version, role="worker")
    elif need.act == membership.ACTIVATE:
        labels = {name: value for name, value in node.labels.items() if name != membership.DRAINED}
        await swarm.update_node(node.id, node.version, availability="active", labels=labels)
    else:
        await swarm.remove_node(node.id)  # rejected, unless it is down and has no vote


def _group(instances: Sequence[Description]) -> GroupID | None:
    return next((GroupID(name) for each in instances if (name := (each.tags or {}).get(TAG_GROUP))), None)


def _is_of(node: Node, group: str, logical_ids: Iterable[str]) -> bool:
    """Whether the node is a manager of this group, by its label or its address."""
    if node.manager is None:
        return False
    addresses = {f"{host(each)}:{declared_.PORT}" for each in logical_ids}
    return node.engine_labels.get(TAG_GROUP) == group or node.manager.addr in addresses
