"""Events: every action, refusal and wait, each with its reason."""

import datetime
import enum
import functools
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from infrakit.spi.repeat import repeatable
from infrakit.spi.values import GroupID, InstanceID, Slot, Wire, absent


class Kind(enum.StrEnum):
    """The type of an event, one word per outcome. `message` holds the details."""

    COMMITTED = "committed"  # a declaration or an operator's command is durable
    STARTED = "started"  # a replica has become the leader, or management of a group has begun
    STOPPED = "stopped"  # a replica is no longer the leader, or the controller of a group has stopped
    CREATING = "creating"  # a creation has been requested
    CREATED = "created"  # the provider has confirmed the creation
    CREATE_FAILED = "create_failed"  # certain: no instance was created
    CREATE_UNKNOWN = "create_unknown"  # no reply: the next listings are searched for the token
    ADOPTED = "adopted"  # a member that this InfraKit did not create, or one tagged as bootstrap
    MEMBERSHIP = "membership"  # a flavor has changed its cluster's member list
    LABELLED = "labelled"  # an adopted instance now carries the declared version
    DRAINING = "draining"  # workload is being moved away before a destruction
    DRAIN_FAILED = "drain_failed"  # the instance is destroyed anyway, unless the drain was refused
    DESTROYING = "destroying"  # a destruction has been requested
    DESTROY_FAILED = "destroy_failed"  # retried with back-off
    TERMINATED = "terminated"  # an instance has terminated, confirmed by the provider
    DELETED = "deleted"  # an attachment was deleted, as requested
    MISSING = "missing"  # missing from the provider's listing, termination not confirmed yet
    HEALTHY = "healthy"  # the health verdict has changed to healthy
    UNHEALTHY = "unhealthy"  # the health verdict has changed to unhealthy
    WAITING = "waiting"  # an action waits for a fact or a time
    REFUSED = "refused"  # an action is refused until an operator or the situation changes it
    CONVERGED = "converged"  # every declared instance is present and healthy, and no other exists
    DIVERGED = "diverged"  # no longer converged
    ROLLOUT = "rollout"  # a rolling update has started, paused, resumed, aborted, rolled back or finished
    OBSERVE_FAILED = "observe_failed"  # the listing failed: no conclusion is drawn from it
    THROTTLED = "throttled"  # the provider limits the request rate: calls to it slow down
    ERROR = "error"  # another failure; the next cycle retries

    @classmethod
    def _missing_(cls, value: object) -> "Kind | None":
        return {"gone": cls.TERMINATED, "roll": cls.ROLLOUT}.get(str(value))  # in journals of development versions


class Event(Wire, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One line of the journal. It never contains a secret: `message` is composed of facts that may be shown."""

    seq: int = 0  # assigned by the journal; grows by one, also across restarts
    timestamp: str = ""  # ISO 8601 UTC with microseconds
    type: Kind
    group: GroupID | None = None
    instance: InstanceID | None = None
    slot: Slot | None = None
    message: str
    cause: str = ""  # what triggered it: `commit 7 by ann`, `heal`, `rollout`


def timestamp(seconds: float) -> str:
    """Format seconds since 1970: `2026-11-23T11:21:54.601500Z`."""
    fraction, whole = math.modf(seconds)
    microseconds = round(fraction * 1e6)
    return f"{_to_the_second(int(whole) + microseconds // 1_000_000)}.{microseconds % 1_000_000:06}Z"


@functools.lru_cache(maxsize=2)
def _to_the_second(seconds: int) -> str:
    """Format whole seconds, for the thousands of events that one second may have."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().partition("+")[0]


def to_the_second(moment: str) -> str:
    """`2026-11-23T11:21:54.601500Z` -> `2026-11-23 11:21:54Z`, for people; other texts are returned unchanged."""
    date, separator, time = moment.partition("T")
    return f"{date} {time[:8]}Z" if separator and len(time) >= len("11:21:54Z") else moment


class Message(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """An event in the form that the original's clients read, on a topic such as `groups/web/created`."""

    topic: str
    type: str = ""
    id: str = ""
    message: str = ""
    timestamp: str = ""  # RFC 3339
    received: str = "0001-01-01T00:00:00Z"  # set by the receiver; this default means never
    data: msgspec.Raw = msgspec.field(default_factory=absent)


@runtime_checkable
class Topics(Protocol):
    """The original's Event interface: topics shaped like paths, and streams of the events published below them."""

    @repeatable
    async def list(self, *, topic: str) -> Sequence[str]:
        """Return the names one level below a topic, sorted; `.` is the root."""
        ...

    def subscribe(self, *, topic: str) -> AsyncIterator[Message]:
        """Yield what is published from now on: below a topic that ends in `/` or is empty, else on exactly `topic`."""
        ...


class Emit(Protocol):
    """The sink of events. It must not block: it is called from the event loop between two steps."""

    def __call__(self, event: Event) -> Any: ...
