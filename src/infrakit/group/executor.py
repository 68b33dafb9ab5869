"""The only part of a group that acts: a queue that each plan replaces, and a bounded number of calls under way.

A plan replaces the one before: actions that it does not contain are not started, so that a cancelled creation costs
nothing. Creations are recorded in the ledger before they start, all of one plan in one write, and that write is also
the fencing check. Calls in flight run concurrently with the cycles: one that takes twenty seconds delays no other.
"""

import asyncio
import collections
from collections.abc import Callable

from infrakit.group.account import Account
from infrakit.group.actions import Action, Cancel, ChangeMembership, Destroy, Label, Plan, Provision, Settle
from infrakit.group.calls import Calls
from infrakit.group.ledger import Ledger
from infrakit.group.state.creation import Creation, Phase
from infrakit.group.state.member import Leaving
from infrakit.group.state.view import GroupView
from infrakit.spi.values import InstanceID, Slot

RECORD_MAX = 2048  # intents in one write

Key = tuple[str, str]


class Executor:
    """Performs the plans of one group."""

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
        self._queue: collections.deque[tuple[Key, Action]] = collections.deque()  # the most urgent first
        self._in_flight: dict[Key, asyncio.Task[bool]] = {}
        self._doing: dict[Key, Action] = {}
        self._recalls = 0
        ledger.withdraw(view.group, slots=(), ending=())

    @property
    def doing(self) -> list[Action]:
        """What is under way, then what is queued."""
        return [*self._doing.values(), *(action for _, action in self._queue)]

    @property
    def idle(self) -> bool:
        return not self._queue and not self._in_flight

    async def submit(self, plan: Plan) -> None:
        """Replace the queue by this plan. Raises what the ledger raises; then nothing new is begun."""
        queue: list[tuple[Key, Action]] = []
        fresh: dict[Slot, Provision] = {}
        settled: list[Slot] = []
        recorded = self._ledger.ending(self._view.group)
        ending: dict[InstanceID, Destroy] = {}
        for action in plan.actions:
            key = action.key
            if isinstance(action, Settle):
                settled.append(action.slot)
                self._cancel(action)  # a call under way is no longer needed
            elif isinstance(action, Cancel):
                self._cancel(action)
            elif key in self._in_flight:
                continue  # the call before it has not ended
            elif isinstance(action, Provision) and action.token is None:
                fresh[action.slot] = action
            elif isinstance(action, Destroy) and action.instance not in recorded:
                ending[action.instance] = action
            elif isinstance(action, Provision | Destroy | Label | ChangeMembership):
                queue.append((key, action))
        self._line_up(queue)
        begun: list[tuple[Key, Action]] = [
            *((("create", str(slot)), action) for slot, action in list(fresh.items())[:RECORD_MAX]),
            *((("destroy", action.subject), action) for action in list(ending.values())[:RECORD_MAX]),
        ]
        over = recorded and not ending and not self._ending()
        if begun or settled or over:
            recalls = self._recalls
            await self._record(begun, settled)
            if recalls == self._recalls:  # else the next plan decides what is still needed
                # What began while the ledger was written must not be lined up again.
                self._line_up([*self._queue, *begun])
        self._account.dispatch()

    def _ending(self) -> set[InstanceID]:
        """What is being destroyed, or may be, or is about to be."""
        ours = {action.instance for action in self.doing if isinstance(action, Destroy)}
        return ours | self._view.inherited.keys()

    def _line_up(self, queue: list[tuple[Key, Action]]) -> None:
        waiting = [entry for entry in queue if entry[0] not in self._in_flight]
        self._queue = collections.deque(sorted(waiting, key=lambda entry: entry[1].priority))

    async def _record(self, begun: list[tuple[Key, Action]], settled: list[Slot]) -> None:
        """One write for all that is about to begin. Destructions that are over are forgotten in it."""
        view = self._view
        ending = self._ending() | {action.instance for _, action in begun if isinstance(action, Destroy)}
        intents = await self._ledger.record(
            view.group,
            wanted={action.slot: action.hash for _, action in begun if isinstance(action, Provision)},
            settled=settled,
            ending=ending,
        )
        for slot, creation in view.settle(settled):
            view.record_slot_failure(slot, creation.error or self._never_listed(creation), first_is_free=False)
        view.intend(intents, fresh=True)

    def _never_listed(self, creation: Creation) -> str:
        if creation.instance is None:
            return "it terminated before it was listed"
        cause, where = self._account.death(creation.instance)
        return f"{creation.instance} terminated before it was listed{cause}{where}"

    # -- asked by the account --------------------------------------------------------------------------------------

    def urgency(self) -> int | None:
        return self._queue[0][1].priority if self._queue else None

    def start_next(self) -> None:
        key, action = self._queue.popleft()
        self._doing[key] = action
        call = asyncio.get_running_loop().create_task(self._calls.perform(action))
        self._in_flight[key] = call
        call.add_done_callback(lambda done: self._on_done(key, done))  # also runs if it is cancelled before it begins

    def _on_done(self, key: Key, call: asyncio.Task[bool]) -> None:
        action = self._doing.pop(key)
        del self._in_flight[key]
        self._wake(f"{action.verb} {action.subject} has ended")
        self._account.finished(ok=not call.cancelled() and call.result())

    # -- stopping --------------------------------------------------------------------------------------------------

    def _cancel(self, action: Cancel | Settle) -> None:
        call = self._in_flight.get(("create", action.slot))
        if call is not None:
            call.cancel()

    def clear(self) -> None:
        """Begin nothing more of the present plan."""
        self._queue.clear()

    def recall(self) -> None:
        """The declaration or its orders have changed: begin nothing more, and stop what comes before a destruction."""
        self.clear()
        self._recalls += 1
        for key, action in self._doing.items():
            member = self._view.members.get(action.instance) if isinstance(action, Destroy) else None
            if member is not None and member.leaving in (Leaving.NO, Leaving.DRAINING):  # the provider was not called
                self._in_flight[key].cancel()

    async def close(self) -> None:
        """Cancel everything under way and wait for it to have ended; outcomes are noted as unknown."""
        self.clear()
        in_flight = list(self._in_flight.values())
        for call in in_flight:
            call.cancel()
        if in_flight:
            await asyncio.wait(in_flight)
        view = self._view
        idle = [
            slot for slot, pending in view.pending.items() if pending.phase is Phase.RECORDED and not pending.unsure
        ]
        ending = set(self._ledger.ending(view.group)) - self._calls.ending - view.inherited.keys()
        self._ledger.withdraw(view.group, slots=idle, ending=ending)
