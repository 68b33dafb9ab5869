"""Reconciles the node list of the Swarm: promotes new managers, removes lost nodes, and reports unmanaged ones.

Everything here is pure: it derives changes from the node list, the instances, and the time for which a node has been
inconsistent with them. At most one change is due at a time, because the next must be based on a node list that shows
the effect of this one. So the leader alone changes the quorum, one node at a time, and only while the other managers
keep the quorum.

A node belongs to the group if its Engine has the label of the group. It is stale if no instance is linked to it. The
instance at a declared address may return with its volume, as the same node; so a manager at such an address is removed
only when the address has rejoined the Swarm as another node, which shows that its data was lost.
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
from infrakit.spi.quorum import can_lose
from infrakit.spi.values import TAG_GROUP, TAG_LOGICAL_ID, Description, InstanceID, State

PROMOTE, DEMOTE, REMOVE, ACTIVATE = "promote", "demote", "remove", "activate"

# A label of the node, stored by the Swarm: InfraKit drained it before the destruction of its instance.
DRAINED = "infrakit.drained"

_LEAVING = (State.STOPPING, State.FINISHED, State.TERMINATED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
    """The node list and the instances at one point in time."""

    group: str
    manager: bool  # the flavor: swarm/manager, or swarm/worker
    declared: frozenset[str]  # logical IDs
    nodes: Sequence[Node]
    instances: Sequence[Description]
    leaving: AbstractSet[InstanceID] = frozenset()  # instances that are being drained now
    # By node ID: for how long `inconsistent` has returned it.
    inconsistent_for_s: Mapping[str, float] = dataclasses.field(default_factory=dict)
    remove_after_s: float

    def instance(self, node: Node) -> Description | None:
        """Return the instance of this node, if there is one. For several nodes with one link see `health.by_link`."""
        return self._instances.get(node.id)

    @functools.cached_property
    def _instances(self) -> Mapping[str, Description]:
        linked = health.by_link(self.nodes)
        return {node.id: each for each in self.instances for node in linked.get(link.of(each), ())}

    @functools.cached_property
    def ours(self) -> list[Node]:
        """The nodes of this group."""
        return [each for each in self.nodes if each.engine_labels.get(TAG_GROUP) == self.group]

    def is_overdue(self, node: Node) -> bool:
        """Whether the node has been inconsistent for `RemoveAfter`, long enough to act on it."""
        return self.inconsistent_for_s.get(node.id, 0.0) >= self.remove_after_s


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """A change of one node, and what blocks it."""

    act: str
    node: Node
    what: str
    blocked: str = ""  # the reason; empty: not blocked
    instance: InstanceID | None = None

    @property
    def id(self) -> str:
        return f"{self.act}/{self.node.id}"


def inconsistent(observed: Observation) -> set[str]:
    """Return the IDs of the group's nodes that do not match the instances: without one, or drained although kept."""
    return {
        each.id
        for each in observed.ours
        if (instance := observed.instance(each)) is None
        or (DRAINED in each.labels and instance.id not in observed.leaving)
    }


def needs(observed: Observation) -> list[Need]:
    """Return all changes of nodes, the most urgent first, including blocked ones."""
    return [*_lost(observed), *_promotions(observed), *_stale(observed), *_reactivations(observed)]


def reported_changes(observed: Observation) -> list[MembershipChange]:
    """Return the changes and notices that the flavor reports. Only the first change that is not blocked is due."""
    in_progress = list(_in_progress(observed))
    changes, due = list(in_progress), False
    for each in needs(observed):
        blocked = each.blocked or (in_progress[0].what if in_progress else "")
        is_due = not blocked and not due
        due = due or is_due
        what = f"{each.what}; {blocked}" if blocked else each.what
        changes.append(MembershipChange(id=each.id, what=what, due=is_due, instance=each.instance))
    return [*changes, *_unmanaged(observed), *_advice(observed)]


def _in_progress(observed: Observation) -> Iterator[MembershipChange]:
    """Yield changes of the quorum that the Swarm has not completed; until then, no other change starts."""
    for each in observed.nodes if observed.manager else ():
        if each.role == "manager" and each.manager is None and each.state == "ready":
            what = f"the promotion of {_named(each)} is complete"
        elif each.role == "worker" and each.manager is not None:
            what = f"the demotion of {_named(each)} is complete"
        else:
            continue
        yield MembershipChange(id=f"await/{each.id}", what=f"waiting until {what}", due=False)


def _lost(observed: Observation) -> Iterator[Need]:
    """Yield removals of managers whose data is lost: their address has rejoined as another node."""
    if not observed.manager:
        return
    rejoined = {
        each.engine_labels.get(TAG_LOGICAL_ID): each
        for each in observed.ours
        if each.state == "ready" and observed.instance(each) is not None
    }
    for each in observed.ours:
        name = each.engine_labels.get(TAG_LOGICAL_ID)
        if (
            name not in observed.declared
            or name not in rejoined
            or observed.instance(each) is not None
            or each.state != "down"
        ):
            continue
        why = f"{name} has rejoined without its data, as the node {rejoined[name].id}"
        yield _removal(observed, each, why)


def _promotions(observed: Observation) -> Iterator[Need]:
    """Yield promotions of workers at declared addresses of managers."""
    if not observed.manager:
        return
    for each in observed.ours:
        name, instance = each.engine_labels.get(TAG_LOGICAL_ID, ""), observed.instance(each)
        if each.role == "manager" or each.manager is not None or each.state != "ready" or name not in observed.declared:
            continue
        if instance is None or instance.state in _LEAVING:
            continue
        what = f"promoting the node {each.id} at {name} to manager"
        blocked = _promotion_blocker(observed, each)
        yield Need(act=PROMOTE, node=each, what=what, blocked=blocked, instance=instance.id or None)


def _promotion_blocker(observed: Observation, candidate: Node) -> str:
    """Explain why a node must not be promoted now; empty if it may. It raises the quorum: all must answer."""
    name = candidate.engine_labels.get(TAG_LOGICAL_ID)
    voters = quorum.members(observed.nodes)
    ours = (each for each in voters if each.engine_labels.get(TAG_GROUP) == observed.group)
    if any(each.engine_labels.get(TAG_LOGICAL_ID) == name for each in ours):
        return "waiting until the previous manager at this address is removed"
    if unreachable := [_named(each) for each in voters if not quorum.is_available(each)]:
        return f"waiting until every manager is reachable; unreachable: {', '.join(unreachable)}"
    return ""


def _stale(observed: Observation) -> Iterator[Need]:
    """Yield removals of nodes that will not return: they have no instance, and no other instance gets their data."""
    for each in observed.ours:
        name = each.engine_labels.get(TAG_LOGICAL_ID)
        may_return = observed.manager and name in observed.declared
        if may_return or each.state != "down" or observed.instance(each) is not None or not observed.is_overdue(each):
            continue
        yield _removal(observed, each, f"it is down and has had no instance for at least {observed.remove_after_s:g} s")


def _removal(observed: Observation, node: Node, why: str) -> Need:
    """Return the next step of a removal. A manager is demoted first; one without a vote cannot be demoted."""
    if node.role != "manager" or node.manager is None:
        blocked = "waiting until its demotion is complete" if node.manager is not None else ""
        return Need(act=REMOVE, node=node, what=f"removing the node {node.id}: {why}", blocked=blocked)
    blocked = ""
    if not (rest := quorum.after_removal(observed.nodes, node)).is_enough:
        blocked = f"waiting for the quorum: without it, {rest}"
    if not observed.manager:
        blocked = f"it was promoted to manager outside InfraKit: docker node demote {node.id}"
    return Need(act=DEMOTE, node=node, what=f"demoting the manager {node.id}: {why}", blocked=blocked)


def _reactivations(observed: Observation) -> Iterator[Need]:
    """Yield reactivations of nodes that were drained for a destruction that was then cancelled."""
    for each in observed.ours:
        instance = observed.instance(each)
        if instance is None or instance.state in _LEAVING or instance.id in observed.leaving:
            continue
        if DRAINED in each.labels and observed.is_overdue(each):
            what = f"reactivating the node {each.id}: it was drained, but its instance was kept"
            yield Need(act=ACTIVATE, node=each, what=what, instance=instance.id)


def _unmanaged(observed: Observation) -> Iterator[MembershipChange]:
    """Yield notices of nodes for the operator: unknown nodes, duplicates, and managers of other groups."""
    for each in observed.ours:
        if observed.instance(each) is None and each.state == "ready" and observed.is_overdue(each):
            what = f"the node {each.id} at {each.addr} is ready, but its provider lists no instance for it"
            remedy = f"find out what it is, or remove it: docker node rm --force {each.id}"
            yield _notice(f"unknown/{each.id}", f"{what}: {remedy}")
    links = collections.Counter(each.engine_labels.get(link.LINK) for each in observed.ours if each.state == "ready")
    for own in sorted(each for each, count in links.items() if each and count > 1):
        named = ", ".join(each.id for each in observed.ours if each.engine_labels.get(link.LINK) == own)
        yield _notice(f"duplicate/{own}", f"several nodes are linked to the same instance: {named}")
    for each in observed.nodes if observed.manager else ():
        if each.manager is None and each.role != "manager":
            continue
        group = each.engine_labels.get(TAG_GROUP)
        if group != observed.group:
            whose = f"belongs to the group {group}" if group else "belongs to no group"
            what = f"the manager {_named(each)} {whose}, and has a vote"
            yield _notice(f"unmanaged/{each.id}", f"{what}: if it should not, docker node demote {each.id}")


def _advice(observed: Observation) -> Iterator[MembershipChange]:
    count = len(observed.declared)
    if observed.manager and count and count % 2 == 0:
        lost = can_lose(count)
        what = f"{count} managers tolerate the loss of {lost}, no more than {count - 1} do: declare an odd number"
        yield _notice("advice/even", what)


def _notice(id_: str, what: str) -> MembershipChange:
    return MembershipChange(id=id_, what=what, due=False)


def _named(node: Node) -> str:
    name = node.engine_labels.get(TAG_LOGICAL_ID) or node.hostname
    return f"{node.id} ({name})" if name else node.id
