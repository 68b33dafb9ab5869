"""One exercise in a world of its own: the declaration is committed and converges, then the fault is injected."""

import asyncio
import random
from collections.abc import Iterator, Sequence

import msgspec

from infrakit.instances.simulator import Machine
from infrakit.instances.simulator.machine import Properties
from infrakit.simulation import loop
from infrakit.simulation.rehearsal import promises
from infrakit.simulation.rehearsal.exercises import Exercise
from infrakit.simulation.rehearsal.groups import RehearsedGroup
from infrakit.simulation.rehearsal.lives import Cause, Life, course, whole_from
from infrakit.simulation.rehearsal.outcome import ExerciseOutcome, GroupOutcome, Line
from infrakit.simulation.rehearsal.promises import Course
from infrakit.simulation.rehearsal.providers import RehearsedPlugins, RehearsedProvider, group_of, member_of
from infrakit.simulation.single import SingleReplica
from infrakit.spec import document, validate
from infrakit.spi.event import Event
from infrakit.spi.quorum import majority
from infrakit.spi.values import GroupID, InstanceID

CHECK_S = 5.0  # between two checks whether a world has come to rest
PROVEN_S = 30.0  # after the proof by Settle and BakeTime, until it is certain that the version is recorded as proven
REASONS_MAX = 3
WHO = "rehearsal"
ALL = 100_000  # a commit consents to whatever it destroys


def rehearse(groups: Sequence[RehearsedGroup], exercise: Exercise, *, seed: int, within_s: float) -> ExerciseOutcome:
    """Run one exercise and judge it. The same seed repeats the same run. `within_s`: the time to be whole again."""
    return loop.run(_World(groups, exercise, seed=seed, within_s=within_s).run())


class _World:
    """The replica, its simulated providers, and what has happened to them."""

    def __init__(self, groups: Sequence[RehearsedGroup], exercise: Exercise, *, seed: int, within_s: float) -> None:
        self._groups = groups
        self._exercise = exercise
        self._within_s = within_s
        self._rng = random.Random(seed)
        shapes = {group.declared.properties.instance.plugin: group.provider for group in groups}
        self._plugins = RehearsedPlugins(shapes, self._rng)
        self._lines: list[Line] = []
        self._calm_s = max((group.calm_s for group in groups), default=0.0)
        self._came_to_rest = False
        self._whole_since: float | None = None  # the last change, since which all groups have been whole

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def run(self) -> ExerciseOutcome:
        async with _Recorded(plugins=self._plugins, random=self._rng, lines=self._lines) as replica:
            await replica.replica.active.wait()
            await self._commit(replica, bad=False)
            end = self.now + self._within_s
            while not self._is_whole() and self.now < end:  # noqa: ASYNC110 - virtual time costs nothing
                await asyncio.sleep(CHECK_S)
            fault_at = self.now
            if self._is_whole():
                await asyncio.sleep(max(group.proving_s for group in self._groups) + PROVEN_S)
                fault_at = self.now
                await self._inject(replica)
                await self._rest(fault_at)
            return await self._judged(replica, fault_at)

    async def _commit(self, replica: SingleReplica, *, bad: bool) -> None:
        text = document.render([group.simulated(bad=bad) for group in self._groups])
        why = "a version that fails" if bad else "the declaration"
        await replica.operator.commit(text=text, source="rehearsal", who=WHO, why=why, destroys=ALL)

    # -- faults ------------------------------------------------------------------------------------------------------

    async def _inject(self, replica: SingleReplica) -> None:
        exercise, self._whole_since = self._exercise, None
        if exercise.bad_version:
            await self._commit(replica, bad=True)
            return
        self._plugins.inject(exercise.faults, exercise.chosen if exercise.closed_s else ())
        if exercise.faults:
            self._fault("", "", exercise.title.partition(", and ")[0])
        for provider, machine in list(self._failing()):
            if exercise.terminates:
                provider.terminate(machine.id)
            else:
                provider.make_unhealthy(machine.id)
            what = "terminates" if exercise.terminates else "becomes unhealthy"
            self._fault(group_of(machine), member_of(machine), f"{machine.id} {what}")

    def _failing(self) -> Iterator[tuple[RehearsedProvider, Machine]]:
        """Yield the instances that fail, chosen by the seed unless they are named."""
        live = [(provider, each) for provider in self._plugins.providers.values() for each in provider.live()]
        for group in self._groups:
            own = [each for each in live if group_of(each[1]) == group.name]
            if self._exercise.chosen:
                yield from (each for each in own if (group.name, member_of(each[1])) in self._exercise.chosen)
            else:
                yield from self._rng.sample(own, min(len(own), self._exercise.number(group)))

    def _fault(self, group: str, member: str, message: str) -> None:
        self._lines.append(Line(at_s=self.now, what="fault", group=group, member=member, message=message))

    async def _rest(self, fault_at: float) -> None:
        """Wait until the faults are over and nothing changes any more, at most until the time is over."""
        over_at, lasts = fault_at + self._exercise.lasts_s, bool(self._exercise.lasts_s)
        end = fault_at + self._within_s
        if self._exercise.bad_version:
            end += self._calm_s + CHECK_S  # what has stopped in time comes to rest by then
        while self.now < end:
            if lasts and self.now >= over_at:
                lasts = False
                self._plugins.inject({}, ())
                self._fault("", "", "the fault is over")
            changed_at = max(self._plugins.changed_at, over_at)
            is_done = self._exercise.bad_version or self._is_whole()
            if is_done and self.now - changed_at >= self._calm_s:
                self._came_to_rest = True
                return
            await asyncio.sleep(CHECK_S)

    # -- what has happened -------------------------------------------------------------------------------------------

    def _lives(self, group: GroupID) -> list[Life]:
        return [_life(provider, each) for provider, each in self._plugins.machines() if group_of(each) == group]

    def _is_whole(self) -> bool:
        number = sum(len(provider.live()) for provider in self._plugins.providers.values())
        if self._whole_since == self._plugins.changed_at:
            return True
        now = self.now
        whole = number == sum(group.size for group in self._groups) and all(
            whole_from([each for each in course(group, self._lives(group.name)) if each.at <= now], now) is not None
            for group in self._groups
        )
        self._whole_since = self._plugins.changed_at if whole else None
        return whole

    async def _judged(self, replica: SingleReplica, fault_at: float) -> ExerciseOutcome:
        lives = {group.name: self._lives(group.name) for group in self._groups}
        happened = Course(
            lives=lives,
            fault_at=fault_at,
            end=self.now,
            within_s=self._within_s,
            is_rolling=self._exercise.bad_version,
            came_to_rest=self._came_to_rest,
            reasons=await _reasons(replica),
        )
        outcomes = [_outcome(group, happened) for group in self._groups]
        for group in outcomes:
            if group.whole_after_s:
                message = f"all {group.size} are healthy"
                self._lines.append(
                    Line(at_s=fault_at + group.whole_after_s, what="whole", group=group.group, message=message)
                )
        shown = sorted((each for each in self._lines if each.at_s >= fault_at), key=lambda each: each.at_s)
        return ExerciseOutcome(
            exercise=self._exercise.option,
            title=self._exercise.title,
            timeline=tuple(msgspec.structs.replace(each, at_s=round(each.at_s - fault_at, 1)) for each in shown),
            groups=tuple(outcomes),
            broken=tuple(promises.broken(self._groups, happened)),
        )


class _Recorded(SingleReplica):
    """A replica whose events are lines of the timeline."""

    def __init__(self, *, plugins: RehearsedPlugins, random: random.Random, lines: list[Line]) -> None:
        super().__init__(plugins=plugins, random=random)
        self._lines = lines

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        at_s = asyncio.get_running_loop().time()
        about = event.slot or event.instance or ""
        self._lines.append(
            Line(at_s=at_s, what=str(event.type), group=event.group or "", member=about, message=event.message)
        )


async def _reasons(replica: SingleReplica) -> dict[GroupID, str]:
    """Return why groups have not converged, as InfraKit explains it."""
    found = {}
    for group in (await replica.operator.status()).groups:
        blocked = dict.fromkeys(f"{each.subject}: {each.reason}" for each in group.waiting)
        if not group.converged and blocked:
            found[group.name] = "; ".join(list(blocked)[:REASONS_MAX])
    return found


def _life(provider: RehearsedProvider, machine: Machine) -> Life:
    cause = None
    if not machine.lives:
        is_over = machine.terminated_at >= machine.terminates_at
        cause = Cause.FAULT if machine.id in provider.killed else Cause.LIFETIME if is_over else Cause.INFRAKIT
    return Life(
        id=InstanceID(machine.id),
        member=member_of(machine),
        is_bad=validate.properties(machine.properties, Properties).never_healthy,
        attachments=machine.attachments,
        created_at=machine.created_at,
        healthy_at=machine.healthy_at,
        unhealthy_at=machine.unhealthy_at,
        ended_at=machine.terminated_at,
        cause=cause,
    )


def _outcome(group: RehearsedGroup, happened: Course) -> GroupOutcome:
    steps = course(group, happened.lives[group.name])
    before = [each for each in steps if each.at <= happened.fault_at][-1:]
    after = [each for each in steps if happened.fault_at < each.at <= happened.end]
    lowest = min((*before, *after), key=lambda each: each.healthy)
    since = whole_from(steps, happened.end)
    return GroupOutcome(
        group=group.name,
        size=group.size,
        majority=majority(group.size) if group.quorum else None,
        lowest=lowest.healthy,
        lowest_at_s=round(max(0.0, lowest.at - happened.fault_at), 1),
        whole_after_s=None if since is None else round(max(0.0, since - happened.fault_at), 1),
    )
