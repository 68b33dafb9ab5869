"""What the Swarm's list needs: newcomers made managers, those that were lost taken off, and strangers told of.

Pure: from the list, the instances that there are, and how long a node has been without one. Of all changes at most one
is due, because the next must be judged by a list that shows what this one has done. So every change of the quorum is
made by who leads, one after the other, and only while it is sure that the others can bear it.

A node is ours if its Engine bears the name of the group. It is gone if no instance is linked to it; an address whose
instance is gone may come back with its volume, and then it is the same node. So a manager of a declared address is
given up only when its successor has joined the Swarm as somebody else: its data was lost.
"""

import collections
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from infrakit.clients.swarm_values import Node
from infrakit.flavors.swarm import health, link, quorum
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.values import TAG_GROUP, TAG_LOGICAL_ID, Description, InstanceID, State

PROMOTE, DEMOTE, REMOVE, ACTIVATE = "promote", "demote", "remove", "activate"

# A label of the node, kept by the Swarm: it was drained because its instance was about to go.
DRAINED = "infrakit.drained"

_LEAVING = (State.STOPPING, State.FINISHED, State.TERMINATED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """One look at everything."""

    group: str
    manager: bool  # which of the two flavors
    declared: frozenset[str]  # logical IDs
    nodes: Sequence[Node]
    instances: Sequence[Description]
    leaving: AbstractSet[InstanceID] = frozenset()  # whose work is being moved away now
    odd_for_s: Mapping[str, float] = dataclasses.field(default_factory=dict)  # by node: for how long `odd` has told it
    remove_after_s: float

    def instance(self, node: Node) -> Description | None:
        """What this node is, if it is there; of several nodes of one link, the one that lives."""
        return self._instances.get(node.id)

    @functools.cached_property
    def _instances(self) -> Mapping[str, Description]:
        linked = health.by_link(self.nodes)
        return {node.id: each for each in self.instances for node in linked.get(link.of(each), ())}

    @functools.cached_property
    def ours(self) -> list[Node]:
        """Nodes of this group."""
        return [each for each in self.nodes if each.engine_labels.get(TAG_GROUP) == self.group]

    def lasts(self, node: Node) -> bool:
        """Whether it has been odd for long enough to act on it."""
        return self.odd_for_s.get(node.id, 0.0) >= self.remove_after_s


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """A change of one node, and what it waits for."""

    act: str
    node: Node
    what: str
    waits: str = ""
    instance: InstanceID | None = None

    @property
    def id(self) -> str:
        return f"{self.act}/{self.node.id}"


def odd(seen: Seen) -> set[str]:
    """Nodes of ours that should not stay as they are: without an instance, or drained while their instance stays."""
    return {
        each.id
        for each in seen.ours
        if (instance := seen.instance(each)) is None or (DRAINED in each.labels and instance.id not in seen.leaving)
    }


def needs(seen: Seen) -> list[Need]:
    """Changes of nodes, the most urgent first."""
    return [*_lost(seen), *_newcomers(seen), *_ghosts(seen), *_drained(seen)]


def told(seen: Seen) -> list[MembershipChange]:
    """Everything, as it is told: the first change that waits for nothing is due."""
    under_way = list(_under_way(seen))
    changes, due = list(under_way), False
    for each in needs(seen):
        waits = each.waits or ("first: " + under_way[0].what if under_way else "")
        is_due = not waits and not due
        due = due or is_due
        what = f"{each.what}; {waits}" if waits else each.what
        changes.append(MembershipChange(id=each.id, what=what, due=is_due, instance=each.instance))
    return [*changes, *_strangers(seen), *_advice(seen)]


def _under_way(seen: Seen) -> Iterator[MembershipChange]:
    """Changes of the quorum that the Swarm has not finished: until then, no other is begun."""
    for each in seen.nodes if seen.manager else ():
        if each.role == "manager" and each.manager is None and each.state == "ready":
            what = f"{_named(each)} joins the managers"
        elif each.role == "worker" and each.manager is not None:
            what = f"{_named(each)} leaves the managers"
        else:
            continue
        yield MembershipChange(id=f"await/{each.id}", what=what, due=False)


def _lost(seen: Seen) -> Iterator[Need]:
    """Managers whose data is lost: another node has their address."""
    if not seen.manager:
        return
    arrived = {
        each.engine_labels.get(TAG_LOGICAL_ID): each
        for each in seen.ours
        if each.state == "ready" and seen.instance(each) is not None
    }
    for each in seen.ours:
        name = each.engine_labels.get(TAG_LOGICAL_ID)
        if name not in seen.declared or name not in arrived or seen.instance(each) is not None or each.state != "down":
            continue
        why = f"{name} has come back without its data, as the node {arrived[name].id}"
        yield _taken_off(seen, each, why)


def _newcomers(seen: Seen) -> Iterator[Need]:
    if not seen.manager:
        return
    for each in seen.ours:
        name, instance = each.engine_labels.get(TAG_LOGICAL_ID, ""), seen.instance(each)
        if each.role == "manager" or each.manager is not None or each.state != "ready" or name not in seen.declared:
            continue
        if instance is None or instance.state in _LEAVING:
            continue
        what = f"the node {each.id} at {name} is to be made a manager"
        yield Need(act=PROMOTE, node=each, what=what, waits=_hinders(seen, each), instance=instance.id or None)


def _hinders(seen: Seen, newcomer: Node) -> str:
    """What keeps a newcomer from the managers: whoever is added weighs on the quorum as those do that are silent."""
    name = newcomer.engine_labels.get(TAG_LOGICAL_ID)
    voters = quorum.members(seen.nodes)
    ours = (each for each in voters if each.engine_labels.get(TAG_GROUP) == seen.group)
    if any(each.engine_labels.get(TAG_LOGICAL_ID) == name for each in ours):
        return "first its predecessor has to be taken off the managers"
    if silent := [_named(each) for each in voters if not quorum.is_able(each)]:
        return f"it waits until every manager is reachable, and {', '.join(silent)} is not"
    return ""


def _ghosts(seen: Seen) -> Iterator[Need]:
    """Nodes that are dead for good: their instance is gone, and no other will have their data."""
    for each in seen.ours:
        name = each.engine_labels.get(TAG_LOGICAL_ID)
        comes_back = seen.manager and name in seen.declared
        if comes_back or each.state != "down" or seen.instance(each) is not None or not seen.lasts(each):
            continue
        yield _taken_off(seen, each, f"it is down, and its instance is gone since {seen.remove_after_s:g} s or more")


def _taken_off(seen: Seen, node: Node, why: str) -> Need:
    """One step of two: a manager is demoted before it is removed. The Swarm demotes nobody without a vote."""
    if node.role != "manager" or node.manager is None:
        waits = "it waits until the others have let it go" if node.manager is not None else ""
        return Need(act=REMOVE, node=node, what=f"the node {node.id} is to be removed: {why}", waits=waits)
    waits = ""
    if not (rest := quorum.removed(seen.nodes, node)).is_enough:
        waits = f"it waits: without it, {rest}"
    if not seen.manager:
        waits = "somebody has made it a manager: docker node demote"
    return Need(act=DEMOTE, node=node, what=f"the node {node.id} is to leave the managers: {why}", waits=waits)


def _drained(seen: Seen) -> Iterator[Need]:
    """A drain whose destruction was given up."""
    for each in seen.ours:
        instance = seen.instance(each)
        if instance is None or instance.state in _LEAVING or instance.id in seen.leaving:
            continue
        if DRAINED in each.labels and seen.lasts(each):
            what = f"the node {each.id} is to take work again: it was drained, and its instance has stayed"
            yield Need(act=ACTIVATE, node=each, what=what, instance=instance.id)


def _strangers(seen: Seen) -> Iterator[MembershipChange]:
    """What a person has to decide."""
    for each in seen.ours:
        if seen.instance(each) is None and each.state == "ready" and seen.lasts(each):
            what = f"the node {each.id} at {each.addr} works, and its provider lists no instance for it"
            yield _person(f"unknown/{each.id}", f"{what}: find out what it is, or: docker node rm --force {each.id}")
    links = collections.Counter(each.engine_labels.get(link.LINK) for each in seen.ours if each.state == "ready")
    for own in sorted(each for each, count in links.items() if each and count > 1):
        named = ", ".join(each.id for each in seen.ours if each.engine_labels.get(link.LINK) == own)
        yield _person(f"duplicate/{own}", f"several nodes say that they are the same instance: {named}")
    for each in seen.nodes if seen.manager else ():
        if each.manager is None and each.role != "manager":
            continue
        group = each.engine_labels.get(TAG_GROUP)
        if group != seen.group:
            whose = f"one of the group {group}" if group else "of no group"
            what = f"the manager {_named(each)} is {whose}, and has a vote"
            yield _person(f"stranger/{each.id}", f"{what}: if it should not, docker node demote {each.id}")


def _advice(seen: Seen) -> Iterator[MembershipChange]:
    count = len(seen.declared)
    if seen.manager and count and count % 2 == 0:
        lost = (count - 1) // 2
        what = f"{count} managers bear the loss of {lost}, as {count - 1} do: declare an odd number"
        yield _person("advice/even", what)


def _person(id_: str, what: str) -> MembershipChange:
    return MembershipChange(id=id_, what=what, due=False)


def _named(node: Node) -> str:
    name = node.engine_labels.get(TAG_LOGICAL_ID) or node.hostname
    return f"{node.id} ({name})" if name else node.id
