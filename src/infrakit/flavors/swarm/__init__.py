"""The flavors `swarm/manager` and `swarm/worker`: the nodes of a Docker Swarm, which keeps the list of them.

properties  what can be declared
link        which node an instance has become
boot        the script that brings an Engine into the Swarm: boot.sh.j2, or another template
nodes       the Swarm's list, read once for all
health      what the list says of one instance
quorum      how many managers it takes
membership  what the list needs: managers to be made, the lost and the dead to be removed
leaving     how a node goes, and who may

Every node joins as a worker: so no boot script holds more than the token for workers, and every change of the quorum is
made by who leads, one at a time, as a change of membership.
"""

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import msgspec

from infrakit.clients.swarm_values import Node
from infrakit.flavors.swarm import boot, health, leaving, link, membership
from infrakit.flavors.swarm import nodes as lists
from infrakit.flavors.swarm import properties as declared_
from infrakit.flavors.swarm.boot import Known
from infrakit.flavors.swarm.membership import Need, Seen
from infrakit.flavors.swarm.nodes import NodeList
from infrakit.flavors.swarm.properties import PLACE, Manager, Properties, Worker, decode, host
from infrakit.spi import errors
from infrakit.spi.flavor import MembershipChange
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


class _Nodes:
    """What both flavors do alike. Satisfies `Flavor`, `JudgesMany` and `Members` of the contract."""

    extra: ClassVar = "docker"
    _type: ClassVar[type[Properties]]

    def __init__(self, facts: Snapshots | None = None, engine: Engine | None = None) -> None:
        self._scripts = BootScripts(facts, engine)
        self._lists: set[str] = set()
        # When a node of a group was first seen as it should not stay: by group, then by node.
        self._odd_since: dict[GroupID, dict[str, float]] = {}
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
        """The boot script, the tags of the link, and the volume of a manager.

        Raises what rendering raises, and what the client of the Swarm raises: nothing is prepared by guess.
        """
        declared = decode(properties, self._type)
        known = await self._known(declared, spec, allocation, index)
        plain = Instance(properties=properties, spec=spec, allocation=allocation, index=index)
        instance = boot.completed(declared, plain, self._scripts, known=known)
        (script,) = await self._scripts.render([boot.script(declared)], instance)
        return msgspec.structs.replace(instance.spec, init=script)

    async def _known(self, declared: Properties, spec: InstanceSpec, allocation: Allocation, index: Index) -> Known:
        raise NotImplementedError

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        return (await self.healthy_all(properties=properties, instances=[instance]))[instance.id]

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        """One list for all; while it cannot be had, all are unknown."""
        nodes = self._list(decode(properties, self._type))
        try:
            listed = await nodes.recent()
        except errors.InfraKitError as error:
            report = health.unknown(f"the Swarm does not tell: {error.what}")
            return dict.fromkeys((each.id for each in instances), report)
        linked, manager = health.by_link(listed), self._type is Manager
        return {each.id: health.verdict(each, linked, manager=manager) for each in instances}

    # -- the list of nodes -----------------------------------------------------------------------------------------

    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        """What the list needs. A group that has no instance at all is not known by name, and nothing is done for it."""
        declared = decode(properties, self._type)
        group = _group(instances)
        if group is None:
            return ()
        return membership.told(self._seen(declared, group, instances, allocation, await self._list(declared).recent()))

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
        seen = self._seen(declared, group, instances, allocation, await nodes.now())
        need = next((each for each in membership.needs(seen) if each.id == change.id), None)
        if need is None:
            return
        if not any(each.id == change.id and each.due for each in membership.told(seen)):
            raise errors.Refused(f"{need.what}; {need.waits or 'another change comes first'}", where="swarm")
        try:
            await _make(nodes, need)
        finally:
            nodes.forget()

    def _seen(
        self,
        declared: Properties,
        group: GroupID,
        instances: Sequence[Description],
        allocation: Allocation,
        nodes: Sequence[Node],
    ) -> Seen:
        """With the time that odd nodes have been so."""
        now = asyncio.get_running_loop().time()
        seen = Seen(
            group=group,
            manager=self._type is Manager,
            declared=frozenset(allocation.logical_ids or ()),
            nodes=nodes,
            instances=instances,
            leaving=self._leaving,
            remove_after_s=seconds(declared.remove_after),
        )
        known = self._odd_since.get(group, {})
        since = self._odd_since[group] = {each: known.get(each, now) for each in membership.odd(seen)}
        return dataclasses.replace(seen, odd_for_s={each: now - at for each, at in since.items()})

    async def close(self) -> None:
        """Let go of connections. The object may be used again afterwards."""
        self._scripts.close()
        while self._lists:
            await lists.shared(self._lists.pop()).close()

    @contextlib.contextmanager
    def _leaves(self, instance: Description) -> Iterator[None]:
        """While its work is moved away, nobody gives it work again."""
        self._leaving.add(instance.id)
        try:
            yield
        finally:
            self._leaving.discard(instance.id)

    def _list(self, declared: Properties) -> NodeList:
        self._lists.add(declared.docker.host)
        return lists.shared(declared.docker.host)


class SwarmManager(_Nodes):
    """Managers, as pets with fixed addresses. Besides, it satisfies `Quorum`, `Attaches`, `Releases` and `Hosts`."""

    _type = Manager

    async def _known(self, declared: Properties, spec: InstanceSpec, allocation: Allocation, index: Index) -> Known:
        if spec.logical_id is None:
            raise errors.Refused("a manager needs a logical ID", where="swarm", remedy="declare LogicalIDs")
        if boot.is_first(spec, allocation):
            return Known(found=True)
        nodes = self._list(declared)
        if not boot.is_from_outside(spec):  # who leads is asked, and leads a node of the Swarm that is meant
            return await self._joined(nodes)
        try:  # the Engine of whoever makes it may be of no Swarm, or of quite another one
            is_ours = any(_is_of(each, index.group, allocation.logical_ids or ()) for each in await nodes.now())
            return await self._joined(nodes) if is_ours else Known()
        except (errors.Unreachable, errors.Refused):
            return Known()

    async def _joined(self, nodes: NodeList) -> Known:
        """The Swarm of this Engine."""
        if (await nodes.swarm.info()).state == "inactive":
            return Known()
        return boot.known(await nodes.swarm.cluster(), await nodes.now())

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        """Nothing: one that returns stays what it is, and one that goes for good is no manager any more by then."""

    async def release(self, *, properties: msgspec.Raw, instance: Description, allocation: Allocation) -> None:
        """Let a manager go: for a while if it is declared, and else for ever, off the list.

        Raises `Refused` when the quorum cannot bear it.
        """
        nodes = self._list(decode(properties, self._type))
        if link.logical_id(instance) in (allocation.logical_ids or ()):
            await leaving.spare(nodes, instance)
        else:
            with self._leaves(instance):
                await leaving.take_off(nodes, instance)

    async def is_quorum(self, *, properties: msgspec.Raw) -> bool:  # noqa: ARG002
        return True

    async def attachments(
        self, *, properties: msgspec.Raw, allocation: Allocation
    ) -> Mapping[LogicalID, tuple[Attachment, ...]]:
        declared = decode(properties, self._type)
        return {each: declared.attachments(each) for each in allocation.logical_ids or ()}

    async def replicas(self, *, properties: msgspec.Raw, allocation: Allocation) -> Sequence[str]:
        """Where the replicas of InfraKit answer that `Run` starts."""
        address = decode(properties, Manager).replica
        if not address:
            return ()
        plain = address.startswith("unix:")
        return [address.replace(PLACE, each if plain else host(each)) for each in allocation.logical_ids or ()]


class SwarmWorker(_Nodes):
    """Workers, as cattle or as pets. Besides, it satisfies `Releases`."""

    _type = Worker

    async def _known(
        self,
        declared: Properties,
        spec: InstanceSpec,  # noqa: ARG002
        allocation: Allocation,  # noqa: ARG002
        index: Index,  # noqa: ARG002
    ) -> Known:
        nodes = self._list(declared)
        return boot.known(await nodes.swarm.cluster(), await nodes.recent())

    async def release(self, *, properties: msgspec.Raw, instance: Description, allocation: Allocation) -> None:  # noqa: ARG002
        """Raises `Refused` for one that somebody has made a manager."""
        await leaving.refuse_voter(self._list(decode(properties, self._type)), instance)

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        """Its tasks move to other nodes; then it is taken off the list."""
        with self._leaves(instance):
            await leaving.empty(self._list(decode(properties, self._type)), instance)


async def _make(nodes: NodeList, need: Need) -> None:
    """One call, which is refused if the node has changed since it was looked at."""
    swarm, node = nodes.swarm, need.node
    if need.act == membership.PROMOTE:
        await swarm.update_node(node.id, node.version, role="manager")
    elif need.act == membership.DEMOTE:
        await swarm.update_node(node.id, node.version, role="worker")
    elif need.act == membership.ACTIVATE:
        labels = {name: value for name, value in node.labels.items() if name != membership.DRAINED}
        await swarm.update_node(node.id, node.version, availability="active", labels=labels)
    else:
        await swarm.remove_node(node.id)  # refused, unless it is down and has no vote


def _group(instances: Sequence[Description]) -> GroupID | None:
    return next((GroupID(name) for each in instances if (name := (each.tags or {}).get(TAG_GROUP))), None)


def _is_of(node: Node, group: str, logical_ids: Iterable[str]) -> bool:
    """Whether it is a manager of this group, or at an address of it."""
    if node.manager is None:
        return False
    addresses = {f"{host(each)}:{declared_.PORT}" for each in logical_ids}
    return node.engine_labels.get(TAG_GROUP) == group or node.manager.addr in addresses
