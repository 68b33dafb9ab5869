"""The flavor plugin: it defines what runs on an instance, and it alone decides whether the instance is healthy."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from infrakit.spi.repeat import repeatable
from infrakit.spi.values import (
    Allocation,
    Attachment,
    Description,
    Health,
    HealthReport,
    Index,
    InstanceID,
    InstanceSpec,
    LogicalID,
    State,
    Wire,
)


@runtime_checkable
class Flavor(Protocol):
    """Prepares instances, probes their health and drains them.

    Methods may be called concurrently, and cancelled at any await.
    """

    @repeatable
    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None:
        """Check without side effects. Raises `InvalidSpec` with every problem at once."""
        ...

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        """Return `spec` completed with the boot script, tags and attachments of this instance. Creates nothing."""
        ...

    @repeatable
    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        """Return the health of one instance. If it is not certain, return unknown, which never triggers an action."""
        ...

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        """Move workload away before a destruction. Raises `Refused` when the instance must not be destroyed now."""
        ...


@runtime_checkable
class JudgesMany(Protocol):
    """A flavor that can probe all instances of a group in one call, which costs less than one call for each."""

    @repeatable
    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        """Return health reports by instance ID. An instance that is left out counts as unknown."""
        ...


@runtime_checkable
class Quorum(Protocol):
    """A flavor whose members may form a quorum: the cluster is lost when it loses its majority."""

    @repeatable
    async def is_quorum(self, *, properties: msgspec.Raw) -> bool:
        """Whether a group with these properties is a quorum."""
        ...


@runtime_checkable
class Attaches(Protocol):
    """A flavor that knows in advance which attachments each logical ID will hold."""

    @repeatable
    async def attachments(
        self, *, properties: msgspec.Raw, allocation: Allocation
    ) -> Mapping[LogicalID, tuple[Attachment, ...]]:
        """Return the attachments by logical ID.

        The answer serves to refuse one volume for two pets, to report a pet without its volume as not healthy, and to
        delete the volumes on an operator's command.
        """
        ...


@runtime_checkable
class Releases(Protocol):
    """A flavor that must agree before a member is destroyed.

    It has a member list of its own (etcd, Swarm), or it knows better than its group which member it can spare.
    """

    async def release(self, *, properties: msgspec.Raw, instance: Description, allocation: Allocation) -> None:
        """Agree to the destruction of one instance. Called before the drain.

        A logical ID that is not in the declared allocation is not replaced: here its member is removed from the member
        list. If the call raises, the instance is not destroyed. Not called when the whole group is destroyed.
        """
        ...


class MembershipChange(Wire, frozen=True, kw_only=True, gc=False):
    """One change that a member list needs, or one fact about it that an operator should know."""

    id: str  # stable between observations: `promote/<ID on the member list>`
    what: str  # the change and its reason, as a sentence for operators
    due: bool = True  # False: blocked or left to an operator, as `what` explains; reported, never requested
    instance: InstanceID | None = None  # the group member that it concerns, if any


@runtime_checkable
class Members(Protocol):
    """A flavor with a member list of its own to reconcile: members are added, promoted, demoted and removed."""

    @repeatable
    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        """Return the changes that the member list needs now, the most urgent first.

        Read-only. When the flavor is not certain it raises, and no change is made.

        `instances` are all members of the group whose termination is not confirmed. They include members that are being
        destroyed, and members that the provider may list late. The latter are pending, their only tags are TAG_GROUP,
        TAG_TOKEN and TAG_SLOT or the logical ID, and their ID is empty while it is unknown: do not compare members by
        any other tag.
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
        """Make one change that `membership` has returned as due.

        Check the member list again first, because it may have changed since. A change that is no longer needed succeeds
        without effect. Raises `Refused` when the change must not be made now. After any error it is retried later if it
        is still needed, so an earlier attempt may have been carried out in part.
        """
        ...


class Voter(Wire, frozen=True, kw_only=True, gc=False):
    """One voter of the member list of a cluster; it may be of no group, or never have started."""

    id: str  # on the member list
    name: str = ""
    address: str = ""
    instances: tuple[InstanceID, ...] = ()  # the given one that it is; several if that is not certain
    healthy: bool | None = None  # None: unknown, which never counts as healthy


@runtime_checkable
class Voters(Protocol):
    """A flavor that can list the voters of a quorum: no destruction leaves less than a majority of them healthy."""

    @repeatable
    async def voters(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[Voter]:
        """Return all voters of the cluster's own member list, including those that are no instances of the group.

        Read-only, and only as a majority of the cluster itself has the list. When the flavor is not certain it raises,
        and no voter is destroyed that is not known to be unhealthy. `instances` are the members of the group.
        """
        ...


@runtime_checkable
class Hosts(Protocol):
    """A flavor whose members run replicas of InfraKit."""

    @repeatable
    async def replicas(self, *, properties: msgspec.Raw, allocation: Allocation) -> Sequence[str]:
        """Return the addresses of the replicas: `unix:///PATH` or `http(s)://HOST:PORT`. Empty if none run."""
        ...


class MemberParts(msgspec.Struct, frozen=True, kw_only=True):
    """The declared properties that members are made from, as plain JSON values."""

    common: Mapping[str, Any]  # of every member
    own: Mapping[LogicalID, Mapping[str, Any]] = {}  # in addition, of single pets


@runtime_checkable
class MadeFrom(Protocol):
    """A flavor that knows which of its properties a member is made from.

    A change of anything else is adopted in place: no member is replaced because of it. It is a pure function, and no
    call of the wire protocol. Without it, every change of the properties replaces every member.
    """

    def made_from(self, *, properties: msgspec.Raw) -> MemberParts:
        """Return what the boot script, the tags and the attachments of members depend on.

        Leave out health checks, drains and other policies, and the parts of other pets. Return values as they are
        declared, without defaults: a later release with another default must not replace members.
        """
        ...


def health_by_state(*, finished: HealthReport) -> Mapping[State | msgspec.UnsetType, HealthReport]:
    """The verdicts that follow from the provider's state alone; a running instance has none, and has to be probed.

    `finished` is the verdict on an instance that has exited with success. The reports are shared objects, because
    there may be 10,000 instances.
    """

    def listed(state: State, health: Health) -> HealthReport:
        return HealthReport(health=health, note=f"the provider lists it as {state}")

    return {
        State.PENDING: listed(State.PENDING, Health.UNKNOWN),
        State.IMPAIRED: listed(State.IMPAIRED, Health.UNHEALTHY),
        State.STOPPING: listed(State.STOPPING, Health.UNKNOWN),
        State.FINISHED: finished,
        State.TERMINATED: listed(State.TERMINATED, Health.UNHEALTHY),
    }
