"""The instance plugin: one provider of machines, VMs, containers or processes.

A provider implements `Instance`, and those of the optional Protocols below that it can support. They are detected once,
when the plugin is registered. Where a provider promises less, the group controller waits longer to be safe.
"""

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from infrakit.spi.repeat import repeatable
from infrakit.spi.values import Attachment, Description, InstanceID, InstanceSpec, Wire


class Reason(enum.StrEnum):
    """Why an instance is destroyed; the values are the original's."""

    UNSPECIFIED = ""
    TERMINATE = "terminate"
    ROLLING_UPDATE = "rolling_update"


class DestroyContext(Wire, frozen=True, kw_only=True, gc=False):
    """Why the provider is asked to destroy: the instance is removed for good, or it is replaced."""

    reason: Reason = Reason.UNSPECIFIED


@runtime_checkable
class Instance(Protocol):
    """A provider of instances.

    Every method may be cancelled at any await; a cancelled creation or destruction has an unknown outcome.
    Any method may raise `Throttled` (nothing was done), `Unreachable` (nothing was done) and `OutcomeUnknown`.
    Every other exception counts as `PluginError`.
    """

    @repeatable
    async def validate(self, *, properties: msgspec.Raw) -> None:
        """Check `properties` without side effects. Raises `InvalidSpec` with every problem at once."""
        ...

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        """Create one instance, with its tags in the same step, and return its ID.

        When the token (TAG_TOKEN) is that of an earlier call, a provider that supports tokens returns the instance of
        that call and creates nothing. Raises `Conflict` if a live instance has the logical ID or holds an attachment.
        Raises `Refused` if nothing was created and a retry would fail too: no capacity, bad properties.
        """
        ...

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        """Merge `labels` into the instance's tags. Raises `NotFound`."""
        ...

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        """Destroy the instance and free its logical ID; keep its attachments. Raises `NotFound` if there is none.

        Idempotent. When it returns, the termination is certain but may still be in progress, as listings show.
        """
        ...

    @repeatable
    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        """Return every instance that carries all of `tags`. Raise rather than return an *incomplete* listing.

        Return the identical `Description` object for an unchanged instance where possible: it makes idle cycles cheap.
        """
        ...


class Capabilities(Wire, frozen=True, kw_only=True, gc=False):
    """The guarantees of a provider. The defaults apply to a provider that does not implement `Capable`."""

    listing_lag_s: float = 30.0  # seconds until a listing shows every change; 0: immediately
    tokens: bool = False  # `provision` with a known token returns its instance and creates nothing


@runtime_checkable
class Capable(Protocol):
    """A provider that announces its guarantees."""

    @repeatable
    async def capabilities(self) -> Capabilities:
        """Return the guarantees. They do not change during the life of the object."""
        ...


@runtime_checkable
class Inspects(Protocol):
    """A provider that can report authoritatively whether one instance exists."""

    @repeatable
    async def inspect(self, *, instance: InstanceID) -> Description | None:
        """Return the current state of the instance, whatever listings show. None confirms that it has terminated.

        Return None for an unknown ID too. Raise when the state cannot be determined, for example because the
        credentials do not permit to inspect the instance, or the call went to another region or account.
        """
        ...


@runtime_checkable
class Watches(Protocol):
    """A provider that notifies of changes, so that they are observed before the next poll."""

    def watch(self) -> AsyncIterator[str]:
        """Yield a short reason (`i-123 exited with code 1`) whenever something may have changed. It is only a hint."""
        ...


@runtime_checkable
class Logs(Protocol):
    """A provider that keeps the logs of its instances."""

    @repeatable
    async def logs(self, *, instance: InstanceID, lines: int) -> str:
        """Return the last `lines` lines of the log. Raises `NotFound`."""
        ...


class LogPart(Wire, frozen=True, kw_only=True, gc=False):
    """A piece of a log."""

    text: str
    position: int  # bytes from the start of the log to the end of this piece
    ended: bool = False  # the instance has terminated, and this is the last piece


@runtime_checkable
class Tails(Protocol):
    """A provider that can follow the log of a running instance."""

    @repeatable
    async def tail(self, *, instance: InstanceID, after: int | None = None, lines: int = 0) -> LogPart:
        """Return the whole lines after a position; with None, the last `lines` lines. Raises `NotFound`."""
        ...


@runtime_checkable
class Volumes(Protocol):
    """A provider that keeps attachments and can delete one permanently."""

    async def delete_attachment(self, *, attachment: Attachment) -> None:
        """Delete the attachment; succeed if it does not exist. Raises `Conflict` while an instance holds it."""
        ...


@runtime_checkable
class Keeps(Protocol):
    """A provider that can report authoritatively which attachments exist, held by an instance or not."""

    @repeatable
    async def existing(self, *, attachments: Sequence[Attachment]) -> Sequence[Attachment]:
        """Return those of `attachments` that exist now, including empty ones; the others certainly do not exist.

        An attachment of an unknown type does not exist. Raise when the answer is not certain for all of them.
        """
        ...


@runtime_checkable
class Identified(Protocol):
    """A provider that names its account, so that wrong credentials or a wrong address are noticed."""

    @repeatable
    async def identity(self) -> str:
        """Return a short text that is the same for as long as the account is; empty if there is none yet.

        It differs for each region or endpoint that shows other instances: while it is the same, a group whose members
        have all vanished is created again. Called before each listing. Raise when it cannot be determined.
        """
        ...
