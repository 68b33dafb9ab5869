"""The flavor plugin: it knows what runs on an instance, and is the only judge of its health."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from infrakit.spi.values import (
    Allocation,
    Attachment,
    Description,
    HealthReport,
    Index,
    InstanceID,
    InstanceSpec,
    LogicalID,
    Wire,
)


@runtime_checkable
class Flavor(Protocol):
    """Prepares, judges and drains. Methods may be called concurrently, and cancelled at any await."""

    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None:
        """Check without side effects. Raises `InvalidSpec` with every problem at once."""
        ...

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        """Complete `spec` with the boot script, tags and attachments of this very instance. Creates nothing."""
        ...

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        """Judge one instance. When in doubt: unknown, which is never acted on."""
        ...

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        """Move work away before a destruction. Raises `Refused` when the instance must not go now."""
        ...


@runtime_checkable
class JudgesMany(Protocol):
    """A flavor that can judge all instances of a group in one question, which costs less than one each."""

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        """Verdicts by ID; an instance left out counts as unknown."""
        ...


@runtime_checkable
class Quorum(Protocol):
    """A flavor whose members may form a quorum, so that losing more than a minority loses the whole."""

    async def is_quorum(self, *, properties: msgspec.Raw) -> bool:
        """Whether a group with these properties is one."""
        ...


@runtime_checkable
class Attaches(Protocol):
    """A flavor that can tell which attachments each logical ID will hold."""

    async def attachments(
        self, *, properties: msgspec.Raw, allocation: Allocation
    ) -> Mapping[LogicalID, tuple[Attachment, ...]]:
        """Attachments by logical ID; used to refuse one volume for two pets, and to delete them when asked."""
        ...


@runtime_checkable
class Releases(Protocol):
    """A flavor whose members are on a list of their own, or that knows better than its group whom it can spare."""

    async def release(self, *, properties: msgspec.Raw, instance: Description, allocation: Allocation) -> None:
        """Agree to a destruction, before the drain. An instance whose logical ID is not in the declared allocation does
        not come back: then it is taken off the list here. Whatever is raised, nothing is destroyed. Not asked when the
        whole group is destroyed.
        """
        ...


class MembershipChange(Wire, frozen=True, kw_only=True, gc=False):
    """One thing that a list of members needs, or that somebody should know of it."""

    id: str  # names it from one observation to the next: `promote/<ID on the list>`
    what: str  # what and why, as a sentence that operators read
    due: bool = True  # False: it waits for something, or for a person, as `what` says; it is told and never asked for
    instance: InstanceID | None = None  # the member of the group that it is about, if it is about one


@runtime_checkable
class Members(Protocol):
    """A flavor whose members are on a list of their own that needs upkeep: newcomers are let in, the dead taken off."""

    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        """What the list needs now, the most urgent first. Looks only; raises rather than guess, and nothing is done.

        `instances` are all members of the group that are not proven dead, also those that are leaving, and those that
        the provider may be late to list: pending, with TAG_GROUP, TAG_TOKEN and TAG_SLOT or the logical ID as their
        only tags, and with an empty ID if nobody knows it. Whoever is compared by another tag finds none of these.
        """
        ...

    async def change_membership(
        self,
        *,
        properties: msgspec.Raw,
        change: MembershipChange,
        instances: Sequence[Description],
        allocation: Allocation,
    ) -> None:
        """Make one change that `membership` has called due. Looks again first, because that is a moment ago.

        A change that is not needed any more is done. Raises `Refused` when it must not be made now. Whatever is raised,
        it is tried again later if it is still needed; so half of it may have been done.
        """
        ...


@runtime_checkable
class Hosts(Protocol):
    """A flavor on whose members replicas of InfraKit run."""

    async def replicas(self, *, properties: msgspec.Raw, allocation: Allocation) -> Sequence[str]:
        """Where they should answer: `unix:///PATH` or `http(s)://HOST:PORT`. Empty: none run."""
        ...
