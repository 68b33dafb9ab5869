"""Events: everything that happened, was refused or is waited for, each with its reason."""

import datetime
import enum
from typing import Any, Protocol

from infrakit.spi.values import GroupID, InstanceID, Slot, Wire


class Kind(enum.StrEnum):
    """What an event tells. One word an outcome; `message` says the rest."""

    COMMITTED = "committed"  # a declaration or an operator's order is durable
    STARTED = "started"  # a replica became active, or a group is managed from now on
    STOPPED = "stopped"
    CREATING = "creating"
    CREATED = "created"
    CREATE_FAILED = "create_failed"
    CREATE_UNKNOWN = "create_unknown"  # no answer: the token is looked for
    SEEN = "seen"  # first time in a listing
    ADOPTED = "adopted"
    LABELLED = "labelled"
    DRAINING = "draining"
    DRAIN_FAILED = "drain_failed"
    DESTROYING = "destroying"
    DESTROY_FAILED = "destroy_failed"
    GONE = "gone"  # proven dead
    MISSING = "missing"  # no longer listed, not yet proven dead
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    WAITING = "waiting"
    REFUSED = "refused"
    CONVERGED = "converged"
    DIVERGED = "diverged"
    ROLL = "roll"  # started, paused, resumed, aborted, rolled back, done
    OBSERVE_FAILED = "observe_failed"
    THROTTLED = "throttled"
    ERROR = "error"


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


class Emit(Protocol):
    """Where events go. Must not block: it is called from the event loop between two steps."""

    def __call__(self, event: Event) -> Any: ...
