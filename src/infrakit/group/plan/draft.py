"""The plan while it is being made: the parts add to it, in the order in which `plan` asks them."""

import math

import msgspec

from infrakit.group.actions import Action, Destroy, Hold, Priority
from infrakit.group.plan.census import Census
from infrakit.group.plan.want import Want
from infrakit.group.view import GroupView, Member
from infrakit.spi.flavor import MembershipChange
from infrakit.spi.instance import Reason
from infrakit.spi.values import InstanceID, Slot


class Draft(msgspec.Struct, kw_only=True):
    """Inputs, and what has been decided so far."""

    want: Want
    view: GroupView
    census: Census
    settled: frozenset[Slot]  # intents whose instance is among the members: they count once
    unwanted: set[Slot] = msgspec.field(default_factory=set)  # unresolved intents that nobody needs any more
    actions: list[Action] = msgspec.field(default_factory=list)
    holds: list[Hold] = msgspec.field(default_factory=list)
    changing: MembershipChange | None = None  # of the list of members: under way, or of this plan
    chosen: dict[InstanceID, Member] = msgspec.field(default_factory=dict)  # members this plan ends

    @property
    def staying(self) -> int:
        """Members that nobody has decided to end."""
        return self.census.staying - len(self.chosen)

    @property
    def leaving(self) -> list[Member]:
        """Everybody who is on the way out, this plan's own choices included."""
        return [*self.census.leaving, *self.chosen.values()]

    @property
    def pending(self) -> int:
        """Unresolved intents that are wanted."""
        return self.unresolved - len(self.unwanted)

    @property
    def unresolved(self) -> int:
        """Intents that may have made something which is not among the members."""
        return len(self.view.pending) - len(self.settled)

    def hold(
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
        """Note something that is not done now, and why."""
        hold = Hold(subject=subject, reason=reason, rule=rule, refused=refused, remedy=remedy, key=key, until=until)
        self.holds.append(hold)

    def destroy(self, member: Member, reason: str, rule: str, priority: Priority, *, rolling: bool = False) -> None:
        """Decide that a member goes, unless its destruction has just failed and is to be tried later.

        It waits, too, while the list of members of a quorum is changed: see `plan.membership`.
        """
        if self.want.quorum and self.changing is not None:
            self.hold(member.id, f"{reason}; the list of members is changed first", "one-at-a-time")
            return
        trouble = self.view.troubles.get(member.id)
        if trouble is not None and trouble.retry_at > self.view.now:
            self.hold(
                member.id,
                f"destroying it failed {times(trouble.count)} ({trouble.why}); tried again in "
                f"{duration(trouble.retry_at - self.view.now)}",
                "back-off",
                until=trouble.retry_at,
            )
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
