"""Law 3, exactly one per intent: what becomes of each recorded creation that is not resolved yet.

An unresolved intent holds its slot, whatever listings show. A reply that was lost is asked for again *with the same
token* where the provider honours tokens. Elsewhere its token is looked for until every listing that could show it has
not; that may be concluded once for a slot. So a provider that lists nothing for ever gets no more creations than were
declared (twice as many, if it also loses every reply and honours no token), then a stop and an explanation.
"""

from infrakit.group.actions import Cancel, Priority, Provision, Settle
from infrakit.group.plan.draft import Draft, duration
from infrakit.group.view import Pending
from infrakit.spi.values import LogicalID, Slot

LAPSES_MAX = 1


def resolve(draft: Draft) -> None:
    """Settle, repeat, cancel or wait for every unresolved intent."""
    for slot, pending in draft.view.pending.items():
        if slot in draft.settled:
            _settle(draft, slot, "its instance is listed")
        elif slot in draft.unwanted:
            _abandon(draft, slot, pending)
        elif pending.phase == "refused":
            _settle(draft, slot, f"the provider refused it ({pending.error})")
        elif pending.phase == "created":
            _await_listing(draft, slot, pending)
        elif pending.phase == "recorded" and pending.retry_at > draft.view.now:
            wait = duration(pending.retry_at - draft.view.now)
            draft.hold(slot, f"{pending.error}; asked again in {wait}", "back-off", until=pending.retry_at)
        elif pending.phase == "recorded":
            again(draft, slot, pending, "it was recorded and not asked for yet")
        elif pending.phase == "unknown":
            _find_out(draft, slot, pending)


def again(draft: Draft, slot: Slot, pending: Pending, why: str) -> None:
    """Ask with the recorded token."""
    want = draft.want
    draft.actions.append(
        Provision(
            slot=slot,
            logical_id=LogicalID(slot) if want.group.is_pets else None,
            sequence=want.sequence(slot),
            hash=want.hash,
            token=pending.intent.token,
            reason=f"{slot} is declared and {why}",
            rule="missing",
            priority=Priority.QUORUM if want.quorum else Priority.HEAL,
        )
    )


def _settle(draft: Draft, slot: Slot, why: str) -> None:
    draft.actions.append(Settle(slot=slot, reason=f"the intent for {slot} is settled: {why}", rule="intent"))


def _abandon(draft: Draft, slot: Slot, pending: Pending) -> None:
    if pending.phase == "recorded":
        _settle(draft, slot, "it is not wanted any more and was never asked for")
    elif pending.phase == "calling":
        draft.actions.append(
            Cancel(slot=slot, reason=f"{slot} is being created and is not wanted any more", rule="surplus")
        )
    elif pending.lapsed or pending.phase == "refused":
        _settle(draft, slot, "it made nothing, or nothing that lives")
    else:
        _wait_for_listing(draft, slot, pending, f"{slot} is not wanted any more, but may have been created")


def _await_listing(draft: Draft, slot: Slot, pending: Pending) -> None:
    view = draft.view
    if pending.lapsed:
        _settle(draft, slot, f"{pending.instance} is gone: it died before a listing showed it")
    elif view.now <= pending.ended_at + view.lag_s:
        _wait_for_listing(draft, slot, pending, f"{slot} was created as {pending.instance} and is not listed yet")
    else:
        draft.hold(
            slot,
            f"{slot} was created as {pending.instance} {duration(view.now - pending.ended_at)} ago and the provider "
            f"does not list it, although it promises to within {duration(view.lag_s)}: nothing more is created for it",
            "one-intent",
            refused=True,
            remedy="see whether the provider's listing works; if the instance surely does not exist, say so: "
            f"infrakit group resume {draft.want.group.name}",
        )


def _find_out(draft: Draft, slot: Slot, pending: Pending) -> None:
    view = draft.view
    what = f"the outcome of creating {slot} is unknown ({pending.error or 'the call was interrupted'})"
    if pending.refused and pending.lapsed:
        _settle(draft, slot, f"no listing shows it and the provider refuses it ({pending.error})")
    elif draft.want.tokens:
        if pending.retry_at <= view.now:
            again(draft, slot, pending, f"{what}: asked again with the same token")
        else:
            draft.hold(
                slot,
                f"{what}; asked again with the same token in {duration(pending.retry_at - view.now)}",
                "one-intent",
                until=pending.retry_at,
            )
    elif not pending.lapsed:
        _wait_for_listing(draft, slot, pending, what)
    elif view.lapses.get(slot, 0) < LAPSES_MAX:
        _settle(draft, slot, f"no listing has shown it in {duration(view.now - pending.ended_at)}: it made nothing")
    else:
        draft.hold(
            slot,
            f"{what}, as the one before it was, and no listing shows either: nothing more is created for this slot",
            "one-intent",
            refused=True,
            remedy="find out at the provider whether the creations happened; if surely not, say so: "
            f"infrakit group resume {draft.want.group.name}",
        )


def _wait_for_listing(draft: Draft, slot: Slot, pending: Pending, what: str) -> None:
    until = pending.ended_at + draft.view.lag_s
    draft.hold(slot, f"{what}: its token is looked for", "one-intent", until=max(until, draft.view.now + 1.0))
