"""The calls that change infrastructure: each has a timeout, and its result or error determines what is known next.

A call that certainly had no effect is distinguished from one that may have had one (see `spi.errors`); only the former
is dropped. Each call passes the gate when it begins, also the destruction that follows a drain.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from infrakit.gate.authority import NotBegun, Outdated
from infrakit.gate.gate import CALL_DEADLINE_S, NOTHING_DONE, Gate
from infrakit.group.account import Account
from infrakit.group.actions import Action, ChangeMembership, Destroy, Label, Provision
from infrakit.group.concerns import concerns
from infrakit.group.ledger import ManagerCallbacks
from infrakit.group.plan import DesiredState
from infrakit.group.plan import membership as member_list
from infrakit.group.plan.adopting import FAILURES
from infrakit.group.plan.unsettled import blocking_call
from infrakit.group.prepare import prepared
from infrakit.group.state import matching, tags
from infrakit.group.state.backoff import BackoffPolicy
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Leaving, Member
from infrakit.group.state.view import GroupView
from infrakit.spi import errors, values
from infrakit.spi.clock import Clock
from infrakit.spi.event import Event, Kind, timestamp
from infrakit.spi.flavor import Flavor, Members, Releases
from infrakit.spi.group import seconds
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Description, InstanceSpec

NOT_BEGUN_PAUSE_S = 0.5  # before the next plan, after the gate did not admit a call
NOTHING_CREATED = (errors.Refused, errors.Conflict, errors.InvalidSpec, errors.NotFound)  # answers of a provider
NO_ANSWER = (TimeoutError, errors.OutcomeUnknown, errors.Unreachable, errors.Throttled)  # not about the instance
DRAINED_AT_ONCE_S = 0.1  # a drain that is faster had nothing to move, and emits no event
RETRY_CALL = BackoffPolicy(first_s=2.0, longest_s=128.0)  # of a creation that was not answered, with the same token


class _Call:
    """Whether a call has begun: from then on, its outcome is unknown until the other side has answered."""

    def __init__(self, require: Callable[[], object], pending: Creation) -> None:
        self.begun = False
        self._require = require
        self._pending = pending

    def begin(self) -> None:
        self._require()
        self._pending.requested(asyncio.get_running_loop().time() + CALL_DEADLINE_S)
        self.begun = True


class Calls:
    """Performs the calls of one group, and records their outcomes in its view."""

    def __init__(
        self,
        *,
        account: Account,
        flavor: Flavor,
        gate: Gate,
        view: GroupView,
        clock: Clock,
        emit: Callable[[Event], object],
        want: Callable[[], DesiredState],
        live: Callable[[], list[Description]],
        callbacks: ManagerCallbacks,
    ) -> None:
        self._account = account
        self._flavor = flavor
        self._gate = gate
        self._view = view
        self._clock = clock
        self._emit = emit
        self._want = want
        self._live = live  # what the member list of the flavor is compared with
        self._callbacks = callbacks
        self.destroying: set[values.InstanceID] = set()  # destruction requested, and possibly in effect
        self.changing: dict[str, float] = {}  # changes of the member list not answered yet, and when the deadline is

    def perform(self, action: Action) -> Coroutine[Any, Any, bool]:
        """Perform one action of a plan for the current declaration. True: the provider confirmed success.

        If the declaration or the commands of the group change before a call begins, it does not begin.
        """
        want = self._want()
        if isinstance(action, Provision):
            return self._create(action, want)
        if isinstance(action, Destroy):
            return self._destroy(action, want)
        if isinstance(action, Label):
            return self._label(action, want)
        if isinstance(action, ChangeMembership):
            return self._change_membership(action, want)
        raise AssertionError(action)

    def _require(self, want: DesiredState) -> None:
        """Raise `Outdated` if the group's declaration or commands are not those that the action was planned for."""
        if self._want() is not want:
            raise Outdated("the declaration of the group has changed")

    def _require_unchanged(self, want: DesiredState, action: Destroy) -> None:
        """Raise `Outdated` if a change of the declaration or commands since then concerns this destruction."""
        if concerns(want, self._want(), action):
            raise Outdated("the declaration of the group has changed")

    def _report(self, kind: Kind, action: Action, message: str, **about: str | None) -> None:
        self._emit(
            Event(
                type=kind,
                group=self._view.group,
                instance=values.InstanceID(i) if (i := about.get("instance")) else None,
                slot=values.Slot(s) if (s := about.get("slot")) else None,
                message=message,
                cause=action.rule,
            )
        )

    # -- create ----------------------------------------------------------------------------------------------------

    async def _create(self, action: Provision, want: DesiredState) -> bool:
        pending = self._view.pending.get(action.slot)
        if pending is None or not pending.may_be_called:
            return False  # settled in the meantime
        if pending.phase is Phase.UNKNOWN and not want.tokens:
            return False  # an earlier plan's call has ended since: another one could create a second instance
        pending.call(action.hash)
        began = asyncio.get_running_loop().time()
        if pending.calls == 1 or pending.uncertain:  # else a retry after a call without effect: no further event
            self._report(Kind.CREATING, action, action.reason, slot=action.slot)

        def still_wanted() -> None:
            self._require(want)
            if self._view.pending.get(action.slot) is not pending:
                raise Outdated("its instance is listed")

        call = _Call(still_wanted, pending)
        try:
            self._require(want)
            spec = await self._prepare(action, pending, want)
            instance = await self._gate.provision(self._account.instance, spec=spec, begin=call.begin)
        except asyncio.CancelledError:
            self._create_cancelled(action, pending, begun=call.begun)
            raise
        except Exception as error:
            if call.begun:
                self._create_failed(action, pending, error)
            else:
                self._not_begun(action, pending, error)
            return False
        self._created(action, pending, instance, f"created in {asyncio.get_running_loop().time() - began:.1f} s")
        return pending.phase is Phase.CREATED

    def listed_before_response(self, slot: values.Slot) -> bool:
        """Report a creation in flight as created, because its instance is listed. False: it is not."""
        pending = self._view.pending.get(slot)
        if pending is None or pending.phase is not Phase.CALLING:
            return False
        listed = matching.listed(pending, self._view.members)
        if listed is None:
            return False
        pending.listed_before_response()
        self._emit(
            Event(type=Kind.CREATED, group=self._view.group, instance=listed.id, slot=slot, message="it is listed")
        )
        return True

    async def _prepare(self, action: Provision, pending: Creation, want: DesiredState) -> InstanceSpec:
        return await prepared(
            want.version(action.hash),
            self._flavor,
            slot=action.slot,
            logical_id=action.logical_id,
            sequence=action.sequence,
            version=action.hash,
            token=pending.intent.token,
            created=timestamp(pending.intent.at),
            made_from=want.member_version(action.hash, action.logical_id),
        )

    def _create_cancelled(self, action: Provision, pending: Creation, *, begun: bool) -> None:
        """Record a cancelled creation: its outcome is unknown if the provider had been called."""
        if pending.listed_first:
            pending.not_created("cancelled", asyncio.get_running_loop().time())
            return
        if not begun:
            pending.not_created("cancelled", asyncio.get_running_loop().time())
            if not pending.uncertain:
                why = "cancelled before the provider was called: nothing was created"
                self._report(Kind.CREATE_FAILED, action, why, slot=action.slot)
            return
        listed = matching.listed(pending, self._view.members)
        if listed is not None:  # cancelled because its outcome is already known
            self._created(action, pending, listed.id, "it is listed")
        else:
            self._unknown(action, pending, "call cancelled")

    def _not_begun(self, action: Provision, pending: Creation, error: Exception) -> None:
        """Record a creation that the gate did not admit, or that the flavor could not prepare."""
        if not isinstance(error, NotBegun) and not pending.listed_first:
            if action.hash != self._want().group.hash and isinstance(error, NOTHING_CREATED):
                self._view.versions.cannot_prepare(action.slot, action.hash)  # the declared version is next
            self._refused(action, pending, f"the flavor could not prepare it: {error_text(error)}")
            return
        now = asyncio.get_running_loop().time()
        retry_at = now if isinstance(error, Outdated) else now + RETRY_CALL.first_s  # a new plan decides at once
        pending.not_created(str(error), now, retry_at=retry_at)

    def _create_failed(self, action: Provision, pending: Creation, error: Exception) -> None:
        """Record the error of the provider, by what it implies about the outcome."""
        now = asyncio.get_running_loop().time()
        if pending.listed_first:
            self._start_failed(action, pending, error)
            return
        if isinstance(error, errors.Throttled):
            pending.not_created(str(error), now)
            if self._account.throttle(error.after_s):
                self._report(Kind.THROTTLED, action, str(error), slot=action.slot)
        elif isinstance(error, errors.Unreachable) or (isinstance(error, errors.Conflict) and not pending.uncertain):
            # No start has failed: what holds the address or the volume may release it at any moment.
            pending.not_created(str(error), now, retry_at=now + RETRY_CALL.delay_s(pending.calls + 1))
            self._report(Kind.CREATE_FAILED, action, str(error), slot=action.slot)
        elif isinstance(error, NOTHING_CREATED):
            self._refused(action, pending, str(error))
        elif isinstance(error, TimeoutError):
            self._unknown(action, pending, f"no answer within {CALL_DEADLINE_S:.0f} s")
        else:
            own = "" if isinstance(error, NO_ANSWER) else error_text(error)
            self._unknown(action, pending, error_text(error), provider_error=own)

    def _start_failed(self, action: Provision, pending: Creation, error: Exception) -> None:
        """Record the error of a call whose instance is listed already: it explains a termination that follows."""
        now, why = asyncio.get_running_loop().time(), error_text(error)
        if isinstance(error, NOTHING_CREATED):
            pending.refuse(why, now, retry_at=now)
            self._report(Kind.CREATE_FAILED, action, why, slot=action.slot)
        else:
            pending.unanswered(why, now, retry_at=now, provider_error="" if isinstance(error, NO_ANSWER) else why)
        if pending.provider_error:
            self._view.start_failed(action.slot, pending)

    def _created(self, action: Provision, pending: Creation, instance: values.InstanceID, how: str) -> None:
        broken = self._view.acknowledge(action.slot, pending, instance, asyncio.get_running_loop().time())
        if broken:  # what the call has done, if anything, is not known
            self._unknown(action, pending, broken)
            return
        if (member := self._view.members.get(instance)) is not None:  # listed before the answer
            tags.created(self._view, action.slot, pending, member)
        if not pending.listed_first:
            self._report(Kind.CREATED, action, how, slot=action.slot, instance=instance)

    def _refused(self, action: Provision, pending: Creation, why: str) -> None:
        now = asyncio.get_running_loop().time()
        pending.refuse(why, now, retry_at=now + RETRY_CALL.delay_s(pending.calls + 1))
        self._report(Kind.CREATE_FAILED, action, why, slot=action.slot)

    def _unknown(self, action: Provision, pending: Creation, why: str, *, provider_error: str = "") -> None:
        now, known = asyncio.get_running_loop().time(), pending.error == why
        retry_at = now + RETRY_CALL.delay_s(pending.calls)
        pending.unanswered(why, now, retry_at=retry_at, provider_error=provider_error)
        if self._view.pending.get(action.slot) is pending and not known:  # else it was settled in the meantime
            what = f"outcome unknown ({why}): listings are searched for its token"
            self._report(Kind.CREATE_UNKNOWN, action, what, slot=action.slot)

    # -- destroy ---------------------------------------------------------------------------------------------------

    async def _destroy(self, action: Destroy, want: DesiredState) -> bool:
        member = self._view.members.get(action.instance)
        if member is None or member.leaving:
            return False

        def begin() -> None:
            self._require_unchanged(want, action)
            self._require_destroyable(member, want)
            member.start_destroy()
            self.destroying.add(member.id)
            self._report(Kind.DESTROYING, action, action.reason, instance=member.id, slot=member.slot)

        try:
            if not await self._prepare_destroy(action, member, want):
                return False
            context = DestroyContext(reason=action.context)
            with contextlib.suppress(errors.NotFound):  # if the instance no longer exists, the listing will show it
                await self._gate.destroy(self._account.instance, instance=member.id, context=context, begin=begin)
        except asyncio.CancelledError:
            self._cancelled(action, member)
            raise
        except NotBegun as stopped:
            self._not_destroyed(member)
            await _pause(stopped)
        except Exception as error:
            self._destroy_failed(action, member, error)
        else:
            member.destroy_acknowledged(asyncio.get_running_loop().time())
            if action.rule == "unhealthy":
                self._view.record_replacement(member, action.reason)
            return True
        return False

    def _destroy_failed(self, action: Destroy, member: Member, error: Exception) -> None:
        if isinstance(error, errors.Throttled):
            self._not_destroyed(member)
            if self._account.throttle(error.after_s):
                self._report(Kind.THROTTLED, action, str(error), instance=member.id, slot=member.slot)
            return
        if isinstance(error, NOTHING_DONE):
            self._not_destroyed(member)
        else:
            member.destroy_unknown(asyncio.get_running_loop().time())
        why = f"no answer within {CALL_DEADLINE_S:.0f} s" if isinstance(error, TimeoutError) else error_text(error)
        self._view.record_failure(member.id, why)
        self._report(Kind.DESTROY_FAILED, action, why, instance=member.id, slot=member.slot)

    def _not_destroyed(self, member: Member) -> None:
        self.destroying.discard(member.id)
        member.destroy_not_done()

    def _cancelled(self, action: Destroy, member: Member) -> None:
        """Record a cancelled destruction: its outcome is unknown if the provider had been called."""
        called = member.leaving is Leaving.DESTROYING
        member.destroy_unknown(asyncio.get_running_loop().time())
        if called:
            why = "outcome unknown (call cancelled); the next listing will show it"
            self._report(Kind.DESTROY_FAILED, action, why, instance=member.id, slot=member.slot)

    async def _prepare_destroy(self, action: Destroy, member: Member, want: DesiredState) -> bool:
        """Transfer leadership, release and drain as needed. False: do not destroy it now, or not from this replica."""
        if member.is_self:
            await self._gate.permit(lambda: self._require_unchanged(want, action))
            if await self._callbacks.transfer_leadership(action.reason):
                return False
        if isinstance(self._flavor, Releases) and action.rule != "destroy-group":
            await self._release(self._flavor, action, member, want)
        if action.drain:
            await self._drain(action, member, want)
        return True

    def _require_destroyable(self, member: Member, want: DesiredState) -> None:
        """Raise `Outdated` if it has terminated, or while the member list is changing: the next plan decides again."""
        if self._view.members.get(member.id) is not member:
            raise Outdated("it has terminated")
        if want.quorum and self._view.membership is not None and self._view.membership.changing is not None:
            raise Outdated("the member list is changing")
        if why := blocking_call(want, self._view)[0]:
            raise Outdated(why)

    async def _release(self, flavor: Releases, action: Destroy, member: Member, want: DesiredState) -> None:
        """Call `Releases` of the flavor. Unlike a drain it is required: a failure prevents the destruction."""

        def begin() -> None:
            self._require_unchanged(want, action)
            self._require_destroyable(member, want)
            member.start_drain()

        await self._gate.release(
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
        report = functools.partial(self._report, Kind.DRAINING, action, action.reason, **about)
        timers: list[asyncio.TimerHandle] = []

        def begin() -> None:
            self._require_unchanged(want, action)
            self._require_destroyable(member, want)
            member.start_drain()
            timers.append(loop.call_later(DRAINED_AT_ONCE_S, report))

        try:
            await self._gate.drain(
                self._flavor,
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
            self._report(Kind.DRAIN_FAILED, action, message, **about)
        finally:
            for timer in timers:
                timer.cancel()

    # -- label -----------------------------------------------------------------------------------------------------

    async def _label(self, action: Label, want: DesiredState) -> bool:
        labels = {values.TAG_HASH: action.hash}
        if action.made_from:
            labels[values.TAG_MADE_FROM] = action.made_from

        def begin() -> None:
            self._require(want)
            if (member := self._view.members.get(action.instance)) is not None:
                until = asyncio.get_running_loop().time() + CALL_DEADLINE_S + self._view.lag_s
                member.label_requested(action.hash, until=until)

        try:
            await self._gate.label(
                self._account.instance,
                instance=action.instance,
                labels=labels,
                begin=begin,
            )
        except NotBegun as stopped:
            await _pause(stopped)
            return False
        except errors.Throttled as throttled:
            self._account.throttle(throttled.after_s)
        except Exception as error:
            key = f"{FAILURES}{action.instance}"
            if key not in self._view.backoffs:  # else it is reported as blocked
                self._report(Kind.ERROR, action, f"labelling failed: {error_text(error)}", instance=action.instance)
            self._view.record_failure(key, error_text(error))
        else:
            if (member := self._view.members.get(action.instance)) is not None:
                member.was_labelled(action.hash, action.made_from, asyncio.get_running_loop().time())
            self._report(Kind.LABELLED, action, action.reason, instance=action.instance)
            return True
        return False

    # -- the member list -------------------------------------------------------------------------------------------

    async def _change_membership(self, action: ChangeMembership, want: DesiredState) -> bool:
        """Make one change of the member list. False: the flavor answered, not the provider."""
        flavor, change = self._flavor, action.change
        if not isinstance(flavor, Members):
            return False
        instance = change.instance if change.instance in self._view.members else None
        report = functools.partial(self._report, action=action, instance=instance)
        why, done = "the change succeeded and is still needed", False
        self._view.change_started(change)  # from here on, nothing is destroyed

        def begin() -> None:
            self._require(want)
            if member_list.blocking_member(want, self._view) is not None:
                raise Outdated("a destruction has started before it")
            self.changing[change.id] = asyncio.get_running_loop().time() + CALL_DEADLINE_S

        try:
            await self._gate.change_membership(
                flavor,
                properties=want.group.properties.flavor.properties,
                change=change,
                instances=self._live,
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
            await _pause(stopped)
            return False
        except Exception as error:
            why = f"no answer within {CALL_DEADLINE_S:.0f} s" if isinstance(error, TimeoutError) else error_text(error)
            kind = Kind.REFUSED if isinstance(error, errors.Refused) else Kind.ERROR
            report(kind, message=f"{change.what}: {why}")
            until = self.changing.pop(change.id)
            if isinstance(error, errors.OutcomeUnknown | TimeoutError) and self._view.membership is not None:
                self._view.membership.unknown({change.id}, until)
        else:
            del self.changing[change.id]
        finally:
            self._view.change_ended(asyncio.get_running_loop().time(), done=done)
        self._view.record_failure(member_list.key(change), why)
        return False


async def _pause(stopped: NotBegun) -> None:
    """Delay the next plan: one for a new declaration is made at once, other reasons last for a while."""
    if not isinstance(stopped, Outdated):
        await asyncio.sleep(NOT_BEGUN_PAUSE_S)


def error_text(error: Exception) -> str:
    """Return the message of an error, or the name of its type if the message is empty."""
    return str(error) or type(error).__name__
