"""Canaries: the members that a rolling update replaces first. The others wait until these are healthy for BakeTime.

Each plan counts from the members how many have baked, so a new leader counts it from what it observes.
"""

import math

import msgspec

from infrakit.group.plan.classification import Classification
from infrakit.group.plan.desired import DesiredState
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView


class Canary(msgspec.Struct, kw_only=True):
    """The canaries of a rolling update that have not all baked yet."""

    declared: int
    baked: int  # how many have been healthy for long enough
    room: int  # how many more members may get the declared version now; each creation of this plan takes one
    baked_at: float  # loop time at which the next one has baked; infinite: none is healthy


def baking(want: DesiredState, view: GroupView, classified: Classification) -> Canary | None:
    """Return the canaries that must bake before the others are updated; None: there are none, or all have baked."""
    if not want.canary or want.rollout_stopped or not (classified.outdated or want.is_unproven):
        return None
    if want.proven is not None and not want.is_unproven:
        return None  # a return to the proven version needs no other proof
    version = want.group.hash
    new = [m for m in classified.ready if m.hash == version]
    baked = sum(has_baked(m, want.bake_s, view.now) for m in new)
    if baked >= want.canary:
        return None
    waits = (baked_at(m, want.bake_s) for m in new)
    exposed = sum(m.hash == version and not m.leaving for m in view.members.values())
    settled = view.settled()
    pending = [p for slot, p in view.pending.items() if slot not in settled]
    exposed += sum((p.version or p.intent.hash) == version for p in pending)
    next_at = min((at for at in waits if at > view.now), default=math.inf)
    return Canary(declared=want.canary, baked=baked, room=want.canary - exposed, baked_at=next_at)


def baked_at(member: Member, bake_s: float) -> float:
    """Return the loop time from which on it has baked, if it stays healthy. What has finished needs no time."""
    return -math.inf if member.healthy_since is None else member.healthy_since + bake_s


def has_baked(member: Member, bake_s: float, now: float) -> bool:
    """Whether a member that is ready has been healthy for long enough."""
    return now >= baked_at(member, bake_s)
