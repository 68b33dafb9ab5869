"""The promises of a declaration, each compared with what really happened to its instances (`lives`).

What an injected fault takes is no broken promise: only what InfraKit did, and what it did not restore in time. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from infrakit.simulation.rehearsal.groups import RehearsedGroup
from infrakit.simulation.rehearsal.lives import Cause, Life, Step, course, has_its_volumes, whole_from
from infrakit.simulation.rehearsal.outcome import Broken
from infrakit.spi.quorum import majority
from infrakit.spi.values import GroupID

PROMISES = {
    "one-instance": "a logical ID never has two live instances, and a volume never two holders",
    "same-volume": "the replacement of a pet has the volumes of its logical ID",
    "no-surplus": "never more instances than declared, and MaxSurge",
    "capacity": "no healthy instance is destroyed, except in a rolling update as far as MaxUnavailable permits",
    "max-unhealthy": "no instance is destroyed while more than MaxUnhealthy are unhealthy",
    "majority": "a quorum does not lose its majority by an action of InfraKit",
    "whole": "every declared instance is healthy again in time",
    "bad-version": "a rolling update to a version that fails stops, and takes MaxUnavailable old instances at most",
}


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in one exercise. Times are loop times."""

    lives: Mapping[GroupID, Sequence[Life]]
    fault_at: float  # when the fault was injected; the end, if the groups were never whole before
    end: float
    within_s: float
    is_rolling: bool  # a version that fails was committed
    came_to_rest: bool  # nothing changed any more at the end
    reasons: Mapping[GroupID, str] = {}  # why a group is not whole at the end, as InfraKit explains it


def broken(groups: Sequence[RehearsedGroup], happened: Course) -> list[Broken]:
    """Return the first violation of each promise in each group."""
    found: list[Broken] = []
    for group in groups:
        lives = happened.lives.get(group.name, ())
        steps = course(group, lives)
        checks = (
            _second_instances(group, lives),
            _volumes(group, lives),
            _surplus(group, steps),
            _destructions(group, lives, happened),
            _wholeness(group, lives, steps, happened),
            _bad_version(group, lives, happened),
        )
        violations = sorted((each for check in checks for each in check), key=lambda each: each.at_s)
        first = {each.promise: each for each in reversed(violations)}
        found += sorted(first.values(), key=lambda each: each.at_s)
    found += _shared_volumes(groups, happened)
    return [msgspec.structs.replace(each, at_s=round(each.at_s - happened.fault_at, 1)) for each in found]


def _broken(promise: str, group: RehearsedGroup, at: float, why: str) -> Broken:
    return Broken(promise=promise, group=group.name, at_s=at, why=why)


def _second_instances(group: RehearsedGroup, lives: Sequence[Life]) -> Iterator[Broken]:
    if not group.declared.is_pets:
        return
    last: dict[str, Life] = {}
    for life in sorted(lives, key=lambda each: each.created_at):
        before = last.get(life.member)
        if before is not None and life.created_at < before.ended_at:
            why = f"{life.id} was created as {life.member} while {before.id} was live"
            yield _broken("one-instance", group, life.created_at, why)
        if before is None or life.ended_at > before.ended_at:
            last[life.member] = life


def _shared_volumes(groups: Sequence[RehearsedGroup], happened: Course) -> list[Broken]:
    """Report volumes that two instances of different logical IDs or groups held at the same time."""
    held = [
        (life.created_at, each.id, group, life)
        for group in groups
        for life in happened.lives.get(group.name, ())
        for each in life.attachments
    ]
    holders: dict[str, tuple[GroupID, Life]] = {}
    for at, volume, group, life in sorted(held, key=lambda each: each[0]):
        other = holders.get(volume)
        if other is not None and at < other[1].ended_at and (group.name, life.member) != (other[0], other[1].member):
            return [_broken("one-instance", group, at, f"{life.id} and {other[1].id} both hold the volume {volume}")]
        holders[volume] = group.name, life
    return []


def _volumes(group: RehearsedGroup, lives: Sequence[Life]) -> Iterator[Broken]:
    if not group.declared.is_pets:
        return
    for life in lives:
        if not has_its_volumes(group, life):
            held = ", ".join(each.id for each in life.attachments) or "no volume"
            yield _broken("same-volume", group, life.created_at, f"{life.id} was created as {life.member} with {held}")


def _surplus(group: RehearsedGroup, steps: Sequence[Step]) -> Iterator[Broken]:
    limit = group.size + group.surge
    for step in steps:
        if step.live > limit:
            more = f" and MaxSurge {group.surge}" if group.surge else ""
            yield _broken("no-surplus", group, step.at, f"{step.live} were live, and {group.size} are declared{more}")


def _destructions(group: RehearsedGroup, lives: Sequence[Life], happened: Course) -> Iterator[Broken]:
    """Judge each destruction by InfraKit by the state of its group immediately before."""
    for life in lives:
        if life.cause is not Cause.INFRAKIT:
            continue
        at = life.ended_at
        healthy = sum(each.was_healthy_before(at) for each in lives)
        if life.was_healthy_before(at):
            yield from _healthy_destroyed(group, life, healthy, happened)
            continue
        grace_s = group.boot_grace_s
        unhealthy = sum(each.was_unhealthy_before(at, boot_grace_s=grace_s) for each in lives)
        if group.quorum:
            unhealthy = max(unhealthy, group.size - healthy)
        if unhealthy > group.max_unhealthy:
            what = "were not healthy" if group.quorum else "were unhealthy"
            who = f"{life.id} ({life.member}) was destroyed"
            why = f"{who} while {unhealthy} {what}; MaxUnhealthy is {group.max_unhealthy}"
            yield _broken("max-unhealthy", group, at, why)


def _healthy_destroyed(group: RehearsedGroup, life: Life, healthy: int, happened: Course) -> Iterator[Broken]:
    at, left = life.ended_at, healthy - 1
    rolling = happened.is_rolling and at >= happened.fault_at
    who = f"{life.id} ({life.member}) was destroyed while healthy"
    if not rolling:
        yield _broken("capacity", group, at, f"{who}, and {left} of {group.size} were left healthy")
    elif left < group.size - group.unavailable:
        why = f"{who}: {left} of {group.size} were left healthy, and MaxUnavailable permits {group.unavailable} less"
        yield _broken("capacity", group, at, why)
    needed = majority(group.size)
    if group.quorum and group.size > 2 and left < needed <= healthy:
        yield _broken("majority", group, at, f"{who}: {left} were left healthy, and the quorum needs {needed}")


def _wholeness(
    group: RehearsedGroup, lives: Sequence[Life], steps: Sequence[Step], happened: Course
) -> Iterator[Broken]:
    since, deadline = whole_from(steps, happened.end), happened.fault_at + happened.within_s
    if since is not None and since <= deadline:
        return
    at = min(happened.end, deadline)
    live, healthy = (sum(each(life, at) for life in lives) for each in (Life.is_live, Life.is_healthy))
    when = "" if happened.fault_at < happened.end else "never whole after the commit: "
    reason = happened.reasons.get(group.name, "")
    why = f"{when}{healthy} of {group.size} were healthy and {live} live" + (f"; {reason}" if reason else "")
    yield _broken("whole", group, at, why)


def _bad_version(group: RehearsedGroup, lives: Sequence[Life], happened: Course) -> Iterator[Broken]:
    if not happened.is_rolling:
        return
    bad = [each for each in lives if each.is_bad]
    limit = max(1, group.unavailable + group.surge)
    for life in bad:
        together = sum(each.is_live(life.created_at) for each in bad)
        if together > limit:
            why = f"{together} instances of the version that fails were live at once, and the policy permits {limit}"
            yield _broken("bad-version", group, life.created_at, why)
    if bad and not happened.came_to_rest:
        last = max(bad, key=lambda each: each.created_at)
        why = f"it has not stopped: {len(bad)} instances of that version were created, the last one is {last.id}"
        yield _broken("bad-version", group, happened.end, why)
    old = sum(each.is_healthy(happened.end) and not each.is_bad for each in lives)
    if old < group.size - group.unavailable:
        why = f"{old} of {group.size} old instances were healthy at the end; MaxUnavailable is {group.unavailable}"
        yield _broken("bad-version", group, happened.end, why)
