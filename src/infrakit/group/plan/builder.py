"""The plan under construction: the steps of the planner add their decisions to it, in the order of `decide`."""

import math
from collections.abc import Mapping

import msgspec

from infrakit.group.actions import Action, Blocked, Destroy, Priority
from infrakit.group.plan.canary import Canary
from infrakit.group.plan.classification import Classification
from infrakit.group.plan.desired import DesiredState
from infrakit.group.plan.unsettled import blocking_call
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.instance import Reason
from infrakit.spi.values import Description, InstanceID, Slot


class PlanBuilder(msgspec.Struct, kw_only=True):
    """The inputs of a plan, and the decisions so far."""

    want: DesiredState
    view: GroupView
    classified: Classification
    settled: Mapping[Slot, float]  # intents whose instance is a member: both count as one; see `GroupView.settled`
    unwanted: set[Slot] = msgspec.field(default_factory=set)  # unresolved intents that are no longer needed
    actions: list[Action] = msgspec.field(default_factory=list)
    blocked: list[Blocked] = msgspec.field(default_factory=list)
    canary: Canary | None = None  # those that must bake first
    changing: MembershipChange | None = None  # change of the member list, in progress or of this plan
    foreign: Mapping[Slot, Description] = msgspec.field(default_factory=dict)  # of other clusters, by logical ID
    # Who holds each attachment, with its logical ID; None: not computed (see `plan.volumes`).
    volumes: dict[str, list[tuple[Slot | None, Member | Description | Slot]]] | None = None
    chosen: dict[InstanceID, Member] = msgspec.field(default_factory=dict)  # members that this plan destroys

    @property
    def staying(self) -> int:
        """The number of members that are not being destroyed."""
        return self.classified.staying - len(self.chosen)

    @property
    def leaving(self) -> list[Member]:
        """Members that are being destroyed, including those that this plan destroys."""
        return [*self.classified.leaving, *self.chosen.values()]

    @property
    def pending(self) -> int:
        """The number of unresolved intents that are still needed."""
        return self.unresolved - len(self.unwanted)

    @property
    def unresolved(self) -> int:
        """The number of intents that may have created an instance that is not a member yet."""
        return len(self.view.pending) - len(self.settled)

    def block(
        self,
        subject: str,
        reason: str,
        rule: str,
        *,
        refused: bool = False,
        remedy: str = "",
        key: str = "",
        until: float = math.inf,
    ) -> None:
        """Add a blocked action and its reason."""
        block = Blocked(subject=subject, reason=reason, rule=rule, refused=refused, remedy=remedy, key=key, until=until)
        self.blocked.append(block)

    def backs_off(self, failures: str, what: str, *, version: str = "", subject: str = "", key: str = "") -> bool:
        """Whether the failures of that key and version are still backed off; if so, add a blocked action."""
        backoff = self.view.backoffs.get(failures)
        if backoff is None or backoff.version != version or not backoff.is_pending(self.view.now):
            return False
        self.block(
            subject or failures,
            f"{what} has failed {times(backoff.count)} ({backoff.why}); "
            f"next retry in {duration(backoff.retry_at - self.view.now)}",
            "back-off",
            until=backoff.retry_at,
            key=key,
        )
        return True

    def destroy(self, member: Member, reason: str, rule: str, priority: Priority, *, rolling: bool = False) -> None:
        """Add the destruction of a member, unless earlier failures of it are backed off.

        It is also blocked while the member list of a quorum changes: see `plan.membership`.
        """
        if self.want.quorum and self.changing is not None:
            self.block(member.id, f"{reason}; the member list changes first", "one-at-a-time")
            return
        why, until = blocking_call(self.want, self.view)
        if why:
            self.block(member.id, f"{reason}; {why}", "one-at-a-time", until=until)
            return
        if self.backs_off(member.id, f"destroying {member.id}"):
            return
        self.chosen[member.id] = member
        self.actions.append(
            Destroy(
                instance=member.id,
                slot=member.slot,
                reason=reason,
                rule=rule,
                priority=priority,
                drain=self.want.group.properties.updating.drain,
                context=Reason.ROLLING_UPDATE if rolling else Reason.TERMINATE,
            )
        )


def duration(seconds: float) -> str:
    """Format a duration: 83.4 -> `1m23s`. Below 10 s, it has one decimal."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s") if hours or minutes else f"{rest}s"


def times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
