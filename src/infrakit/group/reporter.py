"""The events of one group: each fact, refusal and wait is reported once, when it begins."""

from collections.abc import Callable, Sequence

from infrakit.group.actions import Blocked, Plan
from infrakit.group.plan import foreign
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.spi.event import Event, Kind
from infrakit.spi.token import cluster_of
from infrakit.spi.values import Description, Health, InstanceID, Slot


class Reporter:
    """Emits the events of a group, and remembers what it has reported."""

    def __init__(self, view: GroupView, emit: Callable[[Event], object]) -> None:
        self._view = view
        self._emit = emit
        self._blocks: set[tuple[str, str, str]] = set()  # subject, rule and key
        self._missing: set[InstanceID] = set()
        self._was_converged = False

    def event(self, kind: Kind, message: str, *, member: Member | None = None) -> None:
        """Emit an event of the group, or of one member."""
        instance, slot = (member.id, member.slot) if member is not None else (None, None)
        self._emit(Event(type=kind, group=self._view.group, instance=instance, slot=slot, message=message))

    def plan(self, plan: Plan, *, size: int) -> None:
        """Report the blocked actions of a plan, and whether the group has converged."""
        blocks = set()
        for block in plan.blocked:
            key = (block.subject, block.rule, block.key)
            blocks.add(key)
            if key not in self._blocks and block.rule != foreign.RULE:  # reported for each instance
                self._blocked(block)
        self._blocks = blocks
        if plan.converged and not self._was_converged:
            self.event(Kind.CONVERGED, f"all {size} instances match the declaration and are proven healthy")
        elif self._was_converged and not plan.converged:
            self.event(Kind.DIVERGED, f"not converged: {plan.phase}")
        self._was_converged = plan.converged

    def health(self, member: Member) -> None:
        """Report the health of a member, which has changed."""
        if member.report is not None and member.report.health is not Health.UNKNOWN:
            healthy = member.report.health is Health.HEALTHY
            note = member.report.note or ("healthy" if healthy else "unhealthy")
            self.event(Kind.HEALTHY if healthy else Kind.UNHEALTHY, note, member=member)

    def missing(self) -> None:
        """Report the members that the newest listing omits."""
        if not self._missing and self._view.is_complete:
            return
        missing = {m.id: m for m in self._view.members.values() if m.missing_since is not None and not m.leaving}
        for instance, member in missing.items():  # in the order of the members, so that a seed repeats it
            if instance not in self._missing:
                what = "missing from the provider's listing; termination not confirmed"
                self.event(Kind.MISSING, what, member=member)
        self._missing = set(missing)

    def foreign(self, others: Sequence[Description], *, before: Sequence[Description]) -> None:
        """Report the instances of other clusters that were not among those before."""
        known = {(each.id, cluster_of(each.tags)) for each in before}
        for each in foreign.of_group(others, self._view.group):
            cluster = cluster_of(each.tags)
            if (each.id, cluster) not in known:
                what = f"not a member: it carries the group's tag, and its token names the cluster {cluster}"
                message, group = f"{what}; {foreign.remedy(cluster)}", self._view.group
                self._emit(Event(type=Kind.REFUSED, group=group, instance=each.id, message=message, cause=foreign.RULE))

    def _blocked(self, block: Blocked) -> None:
        view = self._view
        member = view.members.get(InstanceID(block.subject))
        slot = member.slot if member is not None else None if block.subject == view.group else Slot(block.subject)
        self._emit(
            Event(
                type=Kind.REFUSED if block.refused else Kind.WAITING,
                group=view.group,
                instance=member.id if member is not None else None,
                slot=slot,
                message=block.reason,
                cause=block.rule,
            )
        )
