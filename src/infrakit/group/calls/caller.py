"""What the calls of one group have in common: its collaborators, and what each call checks and reports."""

import asyncio
from collections.abc import Callable

import msgspec

from infrakit.gate.authority import NotBegun, Outdated
from infrakit.gate.gate import Gate
from infrakit.group.account import Account
from infrakit.group.actions import Action, Destroy
from infrakit.group.concerns import concerns
from infrakit.group.ledger import ManagerCallbacks
from infrakit.group.plan import DesiredState
from infrakit.group.state.view import GroupView
from infrakit.spi import values
from infrakit.spi.event import Event, Kind
from infrakit.spi.flavor import Flavor
from infrakit.spi.values import Description

NOT_BEGUN_PAUSE_S = 0.5  # before the next plan, after the gate did not admit a call


class CallingGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The group whose calls these are."""

    account: Account
    flavor: Flavor
    gate: Gate
    view: GroupView
    emit: Callable[[Event], object]
    want: Callable[[], DesiredState]
    live: Callable[[], list[Description]]  # what the member list of the flavor is compared with
    callbacks: ManagerCallbacks

    def require(self, want: DesiredState) -> None:
        """Raise `Outdated` if the group's declaration or commands are not those that the action was planned for."""
        if self.want() is not want:
            raise Outdated("the declaration of the group has changed")

    def require_unchanged(self, want: DesiredState, action: Destroy) -> None:
        """Raise `Outdated` if a change of the declaration or commands since then concerns this destruction."""
        if concerns(want, self.want(), action):
            raise Outdated("the declaration of the group has changed")

    def report(self, kind: Kind, action: Action, message: str, **about: str | None) -> None:
        self.emit(
            Event(
                type=kind,
                group=self.view.group,
                instance=values.InstanceID(i) if (i := about.get("instance")) else None,
                slot=values.Slot(s) if (s := about.get("slot")) else None,
                message=message,
                cause=action.rule,
            )
        )


async def pause(stopped: NotBegun) -> None:
    """Delay the next plan: one for a new declaration is made at once, other reasons last for a while."""
    if not isinstance(stopped, Outdated):
        await asyncio.sleep(NOT_BEGUN_PAUSE_S)


def error_text(error: Exception) -> str:
    """Return the message of an error, or the name of its type if the message is empty."""
    return str(error) or type(error).__name__
