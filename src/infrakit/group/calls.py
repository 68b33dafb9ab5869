"""The calls that change infrastructure, one by one: a deadline on each, and what its end lets us conclude.

What surely did not happen is distinguished from what may have happened (see `spi.errors`); only the first is ever
forgotten. The right to act is proven again before every such call, also between the drain and the destruction.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable

from infrakit.group.account import Account
from infrakit.group.actions import Action, ChangeMembership, Destroy, Label, Provision
from infrakit.group.ledger import Ledger, ManagerCallbacks
from infrakit.group.plan import DesiredState
from infrakit.group.plan import membership as member_list
from infrakit.group.prepare import prepared
from infrakit.group.state.backoff import BackoffPolicy
from infrakit.group.state.creation import Creation
from infrakit.group.state.member import Leaving, Member
from infrakit.group.state.view import GroupView
from infrakit.spi import errors, values
from infrakit.spi.clock import Clock
from infrakit.spi.event import Event, Kind, timestamp
from infrakit.spi.flavor import Flavor, Members, Releases
from infrakit.spi.group import Group, seconds
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import InstanceSpec

CALL_DEADLINE_S = 120.0
NOTHING_DONE = (errors.Unreachable, errors.Refused, errors.Conflict, errors.InvalidSpec)  # after a call that fails so
DRAINED_AT_ONCE_S = 0.1  # a drain that is over by then had nothing to move, and is not worth an event
RETRY_CALL = BackoffPolicy(first_s=2.0, longest_s=128.0)  # of a creation without an answer, with the same token


class Calls:
    """Calls for one group."""

    def __init__(
        self,
        *,
        account: Account,
        flavor: Flavor,
        ledger: Ledger,
        view: GroupView,
        clock: Clock,
        emit: Callable[[Event], object],
        want: Callable[[], DesiredState],
        version: Callable[[str], Group],
        callbacks: ManagerCallbacks,
    ) -> None:
        self._account = account
        self._flavor = flavor
        self._ledger = ledger
        self._view = view
        self._clock = clock
        self._emit = emit
        self._want = want
        self._version = version
        self._callbacks = callbacks
        self.ending: set[values.InstanceID] = set()  # whose destruction was requested, unless that surely did nothing

    async def perform(self, action: Action) -> bool:
        """Perform one action. True: the provider answered that it is done."""
        if isinstance(action, Provision):
            return await self._create(action)
        if isinstance(action, Destroy):
            return await self._destroy(action)
        if isinstance(action, Label):
            return await self._label(action)
        if isinstance(action, ChangeMembership):
            await self._change_membership(action)
            return False  # the flavor answered, not the provider
        raise AssertionError(action)

    async def _permit(self) -> None:
        """Fencing check: return only if a call may begin now. It covers what follows at once, up to the next await."""
        await self._ledger.prove()
        halt = self._want().orders.halt
        if halt is not None:
            raise errors.Halted(f"halted by {halt.who}: {halt.why}")
        self._ledger.check()

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

    async def _create(self, action: Provision) -> bool:
        pending = self._view.pending.get(action.slot)
        if pending is None or not pending.may_be_called:
            return False  # settled meanwhile
        pending.call()
        began = asyncio.get_running_loop().time()
        if pending.calls == 1 or pending.unsure:  # no further event for each call that surely did nothing
            self._report(Kind.CREATING, action, action.reason, slot=action.slot)
        try:
            await self._permit()
            spec = await self._prepare(action, pending)
            await self._permit()
        except asyncio.CancelledError:
            pending.not_created("cancelled", asyncio.get_running_loop().time())
            if not pending.unsure:
                why = "cancelled before the provider was called: nothing was created"
                self._report(Kind.CREATE_FAILED, action, why, slot=action.slot)
            raise
        except (errors.Halted, errors.NotLeader) as stopped:
            now = asyncio.get_running_loop().time()
            pending.not_created(str(stopped), now, retry_at=now + RETRY_CALL.first_s)
            return False
        except Exception as error:
            self._refused(action, pending, f"the flavor could not prepare it: {words(error)}")
            return False
        return await self._provision(action, pending, spec, began)

    async def _prepare(self, action: Provision, pending: Creation) -> InstanceSpec:
        return await prepared(
            self._version(action.hash),
            self._flavor,
            slot=action.slot,
            logical_id=action.logical_id,
            sequence=action.sequence,
            version=action.hash,
            token=pending.intent.token,
            created=timestamp(pending.intent.at),
        )

    async def _provision(self, action: Provision, pending: Creation, spec: InstanceSpec, began: float) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_DEADLINE_S):
                with self._account.took["provision"].timed():
                    instance = await self._account.instance.provision(spec=spec)
        except asyncio.CancelledError:
            listed = next((m for m in self._view.members.values() if m.token == pending.intent.token), None)
            if listed is not None:  # it was cancelled because its outcome is known
                self._created(action, pending, listed.id, "it is listed")
            else:
                self._unknown(action, pending, "call cancelled")
            raise
        except errors.Throttled as throttled:
            pending.not_created(str(throttled), loop.time())
            if self._account.throttle(throttled.after_s):
                self._report(Kind.THROTTLED, action, str(throttled), slot=action.slot)
        except errors.Unreachable as unreachable:
            retry_at = loop.time() + RETRY_CALL.delay_s(pending.calls + 1)
            pending.not_created(str(unreachable), loop.time(), retry_at=retry_at)
            self._report(Kind.CREATE_FAILED, action, str(unreachable), slot=action.slot)
        except (errors.Refused, errors.Conflict, errors.InvalidSpec, errors.NotFound) as refused:
            self._refused(action, pending, str(refused))
        except TimeoutError:
            self._unknown(action, pending, f"no answer within {CALL_DEADLINE_S:.0f} s")
        except Exception as error:
            self._unknown(action, pending, words(error))
        else:
            self._created(action, pending, instance, f"created in {loop.time() - began:.1f} s")
            return True
        return False

    def _created(self, action: Provision, pending: Creation, instance: values.InstanceID, how: str) -> None:
        pending.created(instance, asyncio.get_running_loop().time())
        self._report(Kind.CREATED, action, how, slot=action.slot, instance=instance)

    def _refused(self, action: Provision, pending: Creation, why: str) -> None:
        now = asyncio.get_running_loop().time()
        pending.refuse(why, now, retry_at=now + RETRY_CALL.delay_s(pending.calls + 1))
        self._report(Kind.CREATE_FAILED, action, why, slot=action.slot)

    def _unknown(self, action: Provision, pending: Creation, why: str) -> None:
        now = asyncio.get_running_loop().time()
        pending.unanswered(why, now, retry_at=now + RETRY_CALL.delay_s(pending.calls))
        if self._view.pending.get(action.slot) is pending:  # else it was settled meanwhile
            what = f"outcome unknown ({why}): listings are searched for its token"
            self._report(Kind.CREATE_UNKNOWN, action, what, slot=action.slot)

    # -- destroy ---------------------------------------------------------------------------------------------------

    async def _destroy(self, action: Destroy) -> bool:
        member = self._view.members.get(action.instance)
        if member is None or member.leaving:
            return False
        try:
            if not await self._ready(action, member):
                return False
            member.start_destroy()
            self.ending.add(member.id)
            self._report(Kind.DESTROYING, action, action.reason, instance=member.id, slot=member.slot)
            async with asyncio.timeout(CALL_DEADLINE_S):
                # If the instance no longer exists, the listing will show it.
                with contextlib.suppress(errors.NotFound), self._account.took["destroy"].timed():
                    await self._account.instance.destroy(
                        instance=member.id, context=DestroyContext(reason=action.context)
                    )
        except asyncio.CancelledError:
            self._cancelled(action, member)
            raise
        except (errors.Halted, errors.NotLeader):
            self._not_destroyed(member)
        except errors.Throttled as throttled:
            self._not_destroyed(member)
            if self._account.throttle(throttled.after_s):
                self._report(Kind.THROTTLED, action, str(throttled), instance=member.id, slot=member.slot)
        except Exception as error:
            self._destroy_failed(action, member, error)
        else:
            member.destroy_acknowledged(asyncio.get_running_loop().time())
            if action.rule == "unhealthy" and member.slot is not None:
                self._view.record_slot_failure(member.slot, action.reason, first_is_free=True)
            return True
        return False

    def _destroy_failed(self, action: Destroy, member: Member, error: Exception) -> None:
        if isinstance(error, NOTHING_DONE):
            self._not_destroyed(member)
        else:
            member.destroy_unknown(asyncio.get_running_loop().time())
        why = f"no answer within {CALL_DEADLINE_S:.0f} s" if isinstance(error, TimeoutError) else words(error)
        self._view.record_failure(member.id, why)
        self._report(Kind.DESTROY_FAILED, action, why, instance=member.id, slot=member.slot)

    def _not_destroyed(self, member: Member) -> None:
        self.ending.discard(member.id)
        member.destroy_not_done()

    def _cancelled(self, action: Destroy, member: Member) -> None:
        """If the provider had been called, the outcome is unknown."""
        called = member.leaving is Leaving.DESTROYING
        member.destroy_unknown(asyncio.get_running_loop().time())
        if called:
            why = "outcome unknown (call cancelled); the next listing will show it"
            self._report(Kind.DESTROY_FAILED, action, why, instance=member.id, slot=member.slot)

    async def _ready(self, action: Destroy, member: Member) -> bool:
        """Everything that precedes the call. False: the call must not be made now, or not by this replica."""
        await self._permit()
        if member.is_self and await self._callbacks.transfer_leadership(action.reason):
            return False
        if self._want().quorum and self._view.membership is not None and self._view.membership.changing is not None:
            return False  # the member list is changing: the next plan decides again
        if isinstance(self._flavor, Releases) and action.rule != "destroy-group":
            await self._release(self._flavor, member)
            await self._permit()
        if action.drain:
            await self._drain(action, member)
            await self._permit()
        return True

    async def _release(self, flavor: Releases, member: Member) -> None:
        """Unlike a drain it is required: a failure here prevents the destruction."""
        member.start_drain()
        group = self._want().group
        async with asyncio.timeout(CALL_DEADLINE_S):
            await flavor.release(
                properties=group.properties.flavor.properties,
                instance=member.description,
                allocation=group.properties.allocation.to_wire(),
            )

    async def _drain(self, action: Destroy, member: Member) -> None:
        """Move work away, within the deadline of the update policy. Only a refusal prevents the destruction."""
        member.start_drain()
        group = self._want().group
        deadline_s = seconds(group.properties.updating.drain_timeout)
        about = {"instance": member.id, "slot": member.slot}
        tell = functools.partial(self._report, Kind.DRAINING, action, action.reason, **about)
        telling = asyncio.get_running_loop().call_later(DRAINED_AT_ONCE_S, tell)
        try:
            async with asyncio.timeout(deadline_s):
                await self._flavor.drain(properties=group.properties.flavor.properties, instance=member.description)
        except errors.Refused:
            raise
        except Exception as error:
            why = f"not done within {deadline_s:.0f} s" if isinstance(error, TimeoutError) else words(error)
            message = f"drain failed ({why}); destroying it anyway"
            self._report(Kind.DRAIN_FAILED, action, message, **about)
        finally:
            telling.cancel()

    # -- label -----------------------------------------------------------------------------------------------------

    async def _label(self, action: Label) -> bool:
        labels = {values.TAG_HASH: action.hash}
        try:
            await self._permit()
            async with asyncio.timeout(CALL_DEADLINE_S):
                await self._account.instance.label(instance=action.instance, labels=labels)
        except errors.Throttled as throttled:
            self._account.throttle(throttled.after_s)
        except Exception as error:
            self._view.record_failure(action.instance, words(error))
            self._report(Kind.ERROR, action, f"labelling failed: {words(error)}", instance=action.instance)
        else:
            self._report(Kind.LABELLED, action, action.reason, instance=action.instance)
            return True
        return False

    # -- the member list ---------------------------------------------------------------------------------------------

    async def _change_membership(self, action: ChangeMembership) -> None:
        flavor, change = self._flavor, action.change
        if not isinstance(flavor, Members):
            return
        instance = change.instance if change.instance in self._view.members else None
        tell = functools.partial(self._report, action=action, instance=instance)
        why, done = "the change was made and is still needed", False
        self._view.change_begins(change)  # from here on nothing is destroyed
        try:
            await self._permit()
            want = self._want()
            if member_list.in_the_way(want, self._view) is not None:
                return  # a destruction has begun first
            async with asyncio.timeout(CALL_DEADLINE_S):
                await flavor.change_membership(
                    properties=want.group.properties.flavor.properties,
                    change=change,
                    instances=self._view.not_dead(),
                    allocation=want.group.properties.allocation.to_wire(),
                )
            done = True
            tell(Kind.MEMBERSHIP, message=action.reason)
        except asyncio.CancelledError:
            tell(
                Kind.ERROR,
                message=f"{change.what}: outcome unknown (call cancelled); the member list will show it",
            )
            raise
        except (errors.Halted, errors.NotLeader):
            return
        except Exception as error:
            why = f"no answer within {CALL_DEADLINE_S:.0f} s" if isinstance(error, TimeoutError) else words(error)
            kind = Kind.REFUSED if isinstance(error, errors.Refused) else Kind.ERROR
            tell(kind, message=f"{change.what}: {why}")
        finally:
            self._view.change_ends(asyncio.get_running_loop().time(), done=done)
        self._view.record_failure(member_list.key(change), why)


def words(error: Exception) -> str:
    """An error in words, also one that has none."""
    return str(error) or type(error).__name__
