"""Tags that the provider does not keep as they were set. That is reported, and nothing is destroyed because of it.

A member is replaced by its version only if its version is known. The version is a tag, `infrakit.config.hash`. If this
controller has set it and listings show another, or none, then no tag of the group proves a version. A new leader has
set none yet. It learns from its first replacement whether the provider keeps tags, and until then replaces only one
member of a version that the record does not contain. It needs no replacement if members have a token and no version,
because both are set in one step.
"""

from infrakit.group.actions import Provision
from infrakit.group.plan.builder import PlanBuilder, plural
from infrakit.group.state.member import Member
from infrakit.group.state.tags import BROKEN, RULE
from infrakit.spi.values import TAG_HASH, TAG_LOGICAL_ID, Slot


def explain(builder: PlanBuilder) -> None:
    """Report the tags that are not as they were set."""
    tags, unversioned = builder.classified.tags, builder.classified.unversioned
    name, broken = builder.want.group.name, builder.view.tags_broken
    if tags.broken or (unversioned and not broken):
        broken = (
            f"the provider does not keep the tag {TAG_HASH}: {_examples(tags.broken or unversioned)}; no version is "
            "certain, so no instance is replaced because of its version"
        )
    if broken:
        remedy = f"find out what drops or changes tags, then run: infrakit group resume {name}"
        key = BROKEN if tags.broken or builder.view.tags_broken else ""
        builder.block(name, broken, RULE, refused=True, remedy=remedy, key=key)
    if tags.changed and not broken:
        reason = f"the tag {TAG_HASH} was changed by another program, which is ignored: {_examples(tags.changed)}"
        builder.block(builder.want.group.name, reason, RULE, key="changed", remedy="restore the tag")
    if tags.unlabelled:
        reason = f"the provider ignores labels, so no more are set: {_examples(tags.unlabelled)}; it counts as labelled"
        builder.block(builder.want.group.name, reason, RULE, key="labels")
    for member in tags.unnamed:
        shown = f"{member.identified_by} shows that it is {member.logical_id}"
        listed = member.listed_logical_id
        what = f"{member.id} is listed {f'as {listed}' if listed else 'without its logical ID'}; {shown}"
        remedy = f"set its tag {TAG_LOGICAL_ID} to {member.logical_id}"
        if listed in member.names:  # no token shows which of the two it is
            remedy += f"; if it is {listed}, destroy it: infrakit instance destroy {member.id}"
        builder.block(member.id, what, RULE, remedy=remedy, key="logical-id")


def blocks_creation(builder: PlanBuilder, slot: Slot) -> bool:
    """Whether a member may have that logical ID, although it is another one; if so, add a blocked action."""
    member = builder.classified.disputed.get(slot)
    if member is None:
        return False
    builder.block(
        slot,
        f"logical ID {slot} may be that of {member.id}, which was listed with it and is {member.logical_id} by other "
        "listings: no second instance",
        "one-per-logical-id",
        refused=True,
        remedy=f"set the tag {TAG_LOGICAL_ID} of {member.id} to {member.logical_id} if that is right, else destroy it: "
        f"infrakit instance destroy {member.id}",
        key="disputed",
    )
    return True


def blocks_replacement(builder: PlanBuilder, member: Member) -> bool:
    """Whether its version is not certain yet, and another replacement will show whether the provider keeps tags."""
    want, tags = builder.want, builder.classified.tags
    if tags.kept or want.knows(member.hash):
        return False
    creates = builder.staying < want.size or any(isinstance(action, Provision) for action in builder.actions)
    if not (tags.awaited or builder.leaving or builder.unresolved or creates):
        return False
    builder.block(
        want.group.name,
        f"{member.id} is of version {member.hash[:8] or 'none'}, which is not recorded here: waiting for a "
        "replacement whose listing shows that the provider keeps tags",
        RULE,
        key="first",
    )
    return True


def _examples(members: list[Member]) -> str:
    first, more = members[0], len(members) - 1
    set_ = f"{first.hash[:8]} was set" if first.hash else "the tag was set with its token"
    listed = (first.listed_hash or "")[:8] or "none"
    rest = f", and {plural(more, 'other instance')}" if more else ""
    return f"{set_} on {first.id}, and {listed} is listed{rest}"
