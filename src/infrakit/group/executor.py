"""Performs the plans of one group: a queue that each plan replaces, and a bounded number of calls in flight.

Queued actions that the newest plan no longer contains are not started, so cancelling them costs no call. Creations,
destructions and changes of the member list are recorded in the ledger before they start: all of one plan in one write,
which is also a fencing check.
Calls in flight run concurrently with the cycles, so a call that takes twenty seconds delays no other.
"""

import asyncio
import collections
from collections.abc import Callable, Sequence
from typing import NamedTuple

from infrakit.gate.gate import CALL_DEADLINE_S
from infrakit.group.account import Account
from infrakit.group.actions import Action, Cancel, ChangeMembership, Destroy, Label, Plan, Provision, Settle
from infrakit.group.calls import Calls
from infrakit.group.ledger import Ledger
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Leaving, Member
from infrakit.group.state.view import GroupView
from infrakit.spi.values import InstanceID, Slot, Token

RECORD_MAX = 2048  # intents in one write
LATE_COUNTS_S = 10.0  # for which a creation counts as in flight after its instance is listed
RESPONSE_WAIT_S = 2.0  # for the response of a creation whose instance has terminated meanwhile

Key = tuple[str, str]


class _Late(NamedTuple):
    """A creation whose instance was listed before the call returned."""

    token: Token
    counts: asyncio.TimerHandle  # ends its share of the account's limit


class Executor:
    """The queue and the calls in flight of one group."""

    def __init__(
        self,
        *,
        account: Account,
        calls: Calls,
        ledger: Ledger,
        view: GroupView,
        wake: Callable[[str], None],
    ) -> None:
        self._account = account
        self._calls = calls
        self._ledger = ledger
        self._view = view
        self._wake = wake
        self._queue: collections.deque[tuple[Key, Action]] = collections.deque()  # by key; the most urgent first
        self._in_flight: dict[Key, asyncio.Task[bool]] = {}
        self._doing: dict[Key, Action] = {}
        self._late: dict[asyncio.Task[bool], _Late] = {}  # creations that were released
        self._generation = 0  # incremented when the declaration or its commands change
        ledger.withdraw(view.group, slots=(), destroying=())

    @property
    def doing(self) -> list[Action]:
        """The actions in flight, then the queued ones."""
        return [*self._doing.values(), *(action for _, action in self._queue)]

    @property
    def idle(self) -> bool:
        return not self._queue and not self._in_flight

    async def submit(self, plan: Plan) -> None:
        """Replace the queue by this plan. Raises what the ledger raises; then no new action is started."""
        queue: list[tuple[Key, Action]] = []
        fresh: dict[Slot, Provision] = {}
        settled: list[Slot] = []
        recorded = self._ledger.destroying(self._view.group)
        destroys: dict[InstanceID, Destroy] = {}
        for action in plan.actions:
            key = action.key
            if isinstance(action, Settle):
                settled.append(action.slot)
                self._release(action)  # a call in flight is no longer waited for
            elif isinstance(action, Cancel):
                self._cancel(action)
            elif key in self._in_flight:
                continue  # the previous call has not returned
            elif isinstance(action, Provision) and action.token is None:
                fresh[action.slot] = action
            elif isinstance(action, Destroy) and action.instance not in recorded:
                destroys[action.instance] = action
            elif isinstance(action, Provision | Destroy | Label | ChangeMembership):
                queue.append((key, action))
        recorded_changes = self._ledger.changing(self._view.group)
        changes = [
            entry
            for entry in queue
            if isinstance(entry[1], ChangeMembership) and entry[1].change.id not in recorded_changes
        ]
        self._enqueue([entry for entry in queue if entry not in changes])
        starting: list[tuple[Key, Action]] = [
            *((("create", str(slot)), action) for slot, action in list(fresh.items())[:RECORD_MAX]),
            *((("destroy", action.subject), action) for action in list(destroys.values())[:RECORD_MAX]),
            *changes,
        ]
        completed = recorded and not destroys and not self._destroying()
        completed = completed or not self._changing().issuperset(recorded_changes)
        if starting or settled or completed:
            generation = self._generation
            await self._record(starting, settled)
            if generation == self._generation:  # else the next plan decides what is still needed
                # `_enqueue` omits actions that were started during the write.
                self._enqueue([*self._queue, *starting])
        self._account.dispatch()

    def _destroying(self) -> set[InstanceID]:
        """Return the instances whose destruction is queued, in flight, of unknown outcome, or inherited.

        Until it has terminated, or no call can take effect any more, the next leader must know each of them.
        """
        view, effect_s = self._view, CALL_DEADLINE_S + self._view.lag_s
        own = {action.instance for action in self.doing if isinstance(action, Destroy)}
        ends = {m.id for m in view.members.values() if m.was_requested_to_end(view.now, effect_s=effect_s)}
        return own | ends | view.inherited.keys()

    def _changing(self) -> set[str]:
        """Return the changes of the member list that are queued, in flight, or of unknown outcome."""
        own = {action.change.id for action in self.doing if isinstance(action, ChangeMembership)}
        membership = self._view.membership
        return own | membership.unsettled.keys() if membership is not None else own

    def _enqueue(self, queue: list[tuple[Key, Action]]) -> None:
        waiting = [entry for entry in queue if entry[0] not in self._in_flight]
        self._queue = collections.deque(sorted(waiting, key=lambda entry: entry[1].priority))

    async def _record(self, starting: list[tuple[Key, Action]], settled: list[Slot]) -> None:
        """Record the actions about to start, and clear completed destructions and settled intents, in one write."""
        view = self._view
        destroying = self._destroying() | {action.instance for _, action in starting if isinstance(action, Destroy)}
        changing = self._changing() | {a.change.id for _, a in starting if isinstance(a, ChangeMembership)}
        intents = await self._ledger.record(
            view.group,
            wanted={action.slot: action.hash for _, action in starting if isinstance(action, Provision)},
            settled=settled,
            destroying=destroying,
            changing=changing,
        )
        for slot, creation in view.settle(settled):
            why, version = creation.error or self._never_listed(creation), creation.version or creation.intent.hash
            view.record_slot_failure(slot, why, version=version, first_without_delay=False)
        view.intend(intents, fresh=True)

    def _never_listed(self, creation: Creation) -> str:
        if creation.instance is None:
            return "it terminated before it was listed"
        cause, where = self._account.termination_cause(creation.instance)
        return f"{creation.instance} terminated before it was listed{cause}{where}"

    # -- called by the account -------------------------------------------------------------------------------------

    def urgency(self) -> int | None:
        return self._queue[0][1].priority if self._queue else None

    def start_next(self) -> None:
        key, action = self._queue.popleft()
        self._doing[key] = action
        call = asyncio.get_running_loop().create_task(self._calls.perform(action))
        self._in_flight[key] = call
        call.add_done_callback(lambda done: self._on_done(key, done))  # also runs if it is cancelled before it starts

    def _on_done(self, key: Key, call: asyncio.Task[bool]) -> None:
        late = self._late.pop(call, None)
        if late is not None:
            self._late_done(late, call)
            return
        action = self._doing.pop(key)
        del self._in_flight[key]
        ok = not call.cancelled() and call.result()
        # While more is queued, the end of a creation changes nothing, and a plan after each of thousands is expensive.
        if not (ok and self._queue and isinstance(action, Provision)):
            self._wake(f"{action.verb} {action.subject} has ended")
        self._account.finished(ok=ok)

    def _late_done(self, late: _Late, call: asyncio.Task[bool]) -> None:
        self._wake("a late response")
        if late.counts.when() > asyncio.get_running_loop().time():
            late.counts.cancel()
            self._account.finished(ok=not call.cancelled() and call.result())

    # -- stopping --------------------------------------------------------------------------------------------------

    def _release(self, action: Settle) -> None:
        """Free the slot of a creation whose instance is listed. The call continues: its response may be an error.

        It counts for the limit of the account for up to `LATE_COUNTS_S`, because a provider may never respond.
        """
        key = ("create", action.slot)
        call, pending = self._in_flight.get(key), self._view.pending.get(action.slot)
        if call is None or pending is None or not self._calls.creations.listed_before_response(action.slot):
            self._cancel(action)
            return
        del self._in_flight[key], self._doing[key]
        counts = asyncio.get_running_loop().call_later(LATE_COUNTS_S, lambda: self._account.finished(ok=False))
        self._late[call] = _Late(pending.intent.token, counts)

    async def await_responses(self, terminated: Sequence[Member]) -> None:
        """Wait shortly for the responses of creations whose instances have terminated: an error explains that."""
        if not terminated:
            return
        tokens = {member.token for member in terminated}
        calls = [call for call, late in self._late.items() if late.token in tokens]
        for slot, pending in self._view.pending.items():
            call = self._in_flight.get(("create", slot)) if pending.intent.token in tokens else None
            if call is not None:
                calls.append(call)
        if calls:
            await asyncio.wait(calls, timeout=RESPONSE_WAIT_S)

    def _cancel(self, action: Cancel | Settle) -> None:
        call = self._in_flight.get(("create", action.slot))
        if call is not None:
            call.cancel()

    def clear(self) -> None:
        """Start no further action of the current plan."""
        self._queue.clear()

    def invalidate(self, concerns: Callable[[Destroy], bool]) -> None:
        """Start no further action, and cancel the drains that a change of the declaration or its commands concerns."""
        self.clear()
        self._generation += 1
        for key, action in self._doing.items():
            if not isinstance(action, Destroy) or not concerns(action):
                continue
            member = self._view.members.get(action.instance)
            if member is not None and member.leaving in (Leaving.NO, Leaving.DRAINING):  # the provider was not called
                self._in_flight[key].cancel()

    async def close(self) -> None:
        """Cancel all calls in flight and wait for them to return; their outcomes are recorded as unknown."""
        self.clear()
        in_flight = [*self._in_flight.values(), *self._late]
        for call in in_flight:
            call.cancel()
        if in_flight:
            await asyncio.wait(in_flight)
        view = self._view
        idle = [
            slot for slot, pending in view.pending.items() if pending.phase is Phase.RECORDED and not pending.uncertain
        ]
        not_started = set(self._ledger.destroying(view.group)) - self._calls.destructions.begun - view.inherited.keys()
        unsettled = view.membership.unsettled if view.membership is not None else ()
        no_change = set(self._ledger.changing(view.group)) - self._calls.membership.begun.keys() - set(unsettled)
        self._ledger.withdraw(view.group, slots=idle, destroying=not_started, changing=no_change)
