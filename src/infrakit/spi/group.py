"""The declaration of a group, and the original's interface to a group controller.

The values of a declaration forbid unknown fields, so that a misspelt policy is never silently ignored.
"""

import enum
import functools
import re
from typing import Annotated, Protocol, runtime_checkable

import msgspec

from infrakit.spi.repeat import repeatable
from infrakit.spi.values import Allocation, Description, GroupID, InstanceID, LogicalID, Wire, absent, wire_name

DURATION_PATTERN = r"^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$"
PERCENT_PATTERN = r"^(100|[0-9]{1,2})%$"

DurationText = Annotated[str, msgspec.Meta(pattern=DURATION_PATTERN, description='a duration such as "1m30s"')]
Percent = Annotated[str, msgspec.Meta(pattern=PERCENT_PATTERN, description='a percentage such as "40%"')]
Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Count | Percent

_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@functools.lru_cache(maxsize=1024)
def seconds(text: str) -> float:
    """`1m30s` -> 90.0. The text has been validated against DURATION_PATTERN (Go's time.ParseDuration, no sign)."""
    return sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", text))


def amount(value: int | str, total: int) -> int:
    """Resolve a count, or a percentage of `total`, rounded down."""
    if isinstance(value, str):
        return int(value.rstrip("%")) * total // 100
    return value


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=wire_name):
    """Base of the values that operators write. Unknown fields are an error."""


class InstanceRef(Strict, frozen=True, kw_only=True):
    """Which provider creates the instances, and from which properties."""

    plugin: Annotated[str, msgspec.Meta(min_length=1)]
    properties: msgspec.Raw = msgspec.field(default_factory=absent)
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 32  # concurrent calls; not part of the version


class FlavorRef(Strict, frozen=True, kw_only=True):
    """Which flavor manages what runs on the instances, and its properties."""

    plugin: Annotated[str, msgspec.Meta(min_length=1)]
    properties: msgspec.Raw = msgspec.field(default_factory=absent)


class DeclaredAllocation(Strict, frozen=True, kw_only=True):
    """The declared number of instances, or their logical IDs. `spec.validate` ensures that exactly one is set."""

    size: Annotated[int, msgspec.Meta(ge=0, le=100_000)] | None = None  # cattle: how many
    # Pets: which logical IDs; all different, in the order in which they are numbered.
    logical_ids: (
        Annotated[
            tuple[Annotated[LogicalID, msgspec.Meta(min_length=1, max_length=255)], ...],
            msgspec.Meta(max_length=10_000),
        ]
        | None
    ) = None

    def to_wire(self) -> Allocation:
        """Convert to the form that is sent to plugins."""
        return Allocation(size=self.size, logical_ids=self.logical_ids)


class OnFailure(enum.StrEnum):
    """What a rolling update does when a new instance fails."""

    PAUSE = "pause"
    ROLLBACK = "rollback"


class Updating(Strict, frozen=True, kw_only=True):
    """How a new version replaces an old one.

    `Duration`, `Count` and `SkipBeforeInstanceDestroy` are the original's fields; `spec.document` converts them.
    """

    # Declared members that may be missing or not healthy in a rolling update; also how many surplus ones leave at once.
    max_unavailable: Amount = 1
    max_surge: Amount = 0  # cattle only
    settle: DurationText = "10s"  # how long a new instance must stay healthy before the next is replaced
    on_failure: OnFailure = OnFailure.PAUSE  # rollback: return to the last proven version
    # Those below are not written unless they are declared: an older replica does not know them. See `spi.formats`.
    canary: Amount | msgspec.UnsetType = msgspec.UNSET  # members that are updated first; default: none
    # How long canaries must stay healthy before the others are updated, and all before the version is proven; default:
    # as long as `Settle`.
    bake_time: DurationText | msgspec.UnsetType = msgspec.UNSET
    # A rolling update in which no new instance has become healthy for that long has failed; default: no limit.
    progress_deadline: DurationText | msgspec.UnsetType = msgspec.UNSET
    drain: bool = True  # whether the flavor moves workload away before a destruction
    drain_timeout: DurationText = "60s"  # after this time the instance is destroyed anyway


class Healing(Strict, frozen=True, kw_only=True):
    """When an unhealthy instance is replaced, and how many unhealthy members stop all destruction."""

    boot_grace: DurationText = "60s"  # the health of a younger instance is not judged yet
    unhealthy_after: DurationText = "30s"  # how long an instance must be unhealthy before it is replaced
    # Default: a minority for a quorum (its own limit always applies), else 40 % and at least 1.
    max_unhealthy: Amount | None = None
    backoff: DurationText = "5s"  # first back-off after a failure of a slot; doubles, with jitter
    backoff_max: DurationText = "5m"  # the longest back-off


class GroupProperties(Strict, frozen=True, kw_only=True):
    """The declared properties of one group."""

    allocation: DeclaredAllocation
    instance: InstanceRef
    flavor: FlavorRef
    updating: Updating = Updating()
    healing: Healing = Healing()


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A declared group: its name, the tags all its instances carry, its properties, and its configuration hash."""

    name: GroupID
    tags: dict[str, str] = {}
    properties: GroupProperties
    hash: str  # of Instance and Flavor, see `spec.hash`

    @property
    def is_pets(self) -> bool:
        """Whether members have a logical ID, which a replacement instance inherits."""
        return self.properties.allocation.logical_ids is not None

    def made_from(self, version: "Group") -> "Group":
        """Return this group with what instances are created from in another version: nothing else comes from there."""
        instance, flavor = version.properties.instance, version.properties.flavor
        properties = msgspec.structs.replace(self.properties, instance=instance, flavor=flavor)
        return msgspec.structs.replace(self, hash=version.hash, properties=properties)


class GroupSpec(Wire, frozen=True, kw_only=True):
    """A declared group in the original's wire format."""

    id: GroupID
    properties: msgspec.Raw = msgspec.field(default_factory=absent)


class GroupDescription(Wire, frozen=True, kw_only=True):
    """The members of a group as the provider describes them, and whether the group has converged (law 7)."""

    instances: tuple[Description, ...] = ()
    converged: bool = False


@runtime_checkable
class Groups(Protocol):
    """The original's Group interface (0.1.1). Changing methods are durable when they return."""

    async def commit_group(self, *, spec: GroupSpec, pretend: bool = False) -> str:
        """Declare one group and return the resulting plan in words. With `pretend`, declare nothing."""
        ...

    async def free_group(self, *, id: GroupID) -> None:  # noqa: A002
        """Stop managing the group and leave its instances running."""
        ...

    @repeatable
    async def describe_group(self, *, id: GroupID) -> GroupDescription:  # noqa: A002
        """Return the members of the group. Raises `NotFound`."""
        ...

    async def destroy_group(self, *, id: GroupID) -> None:  # noqa: A002
        """Declare the group destroyed. Returns before all instances have terminated."""
        ...

    @repeatable
    async def inspect_groups(self) -> tuple[GroupSpec, ...]:
        """Return every declared group."""
        ...

    async def destroy_instances(self, *, id: GroupID, instances: tuple[InstanceID, ...]) -> None:  # noqa: A002
        """Destroy these instances and lower the size by their number, in one atomic change.

        Raises `NotFound` if one does not exist, and then destroys none.
        """
        ...

    @repeatable
    async def size(self, *, id: GroupID) -> int:  # noqa: A002
        """Return the declared size."""
        ...

    async def set_size(self, *, id: GroupID, size: int) -> None:  # noqa: A002
        """Declare the size. Raises `Refused` for pets."""
        ...
