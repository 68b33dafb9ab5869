"""The volumes and other attachments of pets: no two instances hold one at the same time (law 2).

An instance holds what the provider reports. If it reports nothing, it holds what is declared for its logical ID, or
was declared before, as far as this controller has seen it. A new logical ID with the volume of another one is created
once that one has terminated.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping

from infrakit.group.plan import foreign
from infrakit.group.plan.builder import PlanBuilder
from infrakit.group.state.member import Member
from infrakit.spi.values import Attachment, Description, LogicalID, Slot, State

RULE = "one-per-volume"

Holder = Member | Description | Slot  # a member, an instance that is none, or a creation that is not settled


def blocks(builder: PlanBuilder, slot: Slot) -> bool:
    """Whether another instance holds a volume of that logical ID, or may; if so, add a blocked action."""
    view, want = builder.view, builder.want
    if not are_known(builder):
        declared = {Slot(each) for each in want.logical_ids}
        members = (m.id for m in view.members.values() if m.slot not in declared)
        requested = (f"the instance that was requested for {each}" for each in view.pending.keys() & builder.unwanted)
        unwanted = next(itertools.chain(members, requested), None)
        if unwanted is None:
            return False
        what = f"which volumes {slot} needs is not known yet, and {unwanted} may hold them"
        builder.block(slot, f"{what}: waiting for the flavor's answer", RULE)
        return True
    required = view.attachments.get(LogicalID(slot), ())
    if required and (unsettled := _unsettled(builder)):
        builder.block(slot, f"logical ID {slot} needs {attachments(required)}, and {unsettled} may hold it", RULE)
        return True
    for needed in required:
        for other, holder in _holders(builder).get(needed.id, ()):
            if other != slot:
                _explain(builder, slot, holder, attachments([needed]))
                return True
    return False


def are_known(builder: PlanBuilder) -> bool:
    """Whether the flavor has answered which attachments the declared version needs."""
    return builder.view.attachments_of == builder.want.group.hash


def holds_any_of(builder: PlanBuilder, member: Member, logical_ids: Iterable[LogicalID]) -> bool:
    """Whether it holds a volume of one of these logical IDs, or may."""
    held, declared = _held_by(builder, member), builder.view.attachments
    return any(each.id in held for logical_id in logical_ids for each in declared.get(logical_id, ()))


def _held_by(builder: PlanBuilder, member: Member) -> set[str]:
    reported, view = member.description.attachments, builder.view
    if isinstance(reported, tuple) and member.state is not State.PENDING:
        return {each.id for each in reported}
    if member.logical_id is None:
        return set()
    if member.logical_id in view.attachments and builder.want.is_current(member):
        return {each.id for each in view.attachments[member.logical_id]}
    return {each.id for each in view.attachments_before.get(member.logical_id, ())}


def _unsettled(builder: PlanBuilder) -> str:
    """Name an instance that is not declared any more, may hold volumes, and was declared before this leader."""
    view, known = builder.view, builder.view.attachments.keys() | builder.view.attachments_before.keys()
    for slot in view.pending.keys() & builder.unwanted:
        if LogicalID(slot) not in known:
            return f"the instance that was requested for {slot}"
    for member in view.members.values():
        if member.state is State.PENDING and member.logical_id is not None and member.logical_id not in known:
            return member.id  # what it reports may not be all of it yet
    return ""


def _holders(builder: PlanBuilder) -> Mapping[str, list[tuple[Slot | None, Holder]]]:
    """Return who holds each attachment, or may, with its logical ID; computed once for each plan."""
    if builder.volumes is None:
        builder.volumes = {}
        for slot, holder, held in _held(builder):
            for each in held:
                builder.volumes.setdefault(each, []).append((slot, holder))
    return builder.volumes


def _held(builder: PlanBuilder) -> Iterator[tuple[Slot | None, Holder, Iterable[str]]]:
    view = builder.view
    for member in view.members.values():
        yield member.slot, member, _held_by(builder, member)
    for slot in view.pending.keys() & builder.unwanted:
        yield slot, slot, [each.id for each in view.attachments_before.get(LogicalID(slot), ())]
    for instance in builder.foreign.values():
        if isinstance(instance.attachments, tuple):
            yield None, instance, [each.id for each in instance.attachments]


def _explain(builder: PlanBuilder, slot: Slot, holder: Holder, what: str) -> None:
    needs = f"logical ID {slot} needs {what}"
    if isinstance(holder, Member):
        remedy = "" if holder.leaving else f"if it is not replaced by itself: infrakit instance destroy {holder.id}"
        builder.block(slot, f"{needs}, which {holder.id} holds: it must terminate first", RULE, remedy=remedy)
    elif isinstance(holder, Description):
        whose = foreign.owner(holder, builder.want.group.name)
        reason = f"{needs}, which {holder.id} of the {whose} holds: no second instance"
        builder.block(slot, reason, RULE, refused=True, remedy=f"terminate {holder.id}, or declare another volume")
    else:
        builder.block(slot, f"{needs}, and the instance that was requested for {holder} may hold it", RULE)


def explain_unattached(builder: PlanBuilder) -> None:
    """Explain which members lack declared attachments: they are not ready, and nothing is destroyed because of it."""
    if not are_known(builder):
        what = "what its members must hold is not known yet: waiting for the flavor's answer about attachments"
        builder.block(builder.want.group.name, what, "attached")
    for instance, lacking in builder.classified.unattached.items():
        member = builder.view.members[instance]
        builder.block(
            instance,
            f"{instance} does not hold {attachments(lacking)}, which is declared for {member.logical_id}: it does not "
            "count as proven healthy",
            "attached",
            remedy=f"attach what is missing at the provider, or replace it: infrakit instance destroy {instance}",
        )


def attachments(named: Iterable[Attachment]) -> str:
    """Name attachments: `volume vol-1 and volume vol-2`."""
    return " and ".join(f"{each.type} {each.id}" for each in named)
