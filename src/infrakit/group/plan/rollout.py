"""Rolling updates: replace out-of-date members within MaxUnavailable; replacements become healthy before the next step.

Order: unhealthy first, then by name, this controller's own node last. A failing version is paused or rolled
back, see OnFailure.
"""

from infrakit.group.actions import Priority, StopRollout
from infrakit.group.orders import RolloutStop
from infrakit.group.plan import limits, progress, tags
from infrakit.group.plan.builder import PlanBuilder, duration, plural, times
from infrakit.group.plan.canary import Canary
from infrakit.group.state.member import Member
from infrakit.spi.event import to_the_second
from infrakit.spi.group import OnFailure
from infrakit.spi.values import BOOTSTRAP

FAILURES_MAX = 3  # of one slot, during a rolling update


def update(builder: PlanBuilder) -> None:
    """Replace the next out-of-date members, as many as the update policy allows."""
    want, classified = builder.want, builder.classified
    rolling = want.is_unproven or builder.view.rolling_to == want.group.hash
    failure = _failure(builder) if rolling and not want.rollout_stopped else ""
    if failure:
        back = want.rolls_back_to if want.group.properties.updating.on_failure is OnFailure.ROLLBACK else None
        verdict = f"version {short(back.hash)} is declared again" if back else "the rolling update is paused"
        builder.actions.append(
            StopRollout(
                hash=want.group.hash, rollback=back is not None, reason=f"{failure}: {verdict}", rule="on-failure"
            )
        )
        return
    if not classified.outdated:
        return
    if want.stop is not None:
        _explain_stop(builder, want.stop)
        return
    why = limits.breaker(builder)
    if why:
        limits.refuse(builder, want.group.name, f"{plural(len(classified.outdated), 'instance')} not updated", why)
        return
    _replace_next(builder)


def _replace_next(builder: PlanBuilder) -> None:
    want, classified = builder.want, builder.classified
    outdated = [m for m in classified.outdated if m.id not in builder.chosen]
    ready, unhealthy = {m.id for m in classified.ready}, {m.id for m in classified.unhealthy}
    available = limits.ready_count(builder) - classified.settling
    disrupted = len(builder.leaving) + builder.pending + _vacant(builder) + classified.settling
    still_leaving = any(m.hash not in {want.group.hash, BOOTSTRAP} for m in classified.leaving)
    for member in sorted(outdated, key=lambda m: (m.is_self, m.id not in unhealthy, _name(m))):
        if builder.canary is not None and builder.canary.room <= _vacant(builder):
            _explain_canary(builder, builder.canary)
            return
        if tags.blocks_replacement(builder, member):
            return
        if member.is_self and (len(outdated) > 1 or still_leaving):
            builder.block(member.id, "this controller runs on it: it is updated last", "own-node-last")
            return
        if member.id in ready:
            if available - 1 < want.size - want.max_unavailable:
                _explain_wait(builder, member, available)
                return
            available -= 1
        elif member.id in unhealthy:
            if disrupted >= max(1, want.max_unavailable):
                _explain_wait(builder, member, available)
                return
        else:
            builder.block(
                member.id, f"{member.id} is out of date, and its health is unknown", "unknown-is-not-acted-on"
            )
            continue
        disrupted += 1
        builder.destroy(
            member,
            f"created from version {short(member.hash)}, declared is {short(want.group.hash)}",
            "out-of-date",
            Priority.UPDATE,
            rolling=True,
        )


def _vacant(builder: PlanBuilder) -> int:
    """Return how many declared members have no instance that stays: new ones will take the places of canaries."""
    return max(0, builder.want.size - builder.staying - builder.pending)


def _failure(builder: PlanBuilder) -> str:
    """Return why the new version has failed, or an empty string."""
    want, version = builder.want, builder.want.group.hash
    is_proven = want.proven is not None and not want.is_unproven  # then an unhealthy member is no evidence against it
    for member in () if is_proven else builder.classified.replaceable:
        if member.hash == version and not member.leaving:
            note = f" ({member.report.note})" if member.report is not None and member.report.note else ""
            return f"{member.id}, created from the new version {short(version)}, is unhealthy{note}"
    for slot, backoff in builder.view.backoffs.items():
        if backoff.version == version and backoff.count >= FAILURES_MAX:
            return f"{slot} has failed {times(backoff.count)} with the new version {short(version)} ({backoff.why})"
    return progress.stalled(builder)


def _explain_stop(builder: PlanBuilder, command: RolloutStop) -> None:
    name = builder.want.group.name
    remedy = f"infrakit group resume {name}, infrakit group rollback {name}, or commit another version"
    builder.block(
        name,
        f"{plural(len(builder.classified.outdated), 'instance')} out of date; the rolling update was "
        f"{'aborted' if command.aborted else 'paused'} by {command.who} at {to_the_second(command.when)}: "
        f"{command.why}",
        "rollout-stopped",
        refused=True,
        remedy=remedy,
    )


def _explain_canary(builder: PlanBuilder, canary: Canary) -> None:
    builder.block(
        builder.want.group.name,
        f"{plural(len(builder.classified.outdated), 'instance')} not updated yet: canaries healthy for "
        f"{duration(builder.want.bake_s)}: {canary.baked} of {canary.declared}",
        "canary",
        until=canary.baked_at,
    )


def _explain_wait(builder: PlanBuilder, member: Member, available: int) -> None:
    want, classified = builder.want, builder.classified
    hint = f" ({plural(classified.settling, 'new one')} must stay healthy longer)" if classified.settling else ""
    builder.block(
        member.id,
        f"out of date, and next: {max(0, available)} of {want.size} are available{hint}, "
        f"and {plural(want.max_unavailable, 'instance')} may be unavailable",
        "max-unavailable",
        until=classified.next_check,
    )


def _name(member: Member) -> tuple[int, str]:
    """Sort key: slots of cattle by number, others by name."""
    name = member.slot or member.id
    return (int(name) if name.isdigit() else 0, name)


def short(version: str) -> str:
    return version[:8] or "none"
