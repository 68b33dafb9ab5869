"""The creation of an instance: what its answer proves, and what a missing answer leaves open."""

import asyncio
from collections.abc import Callable

from infrakit.gate.authority import NotBegun, Outdated
from infrakit.gate.gate import CALL_DEADLINE_S
from infrakit.group.actions import Provision
from infrakit.group.calls.caller import CallingGroup, error_text
from infrakit.group.plan import DesiredState
from infrakit.group.prepare import prepared
from infrakit.group.state import matching, tags
from infrakit.group.state.backoff import BackoffPolicy
from infrakit.group.state.creation import Creation, Phase
from infrakit.spi import errors, values
from infrakit.spi.event import Event, Kind, timestamp
from infrakit.spi.values import InstanceSpec

NOTHING_CREATED = (errors.Refused, errors.Conflict, errors.InvalidSpec, errors.NotFound)  # answers of a provider
NO_ANSWER = (TimeoutError, errors.OutcomeUnknown, errors.Unreachable, errors.Throttled)  # not about the instance
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


class Creations:
    """Creates the instances of one group."""

    def __init__(self, group: CallingGroup) -> None:
        self._group = group

    async def create(self, action: Provision, want: DesiredState) -> bool:
        pending = self._group.view.pending.get(action.slot)
        if pending is None or not pending.may_be_called:
            return False  # settled in the meantime
        if pending.phase is Phase.UNKNOWN and not want.tokens:
            return False  # an earlier plan's call has ended since: another one could create a second instance
        pending.call(action.hash)
        began = asyncio.get_running_loop().time()
        if pending.calls == 1 or pending.uncertain:  # else a retry after a call without effect: no further event
            self._group.report(Kind.CREATING, action, action.reason, slot=action.slot)

        def still_wanted() -> None:
            self._group.require(want)
            if self._group.view.pending.get(action.slot) is not pending:
                raise Outdated("its instance is listed")

        call = _Call(still_wanted, pending)
        try:
            self._group.require(want)
            spec = await self._prepare(action, pending, want)
            instance = await self._group.gate.provision(self._group.account.instance, spec=spec, begin=call.begin)
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
        pending = self._group.view.pending.get(slot)
        if pending is None or pending.phase is not Phase.CALLING:
            return False
        listed = matching.listed(pending, self._group.view.members)
        if listed is None:
            return False
        pending.listed_before_response()
        group = self._group.view.group
        self._group.emit(Event(type=Kind.CREATED, group=group, instance=listed.id, slot=slot, message="it is listed"))
        return True

    async def _prepare(self, action: Provision, pending: Creation, want: DesiredState) -> InstanceSpec:
        return await prepared(
            want.version(action.hash),
            self._group.flavor,
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
                self._group.report(Kind.CREATE_FAILED, action, why, slot=action.slot)
            return
        listed = matching.listed(pending, self._group.view.members)
        if listed is not None:  # cancelled because its outcome is already known
            self._created(action, pending, listed.id, "it is listed")
        else:
            self._unknown(action, pending, "call cancelled")

    def _not_begun(self, action: Provision, pending: Creation, error: Exception) -> None:
        """Record a creation that the gate did not admit, or that the flavor could not prepare."""
        if not isinstance(error, NotBegun) and not pending.listed_first:
            if action.hash != self._group.want().group.hash and isinstance(error, NOTHING_CREATED):
                self._group.view.versions.cannot_prepare(action.slot, action.hash)  # the declared version is next
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
            if self._group.account.throttle(error.after_s):
                self._group.report(Kind.THROTTLED, action, str(error), slot=action.slot)
        elif isinstance(error, errors.Unreachable) or (isinstance(error, errors.Conflict) and not pending.uncertain):
            # No start has failed: what holds the address or the volume may release it at any moment.
            pending.not_created(str(error), now, retry_at=now + RETRY_CALL.delay_s(pending.calls + 1))
            self._group.report(Kind.CREATE_FAILED, action, str(error), slot=action.slot)
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
            self._group.report(Kind.CREATE_FAILED, action, why, slot=action.slot)
        else:
            pending.unanswered(why, now, retry_at=now, provider_error="" if isinstance(error, NO_ANSWER) else why)
        if pending.provider_error:
            self._group.view.start_failed(action.slot, pending)

    def _created(self, action: Provision, pending: Creation, instance: values.InstanceID, how: str) -> None:
        broken = self._group.view.acknowledge(action.slot, pending, instance, asyncio.get_running_loop().time())
        if broken:  # what the call has done, if anything, is not known
            self._unknown(action, pending, broken)
            return
        if (member := self._group.view.members.get(instance)) is not None:  # listed before the answer
            tags.created(self._group.view, action.slot, pending, member)
        if not pending.listed_first:
            self._group.report(Kind.CREATED, action, how, slot=action.slot, instance=instance)

    def _refused(self, action: Provision, pending: Creation, why: str) -> None:
        now = asyncio.get_running_loop().time()
        pending.refuse(why, now, retry_at=now + RETRY_CALL.delay_s(pending.calls + 1))
        self._group.report(Kind.CREATE_FAILED, action, why, slot=action.slot)

    def _unknown(self, action: Provision, pending: Creation, why: str, *, provider_error: str = "") -> None:
        now, known = asyncio.get_running_loop().time(), pending.error == why
        retry_at = now + RETRY_CALL.delay_s(pending.calls)
        pending.unanswered(why, now, retry_at=retry_at, provider_error=provider_error)
        if self._group.view.pending.get(action.slot) is pending and not known:  # else it was settled in the meantime
            what = f"outcome unknown ({why}): listings are searched for its token"
            self._group.report(Kind.CREATE_UNKNOWN, action, what, slot=action.slot)
