"""What a group is declared to be, and the original's interface to a group controller.

The declaration's values forbid unknown fields: a misspelt policy must never be silently ignored.
"""

import enum
import functools
import re
from typing import Annotated, Protocol, runtime_checkable

import msgspec

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
    """A count, or a percentage of `total`, rounded down."""
    if isinstance(value, str):
        return int(value.rstrip("%")) * total // 100
    return value


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=wire_name):
    """Base of what operators write."""


class InstanceRef(Strict, frozen=True, kw_only=True):
    """Which provider makes the instances, from which properties."""

    plugin: Annotated[str, msgspec.Meta(min_length=1)]
    properties: msgspec.Raw = msgspec.field(default_factory=absent)
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 32  # calls under way; not part of the version


class FlavorRef(Strict, frozen=True, kw_only=True):
    """Which flavor knows what runs on them."""

    plugin: Annotated[str, msgspec.Meta(min_length=1)]
    properties: msgspec.Raw = msgspec.field(default_factory=absent)


class DeclaredAllocation(Strict, frozen=True, kw_only=True):
    """Exactly one of the two is set; `spec.validate` sees to it."""

    size: Annotated[int, msgspec.Meta(ge=0, le=100_000)] | None = None  # cattle: how many
    # Pets: which; all different, in the order in which they are numbered.
    logical_ids: (
        Annotated[
            tuple[Annotated[LogicalID, msgspec.Meta(min_length=1, max_length=255)], ...],
            msgspec.Meta(max_length=10_000),
        ]
        | None
    ) = None

    def to_wire(self) -> Allocation:
        """The allocation as it is sent to plugins."""
        return Allocation(size=self.size, logical_ids=self.logical_ids)


class OnFailure(enum.StrEnum):
    """What a roll does when a new instance fails."""

    PAUSE = "pause"
    ROLLBACK = "rollback"


class Updating(Strict, frozen=True, kw_only=True):
    """How a new version replaces an old one.

    `Duration`, `Count` and `SkipBeforeInstanceDestroy` are the original's words; `spec.document` turns them into ours.
    """

    max_unavailable: Amount = 1  # how many of the declared may be missing or not proven healthy during a roll
    max_surge: Amount = 0  # cattle only
    settle: DurationText = "10s"  # how long a new one must stay healthy before the next is taken
    on_failure: OnFailure = OnFailure.PAUSE  # rollback: to the previous committed version
    drain: bool = True  # let the flavor move work away before a destruction
    drain_timeout: DurationText = "60s"  # after which it is destroyed all the same


class Healing(Strict, frozen=True, kw_only=True):
    """When an unhealthy instance is replaced, and when so many look sick that nothing may be destroyed."""

    boot_grace: DurationText = "60s"  # no verdict on an instance younger than this
    unhealthy_after: DurationText = "30s"  # unhealthy for so long before it is replaced
    # Left out: a minority for a quorum (its own limit always holds), else 40 % and at least 1.
    max_unhealthy: Amount | None = None
    backoff: DurationText = "5s"  # first wait after a failure of a slot; doubles, with jitter
    backoff_max: DurationText = "5m"  # it never waits longer


class GroupProperties(Strict, frozen=True, kw_only=True):
    """What one group is declared to be."""

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
        """Whether members have an identity that outlives them."""
        return self.properties.allocation.logical_ids is not None


class GroupSpec(Wire, frozen=True, kw_only=True):
    """A group on the original's wire."""

    id: GroupID
    properties: msgspec.Raw = msgspec.field(default_factory=absent)


class GroupDescription(Wire, frozen=True, kw_only=True):
    """Members as the provider describes them; `converged` in the sense of law 7."""

    instances: tuple[Description, ...] = ()
    converged: bool = False


@runtime_checkable
class Groups(Protocol):
    """The original's Group interface (0.1.1). Changing methods are durable when they return."""

    async def commit_group(self, *, spec: GroupSpec, pretend: bool = False) -> str:
        """Declare one group; answers what it would do, in words."""
        ...

    async def free_group(self, *, id: GroupID) -> None:  # noqa: A002
        """Stop managing; touch nothing."""
        ...

    async def describe_group(self, *, id: GroupID) -> GroupDescription:  # noqa: A002
        """Raises `NotFound`."""
        ...

    async def destroy_group(self, *, id: GroupID) -> None:  # noqa: A002
        """Declare that nothing of it shall exist; returns before everything is gone."""
        ...

    async def inspect_groups(self) -> tuple[GroupSpec, ...]:
        """Every declared group."""
        ...

    async def destroy_instances(self, *, id: GroupID, instances: tuple[InstanceID, ...]) -> None:  # noqa: A002
        """Destroy these and lower the size by their number, in one atomic change. Raises `NotFound`: then nothing."""
        ...

    async def size(self, *, id: GroupID) -> int:  # noqa: A002
        """The declared size."""
        ...

    async def set_size(self, *, id: GroupID, size: int) -> None:  # noqa: A002
        """Raises `Refused` for pets."""
        ...
