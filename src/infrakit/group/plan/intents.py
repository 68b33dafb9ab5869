"""Law 3, exactly one instance per intent: resolves the recorded creations whose outcome is not known yet.

An unresolved intent holds its slot, whatever listings show. If the reply was lost, the creation is retried *with the
same token* where the provider honours tokens. Elsewhere, listings are searched for the token. After the promised lag
has passed without it, the creation is presumed absent, at most once in a row for a slot. So a provider whose listings
stay empty receives no more creations than declared (twice as many if it also loses every reply and ignores tokens);
then creation stops, and the blocked action explains why. The same applies if the provider answers the token with the ID
of another instance: one that has the ID of a terminated instance now.
"""

from infrakit.group.actions import Cancel, Priority, Provision, Settle
from infrakit.group.plan import foreign, tags, versions, volumes
from infrakit.group.plan.builder import PlanBuilder, duration
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Member
from infrakit.spi.values import LogicalID, Slot, State

ABSENCES_MAX = 1


def resolve(builder: PlanBuilder) -> None:
    """Settle, retry, cancel or await every unresolved intent."""
    for slot, pending in builder.view.pending.items():
        if slot in builder.settled:
            _settle_listed(builder, slot, pending)
        elif slot in builder.unwanted:
            _abandon(builder, slot, pending)
        elif pending.phase is Phase.REFUSED:
            _settle(builder, slot, f"the provider refused it ({pending.error})")
        elif pending.phase is Phase.CREATED:
            _await_listing(builder, slot, pending)
        elif pending.phase is Phase.RECORDED and pending.retry_at > builder.view.now:
            wait = duration(pending.retry_at - builder.view.now)
            builder.block(slot, f"{pending.error}; next retry in {wait}", "back-off", until=pending.retry_at)
        elif pending.phase is Phase.RECORDED:
            retry(builder, slot, pending, "its creation is recorded and not requested yet")
        elif pending.phase is Phase.UNKNOWN:
            _resolve_unknown(builder, slot, pending)


def retry(builder: PlanBuilder, slot: Slot, pending: Creation, why: str) -> None:
    """Retry the creation with its recorded token, once no other instance that may be terminating has its slot."""
    want = builder.want
    held_by = _leaving_holder(builder, slot, pending)
    if held_by is not None:
        builder.block(slot, f"{slot} is declared and {why}; waiting for the termination of {held_by.id}", "one-intent")
        return
    if foreign.blocks(builder, slot) or tags.blocks_creation(builder, slot):
        return
    if want.group.is_pets and volumes.blocks(builder, slot):
        return
    builder.actions.append(
        Provision(
            slot=slot,
            logical_id=LogicalID(slot) if want.group.is_pets else None,
            sequence=want.sequence(slot),
            hash=versions.of_pending(builder, slot, pending),
            token=pending.intent.token,
            reason=f"{slot} is declared and {why}",
            rule="no-instance",
            priority=Priority.QUORUM if want.quorum else Priority.HEAL,
        )
    )


def _leaving_holder(builder: PlanBuilder, slot: Slot, pending: Creation) -> Member | None:
    members = builder.classified.by_slot.get(slot, ())
    ends = (m for m in members if m.leaving or m.state is State.STOPPING or m.missing_since is not None)
    return next((m for m in ends if m.token != pending.intent.token), None)


def _settle(builder: PlanBuilder, slot: Slot, why: str) -> None:
    builder.actions.append(Settle(slot=slot, reason=f"the intent for {slot} is settled: {why}", rule="intent"))


def _settle_listed(builder: PlanBuilder, slot: Slot, pending: Creation) -> None:
    """Keep the intent until listings cannot omit the instance any more: the next leader may know it from here only."""
    if builder.settled[slot] <= builder.view.now:
        _settle(builder, slot, "its instance has terminated" if pending.terminated else "its instance is listed")
    else:
        builder.classified.next_check = min(builder.classified.next_check, builder.settled[slot])


def _abandon(builder: PlanBuilder, slot: Slot, pending: Creation) -> None:
    if pending.phase is Phase.RECORDED:
        _settle(builder, slot, "it is no longer needed and was never requested")
    elif pending.phase is Phase.CALLING:
        builder.actions.append(
            Cancel(slot=slot, reason=f"{slot} is being created and is no longer needed", rule="surplus")
        )
    elif pending.presumed_absent or pending.phase is Phase.REFUSED:
        _settle(builder, slot, "it created nothing that still exists")
    else:
        _wait_for_listing(builder, slot, pending, f"{slot} is no longer needed, but may have been created")


def _await_listing(builder: PlanBuilder, slot: Slot, pending: Creation) -> None:
    view = builder.view
    if pending.presumed_absent:
        _settle(builder, slot, f"{pending.instance} terminated before a listing showed it")
    elif view.now <= pending.ended_at + view.lag_s:
        _wait_for_listing(builder, slot, pending, f"{slot} was created as {pending.instance} and is not listed yet")
    else:
        listed = pending.instance in view.members  # as another's: see `state.matching`
        what = "lists it as another instance" if listed else "does not list it"
        remedy = "if you have confirmed that no instance was created, or that it has terminated, run: "
        remedy += "infrakit group resume "
        remedy = f"terminate {pending.instance}" if pending.inspected else remedy + builder.want.group.name
        builder.block(
            slot,
            f"{slot} was created as {pending.instance} {duration(view.now - pending.ended_at)} ago and the provider "
            f"{what}, although it promises to list it within {duration(view.lag_s)}: nothing more is created for it",
            "one-intent",
            refused=True,
            remedy=f"check the provider's listing; {remedy}",
        )


def _resolve_unknown(builder: PlanBuilder, slot: Slot, pending: Creation) -> None:
    view = builder.view
    what = f"the outcome of creating {slot} is unknown ({pending.error or 'the call was interrupted'})"
    if pending.refused and pending.presumed_absent:
        _settle(builder, slot, f"no listing shows it and the provider refuses it ({pending.error})")
    elif builder.want.tokens and not pending.misanswered:
        if pending.retry_at <= view.now:
            retry(builder, slot, pending, f"{what}: retrying with the same token")
        else:
            builder.block(
                slot,
                f"{what}; next retry with the same token in {duration(pending.retry_at - view.now)}",
                "one-intent",
                until=pending.retry_at,
            )
    elif not pending.presumed_absent:
        _wait_for_listing(builder, slot, pending, what)
    elif view.absences.get(slot, 0) < ABSENCES_MAX:
        _settle(
            builder, slot, f"no listing has shown it in {duration(view.now - pending.ended_at)}: it created nothing"
        )
    else:
        builder.block(
            slot,
            f"{what}, as the one before it was, and no listing shows either: nothing more is created for this slot",
            "one-intent",
            refused=True,
            remedy="check at the provider whether the instances exist; if you have confirmed that they do not, run: "
            f"infrakit group resume {builder.want.group.name}",
        )


def _wait_for_listing(builder: PlanBuilder, slot: Slot, pending: Creation, what: str) -> None:
    until = pending.ended_at + builder.view.lag_s
    builder.block(
        slot,
        f"{what}: waiting for a listing that shows its token",
        "one-intent",
        until=max(until, builder.view.now + 1.0),
    )
