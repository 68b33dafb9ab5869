"""The operator's interface to a running InfraKit: service `Manager` on the wire.

Answers are values made for people as well as programs: every sentence in them was made where the decision was made.
Times are ISO 8601 UTC, ages and durations are seconds.
"""

import enum
from typing import Protocol, runtime_checkable

import msgspec

from infrakit.spi.instance import LogPart
from infrakit.spi.values import (
    Allocation,
    Attachment,
    GroupID,
    InstanceID,
    LogicalID,
    Slot,
    Wire,
)


class Reasoned(Wire, frozen=True, kw_only=True, gc=False):
    """An action, a wait or a refusal: what about what, why, by which rule, and what would change it."""

    verb: str  # create destroy label cancel pause rollback | wait refuse
    subject: str  # an instance ID, a slot, or the group's name
    reason: str  # one sentence with the facts and their age
    rule: str = ""  # the rule's name as the operations guide lists it: `max-unhealthy`, `one-bearer`, ...
    remedy: str = ""  # what would change the answer
    next_look: str = ""  # ISO 8601: when it will be looked at again at the latest
    order: int = 0  # actions of one plan in the order they are taken, from 1


class Halt(Wire, frozen=True, kw_only=True, gc=False):
    """An operator's stop."""

    group: GroupID | None = None  # None: everything
    who: str
    when: str
    why: str


class Verdict(enum.StrEnum):
    """Health as a word. Between plugins it is the original's number, `spi.values.Health`, by the same names."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class MemberStatus(Wire, frozen=True, kw_only=True):
    """One instance of a group, or one that is being made."""

    group: GroupID
    id: InstanceID | None = None
    slot: Slot | None = None
    logical_id: LogicalID | None = None
    state: str  # creating running missing draining destroying finished
    health: Verdict = Verdict.UNKNOWN
    note: str = ""  # the fact the health rests on
    health_age_s: float | None = None
    age_s: float | None = None
    up_to_date: bool = False
    hash: str = ""
    is_self: bool = False
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()


class GroupStatus(Wire, frozen=True, kw_only=True):
    """One group now, against what it is declared to be."""

    name: GroupID
    kind: str  # cattle pets
    allocation: Allocation
    hash: str
    want: int
    live: int  # proven or assumed to live
    healthy: int
    up_to_date: int
    converged: bool
    phase: str  # converged healing scaling rolling paused halted destroying unknown ...
    observed_age_s: float | None = None  # None: not observed yet
    doing: tuple[Reasoned, ...] = ()  # in flight or next
    waiting: tuple[Reasoned, ...] = ()  # waits and refusals
    halt: Halt | None = None


class Status(Wire, frozen=True, kw_only=True):
    """This replica and every group."""

    leader: bool
    replica: str
    epoch: int
    version: int  # of the declaration
    pid: int
    started: str
    now: str
    halts: tuple[Halt, ...] = ()
    groups: tuple[GroupStatus, ...] = ()
    leading: str = ""  # the replica that leads, if another one does
    note: str = ""  # why the groups are not told


class ReplicaStatus(Wire, frozen=True, kw_only=True):
    """One replica, as the roster names it and as it answers."""

    name: str
    role: str  # leader, follower, or away: it does not answer
    address: str
    version: str  # of InfraKit
    format: int  # of the store's documents: the newest that it reads
    host: str
    pid: int
    started: str
    took_s: float | None = None  # to answer
    note: str = ""  # why it is away, or what it says of itself


class LeaderStatus(Wire, frozen=True, kw_only=True):
    """Who leads, as the store and the replicas tell it."""

    leader: str = ""  # the replica that holds the epoch; nobody, if empty
    epoch: int = 0
    since: str = ""  # when the epoch was taken
    replica: str  # who answers this
    observed: str = ""  # what this replica's source of leadership said last
    observed_age_s: float | None = None
    replicas: tuple[ReplicaStatus, ...] = ()
    note: str = ""  # why the store does not tell who leads


class GroupPlan(Wire, frozen=True, kw_only=True):
    """What would happen to one group. Nothing was done."""

    group: GroupID
    summary: str
    actions: tuple[Reasoned, ...] = ()
    waiting: tuple[Reasoned, ...] = ()


class Change(Wire, frozen=True, kw_only=True, gc=False):
    """One difference between two declarations: `path`, old and new value as JSON text. Values may be secrets."""

    path: str
    old: str | None = None
    new: str | None = None


class Committed(Wire, frozen=True, kw_only=True):
    """The answer to a change of the declaration, given once it is durable."""

    version: int  # the one before, if unchanged
    unchanged: bool = False  # the declaration and its orders were already so
    changes: tuple[Change, ...] = ()  # of the declared groups; an order, such as a halt, changes none
    notes: tuple[str, ...] = ()  # what to know besides, a sentence each: a halt in the way, an end that is revoked


class Planned(Wire, frozen=True, kw_only=True):
    """The answer to a pretended commit."""

    base_version: int
    changes: tuple[Change, ...] = ()
    groups: tuple[GroupPlan, ...] = ()


class Version(Wire, frozen=True, kw_only=True):
    """One entry of the history."""

    version: int
    when: str
    who: str
    why: str
    what: str  # commit scale halt unhalt pause resume abort rollback restore free destroy ...
    hash: str  # SHA-256 of the declared groups
    groups: tuple[GroupID, ...] = ()


class Explanation(Wire, frozen=True, kw_only=True):
    """Why something is as it is: facts with their age, what is done or not done and by which rule, and its story."""

    subject: str
    summary: str
    facts: tuple[str, ...] = ()
    doing: tuple[Reasoned, ...] = ()
    waiting: tuple[Reasoned, ...] = ()
    story: tuple[str, ...] = ()  # events of this object, oldest first, one sentence each with its time
    next_look: str = ""


@runtime_checkable
class Manager(Protocol):
    """Every changing method takes `who` and `why`, is one compare-and-swap, and is durable when it returns.

    `expected` is the version the caller has seen: if the declaration has moved on, `Conflict` says what changed.
    None means: apply to whatever is newest, which is safe for orders that touch one thing only.
    """

    async def status(self) -> Status: ...

    async def commit(self, *, text: str, source: str, who: str, why: str, expected: int | None = None) -> Committed:
        """Declare the groups of a document (YAML or JSON); groups it does not name are untouched.

        `source` is the document's name for error messages. Raises `InvalidSpec`, `Conflict`.
        """
        ...

    async def plan(self, *, text: str, source: str) -> Planned:
        """What committing this document would do. An empty text plans the present declaration."""
        ...

    async def why(self, *, group: GroupID, subject: str = "") -> Explanation:
        """Explain a group, or one of its instances, slots or logical IDs. Raises `NotFound`."""
        ...

    async def members(self, *, group: GroupID | None = None) -> tuple[MemberStatus, ...]: ...

    async def scale(
        self, *, group: GroupID, size: int, who: str, why: str, expected: int | None = None
    ) -> Committed: ...

    async def halt(self, *, group: GroupID | None = None, who: str, why: str) -> Committed: ...

    async def unhalt(self, *, group: GroupID | None = None, who: str, why: str) -> Committed: ...

    async def pause(self, *, group: GroupID, who: str, why: str) -> Committed:
        """Take no further instance of the roll under way; healing goes on."""
        ...

    async def resume(self, *, group: GroupID, who: str, why: str, despite_unhealthy: bool = False) -> Committed:
        """Lift a pause or abort, try at once what is backed off, and give up creations that no listing shows.

        `despite_unhealthy`: those sick now may be replaced, though they are too many.
        """
        ...

    async def abort(self, *, group: GroupID, who: str, why: str) -> Committed:
        """End the roll where it stands: what dies is made again as it was before the roll. Until the next commit."""
        ...

    async def rollback(self, *, group: GroupID, who: str, why: str) -> Committed:
        """Declare the group's previous version again."""
        ...

    async def free(self, *, group: GroupID, who: str, why: str) -> Committed:
        """Stop managing the group; touch nothing."""
        ...

    async def destroy(self, *, group: GroupID, who: str, why: str, volumes: bool = False) -> Committed:
        """Declare that nothing of the group shall exist; its attachments are kept unless `volumes`."""
        ...

    async def destroy_instance(self, *, instance: InstanceID, who: str, why: str, replace: bool = True) -> Committed:
        """Destroy a named instance; without `replace`, the size shrinks by it in the same atomic change."""
        ...

    async def logs(self, *, instance: InstanceID, lines: int = 100) -> str: ...

    async def tail(self, *, instance: InstanceID, after: int | None = None, lines: int = 100) -> LogPart:
        """Its log from a position on; with None, the last lines. Raises `Refused` if its provider cannot tell."""
        ...

    async def history(self, *, limit: int = 50) -> tuple[Version, ...]: ...

    async def show(self, *, version: int) -> str:
        """The groups declared at that version, as a JSON document."""
        ...

    async def restore(self, *, version: int, who: str, why: str, expected: int | None = None) -> Committed:
        """Declare the groups of an earlier version again, as a new version."""
        ...

    async def leader(self) -> LeaderStatus:
        """Who leads, and every replica that the roster knows."""
        ...

    async def resign(self, *, who: str, why: str) -> None:
        """Let another replica lead. Raises `NotLeader`, and `Refused` where the source of leadership cannot be told."""
        ...

    async def shutdown(self, *, who: str, why: str) -> None:
        """Stop the daemon; instances stay as they are."""
        ...
