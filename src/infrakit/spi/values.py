"""The nouns as values: immutable, typed, and named on the wire as the original InfraKit names them.

`rename=wire_name` is the whole mapping between Python names and wire names: the codec is the type.
`Properties` of plugins stay raw JSON (`msgspec.Raw`) until their owner decodes them.
"""

import enum
from typing import NewType

import msgspec

InstanceID = NewType("InstanceID", str)
LogicalID = NewType("LogicalID", str)
GroupID = NewType("GroupID", str)
Slot = NewType("Slot", str)  # a pet's logical ID, or the ordinal of a member of cattle: "1", "2", ...
Token = NewType("Token", str)  # names one intent to create, for ever
Epoch = NewType("Epoch", int)  # counts the replicas that became active, one after the other

TAG_GROUP = "infrakit.group"  # the group it belongs to: the only test of membership
TAG_HASH = "infrakit.config.hash"  # the version it was made from, or BOOTSTRAP
TAG_LOGICAL_ID = "infrakit.logical_id"  # pets, for providers that cannot keep a logical ID themselves
TAG_SLOT = "infrakit.slot"  # cattle: the ordinal it was made for
TAG_TOKEN = "infrakit.token"  # the intent it was made for  # noqa: S105
TAG_CREATED = "infrakit.created"  # when it was asked for, ISO 8601 UTC
BOOTSTRAP = "bootstrap"  # value of TAG_HASH: adopt as up to date and relabel

ABSENT = msgspec.Raw(b"null")


def absent() -> msgspec.Raw:
    """Default of `properties`; a factory, because msgspec cannot write a raw default into a JSON Schema."""
    return ABSENT


_WORDS = {"id": "ID", "ids": "IDs", "url": "URL", "http": "HTTP", "tcp": "TCP", "ok": "OK"}


def wire_name(name: str) -> str:
    """`logical_ids` -> `LogicalIDs`: the spelling of the original's Go fields."""
    return "".join(_WORDS.get(word, word.capitalize()) for word in name.split("_"))


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """Base of every value that travels: unknown fields are ignored, as the original does."""


class Attachment(Wire, frozen=True, kw_only=True, gc=False):
    """State that follows a logical ID from instance to instance, typically a volume."""

    id: str
    type: str


class InstanceSpec(Wire, frozen=True, kw_only=True):
    """What a provider is asked to make. The token of the intent travels in `tags` (TAG_TOKEN)."""

    properties: msgspec.Raw = msgspec.field(default_factory=absent)
    tags: dict[str, str] | None = None
    init: str = ""
    logical_id: LogicalID | None = None
    attachments: tuple[Attachment, ...] | None = None


class State(enum.StrEnum):
    """What a provider knows about the life of an instance. Providers that list only live ones leave it empty."""

    UNSPECIFIED = ""
    PENDING = "pending"
    RUNNING = "running"
    IMPAIRED = "impaired"  # it runs, and its provider itself says that it does not work
    STOPPING = "stopping"  # still bears its logical ID and holds its attachments
    FINISHED = "finished"  # ended on purpose: it counts as present and is not made again
    TERMINATED = "terminated"  # evidence of death: nothing is borne or held any more


class Description(Wire, frozen=True, kw_only=True, omit_defaults=False):
    """One instance as its provider describes it."""

    id: InstanceID
    logical_id: LogicalID | None = None
    tags: dict[str, str] | None = None
    properties: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    state: State | msgspec.UnsetType = msgspec.UNSET  # not known to the original, which ignores it
    attachments: tuple[Attachment, ...] | msgspec.UnsetType = msgspec.UNSET  # what it holds, if the provider tells


class Health(enum.IntEnum):
    """A flavor's judgement. Unknown is never acted on."""

    UNKNOWN = 0
    HEALTHY = 1
    UNHEALTHY = 2


class HealthReport(Wire, frozen=True, kw_only=True, gc=False):
    """Health with the fact it rests on, in words: `tcp 127.0.0.5:80 refused`."""

    health: Health
    note: str = ""


class Allocation(Wire, frozen=True, kw_only=True):
    """How many (cattle), or which logical IDs (pets): exactly one of the two is set."""

    size: int | None = None
    logical_ids: tuple[LogicalID, ...] | None = None


class Index(Wire, frozen=True, kw_only=True, gc=False):
    """The place of an instance in its group; `sequence` counts from 1."""

    group: GroupID
    sequence: int
