"""What really happened to each instance, as the simulated providers recorded it. Pure; times are loop times."""

import enum
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from infrakit.simulation.rehearsal.groups import RehearsedGroup
from infrakit.spi.values import Attachment, InstanceID


class Cause(enum.Enum):
    """Why an instance has terminated."""

    FAULT = "fault"  # injected
    INFRAKIT = "infrakit"  # a call of InfraKit destroyed it
    LIFETIME = "lifetime"  # its declared lifetime was over


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One instance, from its creation to its termination; infinite: that did not happen."""

    id: InstanceID
    member: str
    is_bad: bool  # of the version that the exercise has committed
    attachments: tuple[Attachment, ...]
    created_at: float
    healthy_at: float
    unhealthy_at: float
    ended_at: float
    cause: Cause | None = None  # None: it is live

    @property
    def serves_until(self) -> float:
        """When it stopped being healthy."""
        return min(self.unhealthy_at, self.ended_at)

    def is_live(self, at: float) -> bool:
        return self.created_at <= at < self.ended_at

    def is_healthy(self, at: float) -> bool:
        return self.healthy_at <= at < self.serves_until

    def was_healthy_before(self, at: float) -> bool:
        """Whether it was healthy immediately before that time."""
        return self.healthy_at < at <= self.serves_until

    def was_unhealthy_before(self, at: float, *, boot_grace_s: float) -> bool:
        """Whether it was live and unhealthy immediately before that time, and had had the time to boot."""
        booted = self.healthy_at < at or at >= self.created_at + boot_grace_s
        return self.created_at < at <= self.ended_at and booted and not self.was_healthy_before(at)


class Step(NamedTuple):
    """The state of a group from one time on."""

    at: float
    live: int
    healthy: int
    whole: bool  # exactly the declared members, all healthy, with their volumes, of the declared version


def course(group: RehearsedGroup, lives: Iterable[Life]) -> list[Step]:
    """Return all states of a group, in order; the first is that without any instance."""
    changes: list[tuple[float, int, int, Life]] = []
    for life in lives:
        changes.append((life.created_at, 1, 0, life))
        if life.healthy_at < life.serves_until:
            changes.append((life.healthy_at, 0, 1, life))
            changes.append((life.serves_until, 0, -1, life))
        changes.append((life.ended_at, -1, 0, life))
    changes = sorted((each for each in changes if math.isfinite(each[0])), key=lambda each: each[0])
    declared = {each.name for each in group.members}
    steps, live, healthy, wrong = [Step(0.0, 0, 0, not group.size)], Counter[str](), 0, 0
    for at, is_live, is_healthy, life in changes:
        live[life.member] += is_live
        healthy += is_healthy
        wrong += is_live * _is_wrong(group, life, declared)
        if not live[life.member]:
            del live[life.member]
        number = live.total()
        whole = wrong == 0 and number == healthy == len(live) == group.size
        step = Step(at, number, healthy, whole)
        if at == steps[-1].at:
            steps.pop()
        steps.append(step)
    return steps


def _is_wrong(group: RehearsedGroup, life: Life, declared: set[str]) -> bool:
    """Whether the group is not whole while this instance is live: it is of the bad version, or not what is declared."""
    if not group.declared.is_pets:
        return life.is_bad
    return life.is_bad or life.member not in declared or not has_its_volumes(group, life)


def has_its_volumes(group: RehearsedGroup, life: Life) -> bool:
    """Whether a pet holds exactly the attachments that are declared for its logical ID."""
    declared = {str(name): each for name, each in group.attachments.items()}
    return set(life.attachments) == set(declared.get(life.member, ()))


def whole_from(steps: Sequence[Step], end: float) -> float | None:
    """The time from which the group was whole until `end`; None: it was not whole then."""
    found = None
    for step in reversed([each for each in steps if each.at <= end]):
        if not step.whole:
            break
        found = step.at
    return found
