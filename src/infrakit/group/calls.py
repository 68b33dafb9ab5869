"""The calls that change infrastructure, one by one: a deadline on each, and what its end lets us conclude.

What surely did not happen is told apart from what may have happened (see `spi.errors`); only the first is ever
forgotten. The right to act is proven again before every such call, also between the drain and the destruction.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable

from infrakit.group.account import Account
from infrakit.group.actions import Action, ChangeMembership, Destroy, Label, Provision
from infrakit.group.ledger import Ledger, Superior
from infrakit.group.plan import Want
from infrakit.group.plan import membership as list_of_members
from infrakit.group.prepare import prepared
from infrakit.group.view import GroupView, Member, Pending
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
ASK_AGAIN_S = 2.0  # first wait before an unanswered creation is asked for again with its token; doubles


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
        want: Callable[[], Want],
        version: Callable[[str], Group],
        stumble: Callable[[str, str], None],
        superior: Superior,
    ) -> None:
        self._account = account
        self._flavor = flavor
        self._ledger = ledger
        self._view = view
        self._clock = clock
        self._emit = emit
        self._want = want
        self._version = version
        self._stumble = stumble
        self._superior = superior
        self.ending: set[values.InstanceID] = set()  # whose destruction was asked for, unless that surely did nothing

    async def perform(self, action: Action) -> bool:
        """Do one action to its end, whatever that is. True: the provider answered that it is done."""
        if isinstance(action, Provision):
            return await self._create(action)
        if isinstance(action, Destroy):
            return await self._destroy(action)
        if isinstance(action, Label):
            return await self._label(action)
        if isinstance(action, ChangeMembership):
            await self._change_membership(action)
            return False  # it was not the provider who answered
        raise AssertionError(action)

    async def _permit(self) -> None:
        """Return only if a call may begin now: what follows at once is covered, what follows an await is not."""
        await self._ledger.prove()
        halt = self._want().orders.halt
        if halt is not None:
            raise errors.Halted(f"halted by {halt.who}: {halt.why}")
        self._ledger.check()

    def _tell(self, kind: Kind, action: Action, message: str, **about: str | None) -> None:
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
        if pending is None:
            return False  # settled meanwhile
        pending.phase, pending.lapsed = "calling", False  # what earlier listings left out says nothing of this call
        pending.asked += 1
        self._view.revision += 1
        began = asyncio.get_running_loop().time()
        if pending.asked == 1 or pending.unsure:  # not once more for each time that surely nothing was done
            self._tell(Kind.CREATING, action, action.reason, slot=action.slot)
        try:
            await self._permit()
            spec = await self._prepare(action, pending)
            await self._permit()
        except asyncio.CancelledError:
            self._not_made(pending, "cancelled")
            if not pending.unsure:
                why = "cancelled before the provider was asked: nothing was made"
                self._tell(Kind.CREATE_FAILED, action, why, slot=action.slot)
            raise
        except (errors.Halted, errors.NotLeader) as stopped:
            self._not_made(pending, str(stopped))
            pending.retry_at = asyncio.get_running_loop().time() + ASK_AGAIN_S
            return False
        except Exception as error:
            self._refused(action, pending, f"the flavor could not prepare it: {words(error)}")
            return False
        return await self._provision(action, pending, spec, began)

    async def _prepare(self, action: Provision, pending: Pending) -> InstanceSpec:
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

    async def _provision(self, action: Provision, pending: Pending, spec: InstanceSpec, began: float) -> bool:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CALL_DEADLINE_S):
                with self._account.took["provision"].timed():
                    instance = await self._account.instance.provision(spec=spec)
        except asyncio.CancelledError:
            listed = next((m for m in self._view.members.values() if m.token == pending.intent.token), None)
            if listed is not None:  # that is why nobody waits for the answer any more
                self._made(action, pending, listed.id, "it is listed")
            else:
                self._unknown(action, pending, "the call was cancelled")
            raise
        except errors.Throttled as throttled:
            self._not_made(pending, str(throttled))
            if self._account.throttle(throttled.after_s):
                self._tell(Kind.THROTTLED, action, str(throttled), slot=action.slot)
        except errors.Unreachable as unreachable:
            self._not_made(pending, str(unreachable))
            pending.retry_at = loop.time() + ASK_AGAIN_S * 2.0 ** min(pending.asked, 6)
            self._tell(Kind.CREATE_FAILED, action, str(unreachable), slot=action.slot)
        except (errors.Refused, errors.Conflict, errors.InvalidSpec, errors.NotFound) as refused:
            self._refused(action, pending, str(refused))
        except TimeoutError:
            self._unknown(action, pending, f"no answer within {CALL_DEADLINE_S:.0f} s")
        except Exception as error:
            self._unknown(action, pending, words(error))
        else:
            self._made(action, pending, instance, f"created in {loop.time() - began:.1f} s")
            return True
        return False

    def _made(self, action: Provision, pending: Pending, instance: values.InstanceID, how: str) -> None:
        pending.phase, pending.instance = "created", instance
        pending.ended_at = asyncio.get_running_loop().time()
        self._view.revision += 1
        self._tell(Kind.CREATED, action, how, slot=action.slot, instance=instance)

    def _not_made(self, pending: Pending, why: str) -> None:
        """This call surely made nothing; an earlier one may have, or a predecessor's may do so yet."""
        pending.phase = "unknown" if pending.unsure else "recorded"
        pending.error = why
        pending.ended_at = max(pending.ended_at, asyncio.get_running_loop().time())
        self._view.revision += 1

    def _refused(self, action: Provision, pending: Pending, why: str) -> None:
        """A refusal says nothing about an earlier call that went without an answer."""
        self._not_made(pending, why)
        if pending.unsure:
            pending.refused = True
            pending.retry_at = asyncio.get_running_loop().time() + ASK_AGAIN_S * 2.0 ** min(pending.asked, 6)
        else:
            pending.phase = "refused"
        self._tell(Kind.CREATE_FAILED, action, why, slot=action.slot)

    def _unknown(self, action: Provision, pending: Pending, why: str) -> None:
        loop, doubted_until = asyncio.get_running_loop(), pending.ended_at
        pending.phase, pending.unsure, pending.error, pending.ended_at = "unknown", True, why, loop.time()
        pending.ended_at = max(pending.ended_at, doubted_until)
        pending.retry_at = loop.time() + ASK_AGAIN_S * 2.0 ** min(pending.asked - 1, 6)
        pending.lapsed = False
        self._view.revision += 1
        if self._view.pending.get(action.slot) is not pending:
            return  # settled meanwhile
        self._tell(Kind.CREATE_UNKNOWN, action, f"outcome unknown ({why}): its token is looked for", slot=action.slot)

    # -- destroy ---------------------------------------------------------------------------------------------------

    async def _destroy(self, action: Destroy) -> bool:
        member = self._view.members.get(action.instance)
        if member is None or member.leaving:
            return False
        try:
            if not await self._ready(action, member):
                return False
            self._leave(member, "destroying")
            self.ending.add(member.id)
            self._tell(Kind.DESTROYING, action, action.reason, instance=member.id, slot=member.slot)
            async with asyncio.timeout(CALL_DEADLINE_S):
                # If nothing is left to end, the listing will tell.
                with contextlib.suppress(errors.NotFound), self._account.took["destroy"].timed():
                    await self._account.instance.destroy(
                        instance=member.id, context=DestroyContext(reason=action.context)
                    )
        except asyncio.CancelledError:
            self._cut_off(action, member)
            raise
        except (errors.Halted, errors.NotLeader):
            self._stay(member, surely=True)
        except errors.Throttled as throttled:
            self._stay(member, surely=True)
            if self._account.throttle(throttled.after_s):
                self._tell(Kind.THROTTLED, action, str(throttled), instance=member.id, slot=member.slot)
        except Exception as error:
            self._stay(member, surely=isinstance(error, NOTHING_DONE))
            why = f"no answer within {CALL_DEADLINE_S:.0f} s" if isinstance(error, TimeoutError) else words(error)
            self._stumble(member.id, why)
            self._tell(Kind.DESTROY_FAILED, action, why, instance=member.id, slot=member.slot)
        else:
            self._leave(member, "destroyed")
            member.left_at = asyncio.get_running_loop().time()
            if action.rule == "unhealthy" and member.slot is not None:
                self._stumble(member.slot, action.reason)
            return True
        return False

    def _cut_off(self, action: Destroy, member: Member) -> None:
        """Cancelled: if it was asked for by then, nobody knows whether it is done."""
        was_asked = member.leaving == "destroying"
        self._stay(member, surely=False)
        if was_asked:
            why = "outcome unknown (the call was cancelled): listings will tell"
            self._tell(Kind.DESTROY_FAILED, action, why, instance=member.id, slot=member.slot)

    async def _ready(self, action: Destroy, member: Member) -> bool:
        """All that comes before the call. False: somebody else is to make it."""
        await self._permit()
        if member.is_self and await self._superior.hand_over(action.reason):
            return False
        if self._want().quorum and self._view.membership is not None and self._view.membership.changing is not None:
            return False  # the flavor changes its list: when it has, the next plan says what is still to be done
        if isinstance(self._flavor, Releases) and action.rule != "destroy-group":
            await self._release(self._flavor, member)
            await self._permit()
        if action.drain:
            await self._drain(action, member)
            await self._permit()
        return True

    async def _release(self, flavor: Releases, member: Member) -> None:
        """Unlike a drain it is no courtesy: what fails here stops what follows."""
        self._leave(member, "draining")
        group = self._want().group
        async with asyncio.timeout(CALL_DEADLINE_S):
            await flavor.release(
                properties=group.properties.flavor.properties,
                instance=member.description,
                allocation=group.properties.allocation.to_wire(),
            )

    async def _drain(self, action: Destroy, member: Member) -> None:
        """Move work away, within the deadline of the update policy. Only a refusal stops what follows."""
        self._leave(member, "draining")
        group = self._want().group
        deadline_s = seconds(group.properties.updating.drain_timeout)
        about = {"instance": member.id, "slot": member.slot}
        tell = functools.partial(self._tell, Kind.DRAINING, action, action.reason, **about)
        telling = asyncio.get_running_loop().call_later(DRAINED_AT_ONCE_S, tell)
        try:
            async with asyncio.timeout(deadline_s):
                await self._flavor.drain(properties=group.properties.flavor.properties, instance=member.description)
        except errors.Refused:
            raise
        except Exception as error:
            why = f"not done within {deadline_s:.0f} s" if isinstance(error, TimeoutError) else words(error)
            message = f"the drain failed ({why}); it is destroyed all the same"
            self._tell(Kind.DRAIN_FAILED, action, message, **about)
        finally:
            telling.cancel()

    def _leave(self, member: Member, how: str) -> None:
        member.leaving = how
        self._view.revision += 1

    def _stay(self, member: Member, *, surely: bool) -> None:
        """It is not leaving after all. Where that is not sure, only a verdict asked for from now on counts for it."""
        if surely:
            self.ending.discard(member.id)
        elif member.leaving == "destroying":
            member.left_at = asyncio.get_running_loop().time()
            self._view.doubt(member, member.left_at)
        self._leave(member, "")

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
            self._stumble(action.instance, words(error))
            self._tell(Kind.ERROR, action, f"labelling failed: {words(error)}", instance=action.instance)
        else:
            self._tell(Kind.LABELLED, action, action.reason, instance=action.instance)
            return True
        return False

    # -- the list of members -------------------------------------------------------------------------------------------

    async def _change_membership(self, action: ChangeMembership) -> None:
        flavor, change = self._flavor, action.change
        if not isinstance(flavor, Members):
            return
        instance = change.instance if change.instance in self._view.members else None
        tell = functools.partial(self._tell, action=action, instance=instance)
        why, done = "it is done, and still needed", False
        self._view.change_begins(change)  # from here on nothing is destroyed
        try:
            await self._permit()
            want = self._want()
            if list_of_members.in_the_way(want, self._view) is not None:
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
            tell(Kind.ERROR, message=f"{change.what}: outcome unknown (the call was cancelled): its list will tell")
            raise
        except (errors.Halted, errors.NotLeader):
            return
        except Exception as error:
            why = f"no answer within {CALL_DEADLINE_S:.0f} s" if isinstance(error, TimeoutError) else words(error)
            kind = Kind.REFUSED if isinstance(error, errors.Refused) else Kind.ERROR
            tell(kind, message=f"{change.what}: {why}")
        finally:
            self._view.change_ends(asyncio.get_running_loop().time(), done=done)
        self._stumble(list_of_members.key(change), why)


def words(error: Exception) -> str:
    """An error in words, also one that has none."""
    return str(error) or type(error).__name__
