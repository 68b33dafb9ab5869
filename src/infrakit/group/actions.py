"""The actions that a plan may contain, one type per verb, each with its reason as a sentence.

The code that decides an action also writes its reason. Events, the command line and the dashboard show it unchanged.
"""

import enum
import math
from typing import ClassVar

import msgspec

from infrakit.spi.flavor import MembershipChange
from infrakit.spi.instance import Reason
from infrakit.spi.values import InstanceID, LogicalID, Slot, Token


class Priority(enum.IntEnum):
    """The priority of a call when the provider account limits concurrency; lower values start first."""

    QUORUM = 0  # heal a quorum
    HEAL = 1
    UPDATE = 2
    COLLECT = 3  # remove surplus instances
    LABEL = 4  # label what was adopted in place


class GroupPhase(enum.StrEnum):
    """The state of a group relative to its declaration, as operators see it."""

    UNKNOWN = "unknown"  # the newest observation failed or is incomplete
    UNMANAGED = "unmanaged"  # its plugins have not answered, or its logical IDs are another group's
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
    """Base class of all actions."""

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
        """Serialises actions: one with the same key as a call in flight waits until that call has returned."""
        return (self.verb, self.subject)


class Provision(Action, frozen=True, kw_only=True, gc=False):
    """Create the instance of a slot. With a token: retry a creation that the ledger has recorded."""

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
    """Drain an instance, then destroy it."""

    verb: ClassVar[str] = "destroy"
    instance: InstanceID
    slot: Slot | None = None
    drain: bool = True
    context: Reason = Reason.TERMINATE

    @property
    def subject(self) -> str:
        return self.instance


class Label(Action, frozen=True, kw_only=True, gc=False):
    """Label an adopted instance with the group's configuration hash, and with its member version if that is known."""

    verb: ClassVar[str] = "label"
    instance: InstanceID
    hash: str
    made_from: str = ""

    @property
    def subject(self) -> str:
        return self.instance


class ChangeMembership(Action, frozen=True, kw_only=True, gc=False):
    """Ask the flavor for one change of its member list. A group changes its list one step at a time."""

    verb: ClassVar[str] = "change"
    on: str  # the instance concerned, or the group if it is none of its members
    change: MembershipChange

    @property
    def subject(self) -> str:
        return self.on

    @property
    def key(self) -> tuple[str, str]:
        return (self.verb, "")


class Cancel(Action, frozen=True, kw_only=True, gc=False):
    """Stop a creation that is no longer needed. If its call was in flight, listings are searched for its token."""

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


class StopRollout(Action, frozen=True, kw_only=True, gc=False):
    """Pause the rolling update to a version that fails, or declare the previous version again."""

    verb: ClassVar[str] = "pause"
    hash: str
    rollback: bool = False

    @property
    def subject(self) -> str:
        return self.hash


class Blocked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An action that is not performed now: it waits for a condition or a time, or is refused until an operator acts."""

    subject: str
    reason: str
    rule: str
    refused: bool = False
    remedy: str = ""
    key: str = ""  # distinguishes entries of the same subject and rule
    until: float = math.inf  # loop time of the next check, even if nothing happens


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The decisions for one group: actions to perform now, blocked actions, and whether the group has converged."""

    actions: tuple[Action, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    converged: bool = False
    phase: GroupPhase = GroupPhase.UNKNOWN
    proves: bool = False  # the declared version is proven by now, which is not recorded yet
    next_check: float = math.inf  # loop time at which to plan again, even if nothing happens
