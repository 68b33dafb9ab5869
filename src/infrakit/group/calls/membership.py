"""A change of the member list of a quorum."""

import asyncio
import functools

from infrakit.gate.authority import NotBegun, Outdated
from infrakit.gate.gate import CALL_DEADLINE_S
from infrakit.group.actions import ChangeMembership
from infrakit.group.calls.caller import CallingGroup, error_text, pause
from infrakit.group.plan import DesiredState
from infrakit.group.plan import membership as member_list
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.flavor import Members


class MembershipChanges:
    """Changes the member list of one group."""

    def __init__(self, group: CallingGroup) -> None:
        self._group = group
        self.begun: dict[str, float] = {}  # changes that are not answered yet, and when the deadline is

    async def change(self, action: ChangeMembership, want: DesiredState) -> bool:
        """Make one change of the member list. False: the flavor answered, not the provider."""
        flavor, change = self._group.flavor, action.change
        if not isinstance(flavor, Members):
            return False
        instance = change.instance if change.instance in self._group.view.members else None
        report = functools.partial(self._group.report, action=action, instance=instance)
        why, done = "the change succeeded and is still needed", False
        self._group.view.change_started(change)  # from here on, nothing is destroyed

        def begin() -> None:
            self._group.require(want)
            if member_list.blocking_member(want, self._group.view) is not None:
                raise Outdated("a destruction has started before it")
            self.begun[change.id] = asyncio.get_running_loop().time() + CALL_DEADLINE_S

        try:
            await self._group.gate.change_membership(
                flavor,
                properties=want.group.properties.flavor.properties,
                change=change,
                instances=self._group.live,
                allocation=want.group.properties.allocation.to_wire(),
                begin=begin,
            )
            done = True
            report(Kind.MEMBERSHIP, message=action.reason)
        except asyncio.CancelledError:
            report(
                Kind.ERROR,
                message=f"{change.what}: outcome unknown (call cancelled); the member list will show it",
            )
            raise
        except NotBegun as stopped:
            await pause(stopped)
            return False
        except Exception as error:
            why = f"no answer within {CALL_DEADLINE_S:.0f} s" if isinstance(error, TimeoutError) else error_text(error)
            kind = Kind.REFUSED if isinstance(error, errors.Refused) else Kind.ERROR
            report(kind, message=f"{change.what}: {why}")
            until = self.begun.pop(change.id)
            if isinstance(error, errors.OutcomeUnknown | TimeoutError) and self._group.view.membership is not None:
                self._group.view.membership.unknown({change.id}, until)
        else:
            del self.begun[change.id]
        finally:
            self._group.view.change_ended(asyncio.get_running_loop().time(), done=done)
        self._group.view.record_failure(member_list.key(change), why)
        return False
