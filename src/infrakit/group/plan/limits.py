"""Law 5, never make it worse: when too many look sick at once, the common cause is rarely in the machines.

Then nothing is destroyed, whatever the reason, until fewer look sick or an operator says go. For a quorum the count is
what it can still lose: every declared member that is not proven healthy counts, whatever it is doing.
"""

from infrakit.group.plan.draft import Draft, plural
from infrakit.group.view import Member
from infrakit.spi.values import Slot

REMEDY = (
    "look for a common cause (network, health check, disk); it ends when fewer look sick, "
    "or say go: infrakit group resume {group} --despite-unhealthy"
)


def ready_bearers(draft: Draft) -> int:
    """How many declared members are proven healthy now, and stay."""
    ready = [m for m in draft.census.ready if m.id not in draft.chosen]
    if not draft.want.group.is_pets:
        return len(ready)
    declared = {Slot(i) for i in draft.want.logical_ids}
    return len({m.slot for m in ready if m.slot in declared})


def looks_sick(draft: Draft) -> int:
    """The breaker's count."""
    if draft.want.quorum:
        return draft.want.size - ready_bearers(draft)
    return len(draft.census.ailing)


def breaker(draft: Draft) -> str:
    """Why nothing may be destroyed now, or nothing."""
    want, count = draft.want, looks_sick(draft)
    if count <= want.max_unhealthy or not draft.census.ailing:
        return ""
    if want.quorum:
        return (
            f"{count} of {want.size} members are not proven healthy and the quorum can lose only {want.can_lose}"
            if want.max_unhealthy == want.can_lose
            else f"{count} of {want.size} members are not proven healthy; the limit is {want.max_unhealthy}"
        )
    return f"{plural(count, 'member')} of {want.size} look sick at once; the limit is {want.max_unhealthy}"


def refuse(draft: Draft, subject: str, what: str, why: str) -> None:
    """Note that the breaker forbids something."""
    draft.hold(
        subject,
        f"{what} is refused: {why}",
        "max-unhealthy",
        refused=True,
        remedy=REMEDY.format(group=draft.want.group.name),
    )


def quorum_would_suffer(draft: Draft, member: Member) -> str:
    """Why taking a member away, sick ones apart, would cost the quorum more than it can bear, or nothing."""
    want = draft.want
    if not want.quorum:
        return ""
    left = ready_bearers(draft) - (member in draft.census.ready)
    if left >= want.size - want.can_lose:
        return ""
    return (
        f"{left} of {want.size} members would be left proven healthy and the quorum needs {want.size - want.can_lose}"
    )
