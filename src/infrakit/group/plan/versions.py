"""Which version a new instance is created with: the declared one, or the last proven one.

While a rolling update is stopped, healing creates the proven version. So it does for all but the canaries while these
bake. Only what instances are created from comes from an earlier version, so it cannot fill every slot: a slot that it
does not know, or that the flavor could not prepare with it, is filled with the declared version.
"""

from infrakit.group.plan.builder import PlanBuilder
from infrakit.group.state.creation import Creation
from infrakit.spi.values import LogicalID, Slot


def of_new(builder: PlanBuilder, slot: Slot) -> str:
    """Return the version of an instance that this plan creates in a slot; a canary takes one of their places."""
    want, canary = builder.want, builder.canary
    if want.proven is None or canary is None or want.rollout_stopped:
        return _possible(builder, slot, want.hash)
    version = _possible(builder, slot, want.proven.hash if canary.room <= 0 else want.hash)
    if version == want.group.hash:
        canary.room -= 1
    return version


def of_pending(builder: PlanBuilder, slot: Slot, pending: Creation) -> str:
    """Return the version of a recorded creation that is retried. A canary stays one: it has its place already."""
    want = builder.want
    if builder.canary is not None and want.proven is not None and not want.rollout_stopped:
        recorded = pending.version or pending.intent.hash
        if recorded in (want.group.hash, want.proven.hash):
            return _possible(builder, slot, recorded)
    return _possible(builder, slot, want.hash)


def _possible(builder: PlanBuilder, slot: Slot, version: str) -> str:
    want = builder.want
    if version == want.group.hash:
        return version
    earlier = want.proven or want.previous
    if earlier is None or (slot, version) in builder.view.versions.unprepared:
        return want.group.hash
    now, then = want.group.properties, earlier.properties
    if (now.instance.plugin, now.flavor.plugin) != (then.instance.plugin, then.flavor.plugin):
        return want.group.hash  # this controller calls the declared plugins only
    if want.group.is_pets:
        return version if LogicalID(slot) in (then.allocation.logical_ids or ()) else want.group.hash
    return want.group.hash if earlier.is_pets else version
