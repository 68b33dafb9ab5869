"""What a plan may contain: verbs as types, each with its reason in words.

The sentence is made where the decision is made, and shown as it is in events, the command line and the dashboard.
"""

import enum
import math
from typing import ClassVar

import msgspec

from infrakit.spi.flavor import MembershipChange
from infrakit.spi.instance import Reason
from infrakit.spi.values import InstanceID, LogicalID, Slot, Token


class Priority(enum.IntEnum):
    """The order of calls when the provider account limits them."""

    QUORUM = 0  # heal a quorum
    HEAL = 1
    UPDATE = 2
    COLLECT = 3  # remove what is too much


class GroupPhase(enum.StrEnum):
    """Where a group is on its way to its declaration, in one word that operators see."""

    UNKNOWN = "unknown"  # the newest observation is not complete
    UNMANAGED = "unmanaged"  # its plugins have not answered: no controller reconciles it
    PLANNING = "planning"  # a new declaration has not been planned yet
    CREATING = "creating"
    HEALING = "healing"
    SCALING = "scaling"
    ROLLING = "rolling"
    PAUSED = "paused"  # the rolling update
    HALTED = "halted"
    DESTROYING = "destroying"
    CONVERGED = "converged"


class Action(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of what the executor performs."""

    verb: ClassVar[str] = ""
    reason: str
    rule: str
    priority: Priority = Priority.UPDATE

    @property
    def subject(self) -> str:
        """The instance, slot or group that the action concerns."""
        raise AssertionError

    @property
    def key(self) -> tuple[str, str]:
        """Of two with the same key, the second waits until the first has ended."""
        return (self.verb, self.subject)


class Provision(Action, frozen=True, kw_only=True, gc=False):
    """Create the instance of a slot. With a token: retry a creation that is recorded already."""

    verb: ClassVar[str] = "create"
    slot: Slot
    logical_id: LogicalID | None = None
    sequence: int
    hash: str
    token: Token | None = None

    @property
    def subject(self) -> str:
        return self.slot


class Destroy(Action, frozen=True, kw_only=True, gc=False):
    """Drain, then destroy."""

    verb: ClassVar[str] = "destroy"
    instance: InstanceID
    slot: Slot | None = None
    drain: bool = True
    context: Reason = Reason.TERMINATE

    @property
    def subject(self) -> str:
        return self.instance


class Label(Action, frozen=True, kw_only=True, gc=False):
    """Give an adopted instance the group's configuration hash."""

    verb: ClassVar[str] = "label"
    instance: InstanceID
    hash: str

    @property
    def subject(self) -> str:
        return self.instance


class ChangeMembership(Action, frozen=True, kw_only=True, gc=False):
    """Let the flavor make one change of its member list; one at a time for a group."""

    verb: ClassVar[str] = "change"
    on: str  # the instance that it is about, or else the group
    change: MembershipChange

    @property
    def subject(self) -> str:
        return self.on

    @property
    def key(self) -> tuple[str, str]:
        return (self.verb, "")


class Cancel(Action, frozen=True, kw_only=True, gc=False):
    """Stop a creation that is no longer needed. If its call was under way, listings are searched for its token."""

    verb: ClassVar[str] = "cancel"
    slot: Slot

    @property
    def subject(self) -> str:
        return self.slot


class Settle(Action, frozen=True, kw_only=True, gc=False):
    """Clear an intent that created no instance, or whose instance is listed or terminated."""

    verb: ClassVar[str] = "settle"
    slot: Slot

    @property
    def subject(self) -> str:
        return self.slot


class StopRoll(Action, frozen=True, kw_only=True, gc=False):
    """A new version fails: pause the rolling update, or declare the previous version again."""

    verb: ClassVar[str] = "pause"
    hash: str
    rollback: bool = False

    @property
    def subject(self) -> str:
        return self.hash


class Blocked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something that is not done: it waits for a fact or a time, or is refused until an operator acts."""

    subject: str
    reason: str
    rule: str
    refused: bool = False
    remedy: str = ""
    key: str = ""  # distinguishes entries of the same subject and rule
    until: float = math.inf  # loop time of the next check, even if nothing happens


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that is to be done now, all that is not, and whether that is the end of it."""

    actions: tuple[Action, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    converged: bool = False
    phase: GroupPhase = GroupPhase.UNKNOWN
    next_look: float = math.inf
