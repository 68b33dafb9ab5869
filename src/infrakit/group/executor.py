"""The only one who acts: a queue that each plan replaces, and a bounded number of calls under way.

A plan is taken whole: what it does not contain any more is not begun any more, so that a cancelled creation costs
nothing. Creations are recorded in the ledger before they are begun, all of one plan in one write, and that write
proves the epoch. A call that has begun runs on beside the cycles: one that takes twenty seconds delays no other.
"""

import asyncio
import collections
import random
from collections.abc import Callable

from infrakit.group.account import Account
from infrakit.group.actions import Action, Cancel, ChangeMembership, Destroy, Label, Plan, Provision, Settle
from infrakit.group.calls import Calls
from infrakit.group.ledger import Ledger
from infrakit.group.plan import Want
from infrakit.group.view import GroupView, Pending
from infrakit.spi.group import seconds
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
        random: random.Random,
        wake: Callable[[str], None],
    ) -> None:
        self._account = account
        self._calls = calls
        self._ledger = ledger
        self._view = view
        self._random = random
        self._wake = wake
        self._queue: collections.deque[tuple[Key, Action]] = collections.deque()  # the most urgent first
        self._flights: dict[Key, asyncio.Task[bool]] = {}
        self._doing: dict[Key, Action] = {}
        self._recalls = 0
        ledger.withdraw(view.group, slots=(), ending=())

    @property
    def doing(self) -> list[Action]:
        """What is under way, then what is queued."""
        return [*self._doing.values(), *(action for _, action in self._queue)]

    @property
    def idle(self) -> bool:
        return not self._queue and not self._flights

    async def submit(self, plan: Plan, want: Want) -> None:
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
                self._cancel(action)  # a call that goes on is of no use any more
            elif isinstance(action, Cancel):
                self._cancel(action)
            elif key in self._flights:
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
            await self._record(begun, settled, want)
            if recalls == self._recalls:  # else the next plan says what is still wanted
                # What began while the ledger was written must not be lined up again.
                self._line_up([*self._queue, *begun])
        self._account.pump()

    def _ending(self) -> set[InstanceID]:
        """What is being destroyed, or may be, or is about to be."""
        ours = {action.instance for action in self.doing if isinstance(action, Destroy)}
        return ours | self._view.inherited.keys()

    def _line_up(self, queue: list[tuple[Key, Action]]) -> None:
        waiting = [entry for entry in queue if entry[0] not in self._flights]
        self._queue = collections.deque(sorted(waiting, key=lambda entry: entry[1].priority))

    async def _record(self, begun: list[tuple[Key, Action]], settled: list[Slot], want: Want) -> None:
        """One write for all that is about to begin. Destructions that are over are forgotten in it."""
        view = self._view
        ending = self._ending() | {action.instance for _, action in begun if isinstance(action, Destroy)}
        intents = await self._ledger.record(
            view.group,
            wanted={action.slot: action.hash for _, action in begun if isinstance(action, Provision)},
            settled=settled,
            ending=ending,
        )
        for slot in settled:
            pending = view.pending[slot]
            seen = pending.instance in view.members or not (pending.lapsed or pending.phase == "refused")
            if pending.lapsed and pending.phase == "unknown":
                view.lapses[slot] = view.lapses.get(slot, 0) + 1
            elif seen:
                view.lapses.pop(slot, None)
            if not seen:
                self.stumble(slot, pending.error or self._stillborn(pending), want, version=want.hash)
        view.clear(settled)
        view.intend(intents, fresh=True)

    def _stillborn(self, pending: Pending) -> str:
        if pending.instance is None:
            return "it died before it was listed"
        cause, look = self._account.death(pending.instance)
        return f"{pending.instance} died before it was listed{cause}{look}"

    def stumble(self, key: str, why: str, want: Want, *, version: str = "", first_is_free: bool = False) -> None:
        """Note a failure of a slot or an instance; each further one waits twice as long, with jitter."""
        healing, trouble = want.group.properties.healing, self._view.troubles.get(key)
        exponent = (trouble.count if trouble is not None else 0) - first_is_free
        delay_s = min(seconds(healing.backoff_max), seconds(healing.backoff) * 2.0 ** min(exponent, 30))
        jitter = 0.75 + self._random.random() / 2
        self._view.stumble(key, why, delay_s=0.0 if exponent < 0 else delay_s * jitter, version=version)

    # -- asked by the account --------------------------------------------------------------------------------------

    def urgency(self) -> int | None:
        return self._queue[0][1].priority if self._queue else None

    def start_one(self) -> None:
        key, action = self._queue.popleft()
        self._doing[key] = action
        flight = asyncio.get_running_loop().create_task(self._calls.perform(action))
        self._flights[key] = flight
        flight.add_done_callback(lambda done: self._landed(key, done))  # also runs if it is cancelled before it begins

    def _landed(self, key: Key, flight: asyncio.Task[bool]) -> None:
        action = self._doing.pop(key)
        del self._flights[key]
        self._wake(f"{action.verb} {action.subject} has ended")
        self._account.finished(ok=not flight.cancelled() and flight.result())

    # -- stopping --------------------------------------------------------------------------------------------------

    def _cancel(self, action: Cancel | Settle) -> None:
        flight = self._flights.get(("create", action.slot))
        if flight is not None:
            flight.cancel()

    def clear(self) -> None:
        """Begin nothing more of the present plan."""
        self._queue.clear()

    def recall(self) -> None:
        """The declaration or its orders have changed: begin nothing more, and stop what comes before a destruction."""
        self.clear()
        self._recalls += 1
        for key, action in self._doing.items():
            member = self._view.members.get(action.instance) if isinstance(action, Destroy) else None
            if member is not None and member.leaving in ("", "draining"):  # its call has not begun
                self._flights[key].cancel()

    async def close(self) -> None:
        """Cancel everything under way and wait for it to have ended; outcomes are noted as unknown."""
        self.clear()
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        if flights:
            await asyncio.wait(flights)
        view = self._view
        idle = [slot for slot, pending in view.pending.items() if pending.phase == "recorded" and not pending.unsure]
        ending = set(self._ledger.ending(view.group)) - self._calls.ending - view.inherited.keys()
        self._ledger.withdraw(view.group, slots=idle, ending=ending)
