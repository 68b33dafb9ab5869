"""The instance plugin: one provider of machines, VMs, containers or processes.

A provider implements `Instance`, and the small Protocols below it where it can: they are found by `isinstance`, once,
when the plugin is registered. What a provider does not promise, the group controller waits out.
"""

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from infrakit.spi.values import Attachment, Description, InstanceID, InstanceSpec, Wire


class Reason(enum.StrEnum):
    """Why an instance is destroyed, in the original's words."""

    UNSPECIFIED = ""
    TERMINATE = "terminate"
    ROLLING_UPDATE = "rolling_update"


class DestroyContext(Wire, frozen=True, kw_only=True, gc=False):
    """Tells a provider whether the instance leaves for good or is being replaced."""

    reason: Reason = Reason.UNSPECIFIED


@runtime_checkable
class Instance(Protocol):
    """A provider of instances.

    Every method may be cancelled at any await; a cancelled creation or destruction has an unknown outcome.
    Any method may raise `Throttled` (nothing was done), `Unreachable` (nothing was done) and `OutcomeUnknown`.
    Every other exception counts as `PluginError`.
    """

    async def validate(self, *, properties: msgspec.Raw) -> None:
        """Check `properties` without side effects. Raises `InvalidSpec` with every problem at once."""
        ...

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        """Create one instance, with its tags in the same step, and return its ID.

        With the token of an earlier call (TAG_TOKEN), a provider that honours tokens returns the instance made then,
        and makes nothing. A logical ID that a live instance bears, or an attachment that one holds, is a `Conflict`.
        Raises `Refused` when nothing was made and nothing would be: no capacity, bad properties.
        """
        ...

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        """Merge `labels` into the instance's tags. Raises `NotFound`."""
        ...

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        """End the instance and free its logical ID; attachments are kept. Raises `NotFound` if there is none.

        Safe to repeat. When it returns, the end is certain but may still be under way: the listing tells.
        """
        ...

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        """Every instance that carries all of `tags`. Only a *complete* answer is returned; anything less is an error.

        A provider that keeps unchanged `Description` objects identical between calls makes idle cycles cheap.
        """
        ...


class Capabilities(Wire, frozen=True, kw_only=True, gc=False):
    """What a provider promises. The defaults are what is assumed of one that promises nothing."""

    listing_lag_s: float = 30.0  # seconds after which a listing shows every change; 0: at once
    tokens: bool = False  # provision with a known token returns the instance made for it, and makes nothing


@runtime_checkable
class Capable(Protocol):
    """A provider that tells what it promises."""

    async def capabilities(self) -> Capabilities:
        """Fixed for the life of the object."""
        ...


@runtime_checkable
class Inspects(Protocol):
    """A provider that can tell, with authority, whether one instance lives."""

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        """The instance as it is now, whatever listings show; None is evidence of death: it is gone for good.

        An ID it does not know is None too. When it cannot tell, it raises.
        """
        ...


@runtime_checkable
class Watches(Protocol):
    """A provider that can say when to look again, sooner than the next poll."""

    def watch(self) -> AsyncIterator[str]:
        """Yields a short reason (`i-123 exited with code 1`) whenever something may have changed. Hints only."""
        ...


@runtime_checkable
class Logs(Protocol):
    """A provider that keeps what its instances print."""

    async def logs(self, *, instance: InstanceID, lines: int) -> str:
        """The last `lines` lines. Raises `NotFound`."""
        ...


class LogPart(Wire, frozen=True, kw_only=True, gc=False):
    """A piece of a log."""

    text: str
    position: int  # bytes from the beginning of the log to the end of this piece
    ended: bool = False  # the instance has ended, and nothing comes after this piece


@runtime_checkable
class Tails(Protocol):
    """A provider that tells what its instances print while they print it."""

    async def tail(self, *, instance: InstanceID, after: int | None = None, lines: int = 0) -> LogPart:
        """What comes after a position, in whole lines; with None, the last `lines` lines. Raises `NotFound`."""
        ...


@runtime_checkable
class Volumes(Protocol):
    """A provider that keeps attachments, and can be told to delete one for good."""

    async def delete_attachment(self, *, attachment: Attachment) -> None:
        """Raises `Conflict` while an instance holds it; succeeds if there is none."""
        ...


@runtime_checkable
class Keeps(Protocol):
    """A provider that can tell, with authority, which attachments exist, whether or not an instance holds them."""

    async def existing(self, *, attachments: Sequence[Attachment]) -> Sequence[Attachment]:
        """Those of `attachments` that exist now, empty ones included; the rest surely does not.

        A type that it does not know exists nowhere. When it cannot tell of all of them, it raises.
        """
        ...
