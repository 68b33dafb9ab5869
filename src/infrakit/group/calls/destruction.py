"""The destruction of an instance: first its leadership is transferred, it is released and drained, as needed."""

import asyncio
import contextlib
import functools

from infrakit.gate.authority import NotBegun, Outdated
from infrakit.gate.gate import CALL_DEADLINE_S, NOTHING_DONE
from infrakit.group.actions import Destroy
from infrakit.group.calls.caller import CallingGroup, error_text, pause
from infrakit.group.plan import DesiredState
from infrakit.group.plan.unsettled import blocking_call
from infrakit.group.state.member import Leaving, Member
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.flavor import Releases
from infrakit.spi.group import seconds
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import InstanceID

DRAINED_AT_ONCE_S = 0.1  # a drain that is faster had nothing to move, and emits no event


class Destructions:
    """Destroys the instances of one group."""

    def __init__(self, group: CallingGroup) -> None:
        self._group = group
        self.begun: set[InstanceID] = set()  # requested, and possibly in effect

    async def destroy(self, action: Destroy, want: DesiredState) -> bool:
        member = self._group.view.members.get(action.instance)
        if member is None or member.leaving:
            return False

        def begin() -> None:
            self._group.require_unchanged(want, action)
            self._require_destroyable(member, want)
            member.start_destroy()
            self.begun.add(member.id)
            self._group.report(Kind.DESTROYING, action, action.reason, instance=member.id, slot=member.slot)

        try:
            if not await self._prepare_destroy(action, member, want):
                return False
            provider, context = self._group.account.instance, DestroyContext(reason=action.context)
            with contextlib.suppress(errors.NotFound):  # if the instance no longer exists, the listing will show it
                await self._group.gate.destroy(provider, instance=member.id, context=context, begin=begin)
        except asyncio.CancelledError:
            self._cancelled(action, member)
            raise
        except NotBegun as stopped:
            self._not_destroyed(member)
            await pause(stopped)
        except Exception as error:
            self._destroy_failed(action, member, error)
        else:
            member.destroy_acknowledged(asyncio.get_running_loop().time())
            if action.rule == "unhealthy":
                self._group.view.record_replacement(member, action.reason)
            return True
        return False

    def _destroy_failed(self, action: Destroy, member: Member, error: Exception) -> None:
        if isinstance(error, errors.Throttled):
            self._not_destroyed(member)
            if self._group.account.throttle(error.after_s):
                self._group.report(Kind.THROTTLED, action, str(error), instance=member.id, slot=member.slot)
            return
        if isinstance(error, NOTHING_DONE):
            self._not_destroyed(member)
        else:
            member.destroy_unknown(asyncio.get_running_loop().time())
        why = f"no answer within {CALL_DEADLINE_S:.0f} s" if isinstance(error, TimeoutError) else error_text(error)
        self._group.view.record_failure(member.id, why)
        self._group.report(Kind.DESTROY_FAILED, action, why, instance=member.id, slot=member.slot)

    def _not_destroyed(self, member: Member) -> None:
        self.begun.discard(member.id)
        member.destroy_not_done()

    def _cancelled(self, action: Destroy, member: Member) -> None:
        """Record a cancelled destruction: its outcome is unknown if the provider had been called."""
        called = member.leaving is Leaving.DESTROYING
        member.destroy_unknown(asyncio.get_running_loop().time())
        if called:
            why = "outcome unknown (call cancelled); the next listing will show it"
            self._group.report(Kind.DESTROY_FAILED, action, why, instance=member.id, slot=member.slot)

    async def _prepare_destroy(self, action: Destroy, member: Member, want: DesiredState) -> bool:
        """Transfer leadership, release and drain as needed. False: do not destroy it now, or not from this replica."""
        if member.is_self:
            await self._group.gate.permit(lambda: self._group.require_unchanged(want, action))
            if await self._group.callbacks.transfer_leadership(action.reason):
                return False
        if isinstance(self._group.flavor, Releases) and action.rule != "destroy-group":
            await self._release(self._group.flavor, action, member, want)
        if action.drain:
            await self._drain(action, member, want)
        return True

    def _require_destroyable(self, member: Member, want: DesiredState) -> None:
        """Raise `Outdated` if it has terminated, or while the member list is changing: the next plan decides again."""
        if self._group.view.members.get(member.id) is not member:
            raise Outdated("it has terminated")
        if want.quorum and self._group.view.membership is not None and self._group.view.membership.changing is not None:
            raise Outdated("the member list is changing")
        if why := blocking_call(want, self._group.view)[0]:
            raise Outdated(why)

    async def _release(self, flavor: Releases, action: Destroy, member: Member, want: DesiredState) -> None:
        """Call `Releases` of the flavor. Unlike a drain it is required: a failure prevents the destruction."""

        def begin() -> None:
            self._group.require_unchanged(want, action)
            self._require_destroyable(member, want)
            member.start_drain()

        await self._group.gate.release(
            flavor,
            properties=want.group.properties.flavor.properties,
            instance=member.description,
            allocation=want.group.properties.allocation.to_wire(),
            begin=begin,
        )

    async def _drain(self, action: Destroy, member: Member, want: DesiredState) -> None:
        """Drain the instance, for at most DrainTimeout. Only a refusal prevents the destruction."""
        loop = asyncio.get_running_loop()
        deadline_s = seconds(want.group.properties.updating.drain_timeout)
        about = {"instance": member.id, "slot": member.slot}
        report = functools.partial(self._group.report, Kind.DRAINING, action, action.reason, **about)
        timers: list[asyncio.TimerHandle] = []

        def begin() -> None:
            self._group.require_unchanged(want, action)
            self._require_destroyable(member, want)
            member.start_drain()
            timers.append(loop.call_later(DRAINED_AT_ONCE_S, report))

        try:
            await self._group.gate.drain(
                self._group.flavor,
                properties=want.group.properties.flavor.properties,
                instance=member.description,
                timeout_s=deadline_s,
                begin=begin,
            )
        except errors.Refused:
            raise
        except Exception as error:
            why = f"not done within {deadline_s:.0f} s" if isinstance(error, TimeoutError) else error_text(error)
            message = f"drain failed ({why}); destroying it anyway"
            self._group.report(Kind.DRAIN_FAILED, action, message, **about)
        finally:
            for timer in timers:
                timer.cancel()
