"""The plan while it is being made: the parts add to it, in the order in which `plan` asks them."""

import math

import msgspec

from infrakit.group.actions import Action, Blocked, Destroy, Priority
from infrakit.group.plan.classification import Classification
from infrakit.group.plan.desired import DesiredState
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.instance import Reason
from infrakit.spi.values import InstanceID, Slot


class PlanBuilder(msgspec.Struct, kw_only=True):
    """Inputs, and what has been decided so far."""

    want: DesiredState
    view: GroupView
    classified: Classification
    settled: frozenset[Slot]  # intents whose instance is among the members: they count once
    unwanted: set[Slot] = msgspec.field(default_factory=set)  # unresolved intents that are no longer needed
    actions: list[Action] = msgspec.field(default_factory=list)
    blocked: list[Blocked] = msgspec.field(default_factory=list)
    changing: MembershipChange | None = None  # of the member list: under way, or of this plan
    chosen: dict[InstanceID, Member] = msgspec.field(default_factory=dict)  # members this plan ends

    @property
    def staying(self) -> int:
        """Members that are not being destroyed."""
        return self.classified.staying - len(self.chosen)

    @property
    def leaving(self) -> list[Member]:
        """Members that are being destroyed, including this plan's own choices."""
        return [*self.classified.leaving, *self.chosen.values()]

    @property
    def pending(self) -> int:
        """Unresolved intents that are wanted."""
        return self.unresolved - len(self.unwanted)

    @property
    def unresolved(self) -> int:
        """Intents that may have made something which is not among the members."""
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
        """Record something that is not done now, and why."""
        block = Blocked(subject=subject, reason=reason, rule=rule, refused=refused, remedy=remedy, key=key, until=until)
        self.blocked.append(block)

    def backs_off(self, failures: str, what: str, *, subject: str = "", key: str = "") -> bool:
        """Whether the failures recorded under that key are still backed off; then it is noted what waits for that."""
        backoff = self.view.backoffs.get(failures)
        if backoff is None or not backoff.is_pending(self.view.now):
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
        """Decide to destroy a member, unless its destruction has failed and is backed off.

        It waits, too, while the member list of a quorum changes: see `plan.membership`.
        """
        if self.want.quorum and self.changing is not None:
            self.block(member.id, f"{reason}; the member list changes first", "one-at-a-time")
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
    """83.4 -> `1m23s`; short ones keep a decimal."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s") if hours or minutes else f"{rest}s"


def times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
