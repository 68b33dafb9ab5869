"""The values that a rehearsal returns. Times are seconds after the fault."""

from infrakit.spi.values import GroupID, Wire


class Line(Wire, frozen=True, kw_only=True, gc=False):
    """One line of the timeline: an injected fault, a change of the true state, or an event of InfraKit."""

    at_s: float
    what: str  # fault, whole, incomplete, or the type of the event
    group: str = ""
    member: str = ""
    message: str = ""


class GroupOutcome(Wire, frozen=True, kw_only=True, gc=False):
    """How one group came through an exercise."""

    group: GroupID
    size: int
    majority: int | None = None  # of a quorum
    lowest: int  # the lowest number of healthy instances
    lowest_at_s: float
    whole_after_s: float | None = None  # None: it was not whole at the end


class Broken(Wire, frozen=True, kw_only=True, gc=False):
    """A promise that was broken."""

    promise: str  # a name of `promises.PROMISES`
    group: GroupID
    at_s: float
    why: str


class ExerciseOutcome(Wire, frozen=True, kw_only=True):
    """The result of one exercise."""

    exercise: str  # the option that requests it
    title: str
    timeline: tuple[Line, ...] = ()
    groups: tuple[GroupOutcome, ...] = ()
    broken: tuple[Broken, ...] = ()


class Simulated(Wire, frozen=True, kw_only=True, gc=False):
    """What was simulated instead of the plugins of one group."""

    group: GroupID
    instance: str  # the declared instance plugin
    flavor: str  # the declared flavor
    size: int
    quorum: bool
    volumes: int
    boot_s: float  # until a new instance is healthy


class Rehearsal(Wire, frozen=True, kw_only=True):
    """All exercises with one document."""

    source: str
    seed: int
    within_s: float
    kept: bool  # no promise was broken
    simulated: tuple[Simulated, ...]
    exercises: tuple[ExerciseOutcome, ...]
