"""The operator's interface to a running InfraKit: service `Manager` on the wire.

Answers serve people as well as programs: the code that makes a decision also writes the sentence that explains it.
Times are ISO 8601 UTC, ages and durations are seconds.
"""

import enum
from typing import Protocol, runtime_checkable

import msgspec

from infrakit.spi.instance import LogPart
from infrakit.spi.repeat import repeatable
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
    """An action, a wait or a refusal: its subject, the reason, the rule that applies, and the remedy."""

    verb: str  # create destroy label cancel pause rollback | wait refuse
    subject: str  # an instance ID, a slot, or the group's name
    reason: str  # one sentence with the facts and their age
    rule: str = ""  # the rule's name in the operations guide: `max-unhealthy`, `one-per-logical-id`, ...
    remedy: str = ""  # what would change the decision
    next_look: str = ""  # ISO 8601: the latest time of the next check
    order: int = 0  # position of the action in its plan, from 1


class Halt(Wire, frozen=True, kw_only=True, gc=False):
    """A halt: an operator has stopped all actions on one group, or on every group."""

    group: GroupID | None = None  # None: every group
    who: str
    when: str
    why: str


class Verdict(enum.StrEnum):
    """Health as a word. Plugins exchange it as the original's number, `spi.values.Health`, with the same names."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class MemberStatus(Wire, frozen=True, kw_only=True):
    """One instance of a group, or one that is being created."""

    group: GroupID
    id: InstanceID | None = None
    slot: Slot | None = None
    logical_id: LogicalID | None = None
    state: str  # creating running missing draining destroying finished
    health: Verdict = Verdict.UNKNOWN
    note: str = ""  # the fact that the health is based on
    health_age_s: float | None = None
    age_s: float | None = None
    up_to_date: bool = False
    hash: str = ""
    is_self: bool = False
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()


class GroupStatus(Wire, frozen=True, kw_only=True):
    """The current state of one group, compared with its declaration."""

    name: GroupID
    kind: str  # cattle pets
    allocation: Allocation
    hash: str
    proven: str = ""  # the last version with which all instances were proven healthy; empty: none is recorded
    want: int
    live: int  # known or assumed to exist
    healthy: int
    up_to_date: int
    converged: bool
    phase: str  # converged healing scaling rolling paused halted destroying unknown ...
    observed_age_s: float | None = None  # None: not observed yet
    doing: tuple[Reasoned, ...] = ()  # actions in flight or next
    waiting: tuple[Reasoned, ...] = ()  # waits and refusals
    halt: Halt | None = None
    quorum: str = ""  # how many of the listed voters it can still lose, as a sentence; empty: no quorum


class Status(Wire, frozen=True, kw_only=True):
    """The status of this replica and of every group."""

    leader: bool
    replica: str
    epoch: int
    version: int  # of the declaration
    pid: int
    started: str
    now: str
    halts: tuple[Halt, ...] = ()
    groups: tuple[GroupStatus, ...] = ()
    leading: str = ""  # the leader, if it is another replica
    note: str = ""  # why the groups are not listed
    clusters: tuple[str, ...] = ()  # the clusters, as tokens name them, whose instances belong to this one


class ReplicaStatus(Wire, frozen=True, kw_only=True):
    """One replica: its entry in the roster, and its answer."""

    name: str
    role: str  # leader, follower, or away (it does not answer)
    address: str
    version: str  # of InfraKit
    format: int  # the newest format of store documents that it reads
    host: str
    pid: int
    started: str
    took_s: float | None = None  # response time
    note: str = ""  # why it does not answer, or its own note


class LeaderStatus(Wire, frozen=True, kw_only=True):
    """The leader according to the store, and the status of the replicas."""

    leader: str = ""  # the replica that holds the epoch; empty if there is none
    epoch: int = 0
    since: str = ""  # when the epoch was acquired
    replica: str  # the replica that gives this answer
    observed: str = ""  # the last observation of this replica's leadership source
    observed_age_s: float | None = None
    replicas: tuple[ReplicaStatus, ...] = ()
    note: str = ""  # why the leader cannot be read from the store


class GroupPlan(Wire, frozen=True, kw_only=True):
    """What would happen to one group. Nothing has been done."""

    group: GroupID
    summary: str
    lowest: str = ""  # the lowest redundancy on the way, such as `2 of 3 healthy`; empty: nothing is destroyed
    actions: tuple[Reasoned, ...] = ()
    waiting: tuple[Reasoned, ...] = ()


class Change(Wire, frozen=True, kw_only=True, gc=False):
    """One difference between two declarations: `path`, old and new value as JSON text. Values may be secrets."""

    path: str
    old: str | None = None
    new: str | None = None


class Committed(Wire, frozen=True, kw_only=True):
    """The answer to a change of the declaration, given once it is durable."""

    version: int  # the current version, if unchanged
    unchanged: bool = False  # the declaration and the operators' commands were already the same
    changes: tuple[Change, ...] = ()  # of the declared groups; a command such as a halt changes none
    notes: tuple[str, ...] = ()  # further facts, a sentence each: an active halt, a revoked destruction


class Planned(Wire, frozen=True, kw_only=True):
    """The answer to a pretended commit."""

    base_version: int
    changes: tuple[Change, ...] = ()
    groups: tuple[GroupPlan, ...] = ()
    destroys: int = 0  # the consent that the commit needs, see `Manager.commit`
    consent: str = ""  # what it would destroy, and the command that consents to it; empty: none is needed


class Version(Wire, frozen=True, kw_only=True):
    """One version in the history of the declaration."""

    version: int
    when: str
    who: str
    why: str
    what: str  # commit scale halt unhalt pause resume abort rollback restore adopt free destroy ...
    hash: str  # SHA-256 of the declared groups
    groups: tuple[GroupID, ...] = ()


class Explanation(Wire, frozen=True, kw_only=True):
    """Why an object is in its state: facts with their age, actions, waits and refusals with their rules, and events."""

    subject: str
    summary: str
    facts: tuple[str, ...] = ()
    doing: tuple[Reasoned, ...] = ()
    waiting: tuple[Reasoned, ...] = ()
    story: tuple[str, ...] = ()  # events of this object, oldest first, one sentence each with its time
    next_look: str = ""


@runtime_checkable
class Manager(Protocol):
    """The operator's commands and queries.

    Every changing method takes `who` and `why`, is one compare-and-swap, and is durable when it returns.

    `expected` is the version that the caller has read: if the declaration has changed since, `Conflict` lists the
    changes. None applies the command to the newest version, which is safe for commands that change one thing only.
    """

    @repeatable
    async def status(self) -> Status: ...

    async def commit(
        self,
        *,
        text: str,
        source: str,
        who: str,
        why: str,
        expected: int | None = None,
        destroys: int = 0,
        adopts: str = "",
    ) -> Committed:
        """Declare the groups of a document (YAML or JSON); groups that it does not name are unchanged.

        `source` is the document's name for error messages. `destroys` is the consent to destroy that many members
        without replacing them: a commit that destroys more than 2 and 30 % of a group, or the majority of a quorum,
        needs it. `adopts` is a cluster to adopt with the same change: see `adopt`. Raises `InvalidSpec`, `Conflict`,
        and `Refused` without consent.
        """
        ...

    @repeatable
    async def plan(self, *, text: str, source: str) -> Planned:
        """Return what a commit of this document would do. An empty text plans the current declaration."""
        ...

    @repeatable
    async def why(self, *, group: GroupID, subject: str = "") -> Explanation:
        """Explain a group, or one of its instances, slots or logical IDs. Raises `NotFound`."""
        ...

    @repeatable
    async def members(self, *, group: GroupID | None = None) -> tuple[MemberStatus, ...]: ...

    async def scale(
        self, *, group: GroupID, size: int, who: str, why: str, expected: int | None = None
    ) -> Committed: ...

    async def halt(self, *, group: GroupID | None = None, who: str, why: str) -> Committed: ...

    async def unhalt(self, *, group: GroupID | None = None, who: str, why: str) -> Committed: ...

    async def pause(self, *, group: GroupID, who: str, why: str) -> Committed:
        """Pause the rolling update: replace no further instance for it. Healing continues."""
        ...

    async def resume(self, *, group: GroupID, who: str, why: str, despite_unhealthy: bool = False) -> Committed:
        """Lift a pause or an abort, retry at once what is in back-off, and give up creations that no listing shows.

        `despite_unhealthy`: replace the members that are unhealthy now, although they are more than MaxUnhealthy.
        """
        ...

    async def abort(self, *, group: GroupID, who: str, why: str) -> Committed:
        """Abort the rolling update, until the next commit.

        Instances that terminate are replaced in the version before the rolling update.
        """
        ...

    async def rollback(self, *, group: GroupID, who: str, why: str) -> Committed:
        """Declare the group's previous version again."""
        ...

    async def adopt(self, *, cluster: str, who: str, why: str) -> Committed:
        """Declare that the instances whose tokens name that cluster belong to this one. Raises `Refused`."""
        ...

    async def adopt_account(self, *, plugin: str, identity: str, who: str, why: str) -> Committed:
        """Declare that the account of an instance plugin has that identity now. Raises `Refused`."""
        ...

    async def free(self, *, group: GroupID, who: str, why: str) -> Committed:
        """Stop managing the group and leave its instances running."""
        ...

    async def destroy(self, *, group: GroupID, who: str, why: str, volumes: bool = False) -> Committed:
        """Destroy the group. Its attachments are kept unless `volumes` is set."""
        ...

    async def destroy_instance(self, *, instance: InstanceID, who: str, why: str, replace: bool = True) -> Committed:
        """Destroy one instance; without `replace`, lower the size by one in the same atomic change."""
        ...

    @repeatable
    async def logs(self, *, instance: InstanceID, lines: int = 100) -> str: ...

    @repeatable
    async def tail(self, *, instance: InstanceID, after: int | None = None, lines: int = 100) -> LogPart:
        """Return the log after a position; with None, the last lines. Raises `Refused` if the provider has no logs."""
        ...

    @repeatable
    async def history(self, *, limit: int = 50) -> tuple[Version, ...]: ...

    @repeatable
    async def show(self, *, version: int) -> str:
        """Return the groups declared at that version, as a JSON document."""
        ...

    async def restore(
        self, *, version: int, who: str, why: str, expected: int | None = None, destroys: int = 0
    ) -> Committed:
        """Declare the groups of an earlier version again, as a new version. `destroys`: see `commit`."""
        ...

    @repeatable
    async def leader(self) -> LeaderStatus:
        """Return the leader, and every replica in the roster."""
        ...

    async def resign(self, *, who: str, why: str) -> None:
        """Transfer the leadership to another replica. Raises `NotLeader`, and `Refused` if its source cannot."""
        ...

    async def forget(self, *, replica: str, who: str, why: str) -> None:
        """Remove a replica from the roster whose machine is lost. Raises `NotFound`, and `Refused` if it answers."""
        ...

    async def shutdown(self, *, who: str, why: str) -> None:
        """Stop the daemon. Instances keep running."""
        ...
