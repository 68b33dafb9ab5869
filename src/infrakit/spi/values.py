"""The values that cross a boundary: immutable, typed, and named on the wire as in the original InfraKit.

`rename=wire_name` is the whole mapping between Python names and wire names: the codec is the type.
`Properties` of plugins stay raw JSON (`msgspec.Raw`) until their owner decodes them.
"""

import enum
import functools
from typing import NewType

import msgspec

InstanceID = NewType("InstanceID", str)
LogicalID = NewType("LogicalID", str)
GroupID = NewType("GroupID", str)
Slot = NewType("Slot", str)  # a pet's logical ID, or the ordinal of a member of cattle: "1", "2", ...
Token = NewType("Token", str)  # identifies one intent to create; never reused
Epoch = NewType("Epoch", int)  # the fencing token; increases with each change of leader

TAG_GROUP = "infrakit.group"  # the group of the instance: the only criterion of membership
TAG_HASH = "infrakit.config.hash"  # the configuration hash that it was created from, or BOOTSTRAP
TAG_MADE_FROM = "infrakit.member.version"  # the hash of what this member is made from, see `spi.flavor.MadeFrom`
TAG_LOGICAL_ID = "infrakit.logical_id"  # pets, for providers that cannot store a logical ID
TAG_SLOT = "infrakit.slot"  # cattle: the ordinal that it was created for
TAG_TOKEN = "infrakit.token"  # the intent that it was created for  # noqa: S105
TAG_CREATED = "infrakit.created"  # when its creation was requested, ISO 8601 UTC
BOOTSTRAP = "bootstrap"  # value of TAG_HASH: adopt as up to date and relabel

ABSENT = msgspec.Raw(b"null")


def absent() -> msgspec.Raw:
    """Return the default of `properties`; a factory, because msgspec cannot write a raw default into a JSON Schema."""
    return ABSENT


_WORDS = {"id": "ID", "ids": "IDs", "url": "URL", "http": "HTTP", "tcp": "TCP", "ok": "OK"}


@functools.cache
def wire_name(name: str) -> str:
    """`logical_ids` -> `LogicalIDs`: the spelling of the original's Go fields."""
    return "".join(_WORDS.get(word, word.capitalize()) for word in name.split("_"))


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """Base of every value on the wire. Unknown fields are ignored, as in the original."""


class Attachment(Wire, frozen=True, kw_only=True, gc=False):
    """Persistent state of a logical ID, typically a volume; a replacement instance takes it over."""

    id: str
    type: str


class InstanceSpec(Wire, frozen=True, kw_only=True):
    """The instance that a provider is asked to create. The token of the intent is in `tags` (TAG_TOKEN)."""

    properties: msgspec.Raw = msgspec.field(default_factory=absent)
    tags: dict[str, str] | None = None
    init: str = ""
    logical_id: LogicalID | None = None
    attachments: tuple[Attachment, ...] | None = None


class State(enum.StrEnum):
    """The lifecycle state of an instance. A provider that lists only live instances leaves it empty."""

    UNSPECIFIED = ""
    PENDING = "pending"
    RUNNING = "running"
    IMPAIRED = "impaired"  # running, but the provider reports that it does not work
    STOPPING = "stopping"  # still has its logical ID and holds its attachments
    FINISHED = "finished"  # exited on purpose: it counts as present and is not recreated
    TERMINATED = "terminated"  # termination confirmed: its logical ID and attachments are free


class Description(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """One instance as its provider describes it."""

    id: InstanceID
    logical_id: LogicalID | None = None
    tags: dict[str, str] | None = None
    properties: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    state: State | msgspec.UnsetType = msgspec.UNSET  # an addition, which the original ignores
    attachments: tuple[Attachment, ...] | msgspec.UnsetType = msgspec.UNSET  # what it holds, if the provider reports it


class Health(enum.IntEnum):
    """The health of an instance as its flavor reports it. Unknown never triggers an action."""

    UNKNOWN = 0
    HEALTHY = 1
    UNHEALTHY = 2


class HealthReport(Wire, frozen=True, kw_only=True, gc=False):
    """Health, and the fact that it is based on: `tcp 127.0.0.5:80 refused`."""

    health: Health
    note: str = ""


class Allocation(Wire, frozen=True, kw_only=True):
    """How many (cattle), or which logical IDs (pets): exactly one of the two is set."""

    size: int | None = None
    logical_ids: tuple[LogicalID, ...] | None = None


class Index(Wire, frozen=True, kw_only=True, gc=False):
    """The position of an instance in its group; `sequence` counts from 1."""

    group: GroupID
    sequence: int
