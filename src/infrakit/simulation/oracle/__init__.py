"""The oracle: judges a run by the truth of the simulated cloud and by the orders given, never by the code under test.

It imports nothing of `group`, `gate` and `manager`: the limits that it holds them to are computed from the declaration
as the documentation describes them. The world calls it when a call leaves the process of a replica, when the cloud
creates and terminates an instance, when a document is durable, and when an operator submits a command and gets its
acknowledgement.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from infrakit.instances.simulator import Machine
from infrakit.simulation.loops import Timeline
from infrakit.simulation.oracle import declared, exceptions, whole
from infrakit.simulation.oracle.actor import DRIFT, LEDGER, Actors, Caller
from infrakit.simulation.oracle.creations import Creations
from infrakit.simulation.oracle.durable import Durable
from infrakit.simulation.oracle.facts import KNOWN_S, Facts, Life
from infrakit.simulation.oracle.identity import Identities
from infrakit.simulation.oracle.losses import Losses
from infrakit.spi import values
from infrakit.spi.event import Event, Kind
from infrakit.spi.store import Document
from infrakit.spi.values import Attachment, Description, GroupID, InstanceID, InstanceSpec, LogicalID

__all__ = ["Caller", "Oracle"]

REASONED_S = 400.0  # a drain, a release and a call may take that long after their event


class Oracle:
    """The checks of one run."""

    def __init__(self, timeline: Timeline, *, faults: Iterable[str] = (), sure_health: bool = True) -> None:
        self.facts = Facts(timeline, faults)
        self.actors = Actors(self.facts)
        self.durable = Durable(self.facts)
        self.losses = Losses(self.facts, sure_health=sure_health)
        self.created = 0
        self.voters_of: Callable[[GroupID], set[InstanceID]] = lambda _group: set()  # that the flavor lists, if it does
        self.own_nodes: dict[str, LogicalID] = {}  # the members that are nodes of replicas, by the node
        self._identities = Identities(self.facts)
        self._creations = Creations(self.facts)
        self._requested: set[str] = set()  # tokens
        self._explained: dict[InstanceID, float] = {}

    @property
    def verdict(self) -> str:
        """The first broken law; empty if every law has held."""
        return self.facts.verdict

    @property
    def now(self) -> float:
        return self.facts.now

    # -- the store -------------------------------------------------------------------------------------------------

    def written(self, document: Document) -> None:
        """Check a document revision that has become durable."""
        if document.name == LEDGER:
            self.actors.written(document)
        elif document.name == declared.NAME:
            self.losses.settle()
            self.durable.written(document)

    def restored(self, state: Mapping[str, int]) -> None:
        """The store has lost everything after an earlier state, which names the newest revision of each document."""
        self.durable.restored(state.get(declared.NAME, 0))
        self.actors.restored()
        self._creations.restored()
        self.losses.restored()
        self.facts.forget()

    def forked(self) -> None:
        """A node begins to use a copy of the store."""
        self.facts.forked()

    def rejoined(self, state: Mapping[str, int], declarations: Sequence[Document]) -> None:
        """The node uses the store again, as `state` names it: what was written to its copy is lost."""
        self.durable.rejoined(declarations)
        self.facts.rejoined(self.actors.bound_s * DRIFT)
        self.restored(state)

    # -- orders ----------------------------------------------------------------------------------------------------

    def resuming(self, group: GroupID) -> None:
        """An operator submits a command to resume a group."""
        self._creations.resuming(group)

    # -- the cloud -------------------------------------------------------------------------------------------------

    def on_change(self, what: str, machine: Machine) -> None:
        """Follow the lives of instances: `created`, `ended`, `revived`, `stopping`."""
        facts, group = self.facts, GroupID(machine.tags.get(values.TAG_GROUP, ""))
        if what == "created":
            requested = machine.token in self._requested
            life = facts.lives[machine.id] = Life(machine, facts.now, requested=requested)
            if requested:
                self.created += 1
                self._identities.created(life)
                self._creations.created(life.group, life.token)
                self.losses.replaced(life)
            else:
                facts.disturbed_at[group] = facts.now
        elif what == "revived":
            facts.lives[machine.id] = Life(machine, facts.now, requested=False, revived=True)
            facts.disturbed_at[group] = facts.now
        elif what == "stopping":
            facts.lives[machine.id].stopping_at = facts.now
            facts.disturbed_at[group] = facts.now
        else:
            if (ended := facts.lives.pop(machine.id, None)) is not None:
                self.losses.ended(ended)
            facts.disturbed_at[group] = machine.terminated_at

    def of(self, instance: InstanceID) -> GroupID:
        """Return the group of an instance; empty for an unknown one."""
        life = self.facts.lives.get(instance)
        return life.group if life is not None else GroupID("")

    # -- starts of calls -------------------------------------------------------------------------------------------

    def acting(self, caller: Caller, what: str, instance: InstanceID) -> None:
        """Check a label, a drain or a release when its call leaves the process of its caller."""
        life = self.facts.lives.get(instance)
        self.actors.acting(caller, what, life.group if life is not None else GroupID(""))
        if life is not None and life.is_foreign:
            self.facts.require(False, exceptions.NOT_OURS, f"{what} of {instance}, which is of another cluster")

    def creating(self, caller: Caller, spec: InstanceSpec) -> None:
        """Check a creation when its call leaves the process of its caller."""
        tags = spec.tags or {}
        self.actors.acting(caller, "create", GroupID(tags.get(values.TAG_GROUP, "")))
        self._requested.add(tags.get(values.TAG_TOKEN, ""))
        self._identities.requesting(spec)

    def destroying(self, caller: Caller, instance: InstanceID, machine: InstanceID) -> None:
        """Check a destruction when its call leaves the process of its caller; a machine may have two IDs."""
        life, facts = self.facts.lives.get(machine), self.facts
        group = life.group if life is not None else GroupID("")
        self.actors.acting(caller, "destroy", group)
        explained_at = self._explained.get(instance)
        facts.require(
            life is None or (explained_at is not None and facts.now - explained_at < REASONED_S),
            exceptions.REASON,
            f"{instance} is destroyed without an event that explains it",
        )
        if life is not None and life.logical_id is not None:
            host = caller.name.partition(".")[0]
            if self.own_nodes.get(host) == life.logical_id:
                self.losses.own_node(life)
        self.losses.destroying(caller.name, life, machine, voters=self.voters_of(group))

    def changing(self, caller: Caller, instances: Sequence[Description]) -> None:
        """Check a membership change when its call leaves the process of its caller."""
        group = GroupID(next(((each.tags or {}).get(values.TAG_GROUP, "") for each in instances), ""))
        self.actors.acting(caller, "change the membership", group)
        found = self.facts.declared.groups.get(group)
        if found is not None and found.quorum:
            lives = self.facts.lives
            asked = [i for by, i in self.losses.unanswered if by == caller.name and i in lives]
            mine = [i for i in asked if lives[i].group == group]
            self.facts.require(
                not mine, exceptions.MAJORITY, f"the membership of {group} changes while {mine} are being destroyed"
            )

    def deleting(self, caller: Caller, attachment: Attachment) -> None:
        """Check the deletion of a volume when its call leaves the process of its caller."""
        facts = self.facts
        groups = facts.declared.groups.items()
        names = [n for n, g in groups if g.deletes_volumes and g.destroying and attachment.id in g.volumes.values()]
        self.actors.acting(caller, "delete a volume", names[0] if names else GroupID(""))
        facts.require(names, exceptions.VOLUMES, f"{attachment.id} is deleted, and no operator has requested that")
        holders = [each.id for each in facts.lives.values() if attachment in each.machine.attachments]
        facts.require(not holders, exceptions.HELD_VOLUMES, f"{attachment.id} is deleted, and {holders} hold it")

    # -- reports of the code under test ----------------------------------------------------------------------------

    def reported(self, caller: Caller, event: Event) -> None:
        """Check an event that a replica reports: it has a reason, and what it claims is true."""
        self.facts.require(event.message.strip(), exceptions.REASON, f"an event {event.type} has no message")
        if event.instance is not None and event.type in (Kind.DESTROYING, Kind.DRAINING):
            self._explained[event.instance] = self.facts.now
        if event.type is Kind.CONVERGED and event.group is not None:
            self._converged(caller, event.group)

    def _converged(self, caller: Caller, group: GroupID) -> None:
        """A report of convergence by a process that does not lead any more is not about the present."""
        facts = self.facts
        current = caller.epoch == self.actors.epoch and facts.now < caller.leads_until
        if current and group in facts.declared.groups and facts.is_calm(group):
            whole.check(facts, group)

    def member_removed(self, machine: Machine) -> None:
        """Check a member that has been removed from the member list because its instance has terminated."""
        life = self.facts.lives.get(machine.id)
        runs_again = life is not None and life.revived and life.began_at > self.facts.now - KNOWN_S
        self.facts.require(
            not machine.lives or runs_again,
            exceptions.ONE_PER_IDENTITY,
            f"{machine.id} lives and was removed from the member list",
        )
