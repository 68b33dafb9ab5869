"""Events: everything that happened, was refused or is waited for, each with its reason."""

import datetime
import enum
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from infrakit.spi.values import GroupID, InstanceID, Slot, Wire, absent


class Kind(enum.StrEnum):
    """What an event tells. One word an outcome; `message` says the rest."""

    COMMITTED = "committed"  # a declaration or an operator's order is durable
    STARTED = "started"  # a replica became active, or a group is managed from now on
    STOPPED = "stopped"  # a replica is not active any more, or a group is not managed any more
    CREATING = "creating"  # a creation is asked for
    CREATED = "created"  # the provider has acknowledged it
    CREATE_FAILED = "create_failed"  # nothing was made, surely
    CREATE_UNKNOWN = "create_unknown"  # no answer: the token is looked for
    ADOPTED = "adopted"  # a member that this InfraKit did not make, or one that joins as bootstrap
    MEMBERSHIP = "membership"  # a change of the list of members that a flavor keeps has been made
    LABELLED = "labelled"  # an adopted instance carries the declared version now
    DRAINING = "draining"  # work is being moved away before a destruction
    DRAIN_FAILED = "drain_failed"  # it is destroyed all the same, unless the drain refused
    DESTROYING = "destroying"  # a destruction is asked for
    DESTROY_FAILED = "destroy_failed"  # tried again later
    GONE = "gone"  # proven dead
    MISSING = "missing"  # no longer listed, not yet proven dead
    HEALTHY = "healthy"  # the verdict has changed
    UNHEALTHY = "unhealthy"  # the verdict has changed
    WAITING = "waiting"  # not done now: for a fact or a time
    REFUSED = "refused"  # not done until somebody or something changes it
    CONVERGED = "converged"  # everything declared is present and proven healthy, nothing else lives
    DIVERGED = "diverged"  # not so any more
    ROLL = "roll"  # started, paused, resumed, aborted, rolled back, done
    OBSERVE_FAILED = "observe_failed"  # the listing failed: nothing is concluded from it
    THROTTLED = "throttled"  # the provider asks for patience: the account slows down
    ERROR = "error"  # something else went wrong; the next cycle looks again


class Event(Wire, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One line of the journal. Never contains a secret: `message` is made from facts that may be shown."""

    seq: int = 0  # given by the journal; grows by one, also across restarts
    timestamp: str = ""  # ISO 8601 UTC with microseconds
    type: Kind
    group: GroupID | None = None
    instance: InstanceID | None = None
    slot: Slot | None = None
    message: str
    cause: str = ""  # who or what led to it: `commit 7 by ann`, `heal`, `roll`


def timestamp(seconds: float) -> str:
    """Seconds since 1970 -> `2026-11-23T11:21:54.601500Z`."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def to_the_second(moment: str) -> str:
    """`2026-11-23T11:21:54.601500Z` -> `2026-11-23T11:21:54Z`, for sentences."""
    whole, point, _ = moment.partition(".")
    return f"{whole}Z" if point else moment


class Message(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """An event as the original's clients read it, on a topic such as `groups/web/created`."""

    topic: str
    type: str = ""
    id: str = ""
    message: str = ""
    timestamp: str = ""  # RFC 3339
    received: str = "0001-01-01T00:00:00Z"  # set by whoever receives it; this stands for never
    data: msgspec.Raw = msgspec.field(default_factory=absent)


@runtime_checkable
class Topics(Protocol):
    """The original's Event interface: topics like paths, and streams of what is published below them."""

    async def list(self, *, topic: str) -> Sequence[str]:
        """The names one level below a topic, sorted; `.` is the root."""
        ...

    def subscribe(self, *, topic: str) -> AsyncIterator[Message]:
        """What is published from now on: below a topic that ends in `/` or is empty, else on exactly that topic."""
        ...


class Emit(Protocol):
    """Where events go. Must not block: it is called from the event loop between two steps."""

    def __call__(self, event: Event) -> Any: ...
