"""Keeps the census of one group: adopts that of the previous leader, and writes changes before intents are cleared.

At any time an intent or the census shows each instance: the intent is cleared once the census is written. Other changes
are collected. Of many cattle, the slots are kept and not the IDs, and the census is written less often.
"""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping

import msgspec

from infrakit.gate.census import Census, pack
from infrakit.gate.guard import Guard
from infrakit.group.actions import Plan, Settle
from infrakit.group.ledger import CensusStore
from infrakit.group.state.known import remembered
from infrakit.group.state.member import STABLE_S
from infrakit.group.state.view import GroupView
from infrakit.spi import errors
from infrakit.spi.values import InstanceID, Slot

INTERVAL_S = 5.0  # in which changes are collected
QUIET_S = STABLE_S + INTERVAL_S  # after the last change it is written once more: then starts are proven
REFRESH_S = 600.0  # the ages in an unchanged census are at most that much too low
NAMED_MAX = 500  # of more cattle, only those without a slot and missing ones are named by ID
MEMBERS_PER_S = 5000.0  # that many cattle are written at most once a second


class CensusKeeper:
    """The census of one group during one term. `identity` returns that of the provider's account, if it is known."""

    def __init__(
        self, *, store: CensusStore, provider: str, identity: Callable[[], str], view: GroupView, guard: Guard
    ) -> None:
        self._store = store
        self._provider = provider
        self._identity = identity
        self._view = view
        self._guard = guard
        self._is_open = False
        self._census = Census()
        self._revision = -1  # of the view
        self._members: frozenset[InstanceID] = frozenset()
        self._written_at = -math.inf
        self._is_quiet = False

    async def open(self) -> None:
        """Adopt what is known of the group, once, before the first observation. Raises what the store raises."""
        if self._is_open:
            return
        census = await self._store.open(self._view.group)
        if census.provider == self._provider and census.account in ("", self._identity()):
            try:
                self._view.known.recall(census)
                self._guard.recall(census.history, asyncio.get_running_loop().time())
                self._recall_ending(dict(census.ending), asyncio.get_running_loop().time())
            except ValueError as error:
                raise errors.Refused(
                    f"the census of {self._view.group} cannot be read: {error}",
                    where="store",
                    remedy="restore the store from a backup",
                ) from None
        self._is_open = True

    def _recall_ending(self, ending: Mapping[InstanceID, int], now: float) -> None:
        """Wait no longer for the call of an earlier leader than the last one would have waited."""
        for instance, until in list(self._view.inherited.items()):
            if instance in ending:
                self._view.inherit_destroys([instance], until=min(until, now + ending[instance]))

    async def keep(self, plan: Plan) -> Plan:
        """Write the census if that is due, and return the plan, without intents to clear that must wait for it."""
        view, now = self._view, asyncio.get_running_loop().time()
        if view.problem or view.known.members:
            return plan
        settled = {action.slot for action in plan.actions if isinstance(action, Settle)}
        if self._is_due(now, settles=bool(settled)):
            census, is_quiet = self._taken(now, settled), view.revision == self._revision
            if census != self._census:
                await self._store.write(view.group, census)
            self._census, self._revision, self._written_at, self._is_quiet = census, view.revision, now, is_quiet
            self._members = frozenset(view.members)
        elif settled:
            kept = tuple(action for action in plan.actions if not isinstance(action, Settle))
            next_check = min(plan.next_check, self._written_at + self._gap_s)
            return msgspec.structs.replace(plan, actions=kept, next_check=next_check)
        return plan

    @property
    def _gap_s(self) -> float:
        return 0.0 if self._view.pets else len(self._view.members) / MEMBERS_PER_S

    def _is_due(self, now: float, *, settles: bool) -> bool:
        age_s = now - self._written_at
        if any(instance not in self._view.inherited for instance, _ in self._census.ending):
            return True  # before it is destroyed again: what remains of the earlier call is no evidence about that one
        if settles:
            return age_s >= self._gap_s
        if self._view.inherited and age_s >= INTERVAL_S:
            return True  # else leaders that end early, one after the other, would never get to destroy it again
        if self._view.revision != self._revision:
            return age_s >= (INTERVAL_S if self._members == self._view.members.keys() else self._gap_s)
        return age_s >= (REFRESH_S if self._is_quiet else QUIET_S)

    def _taken(self, now: float, settled: Collection[Slot]) -> Census:
        view = self._view
        recorded = {each.intent.token for slot, each in view.pending.items() if slot not in settled}
        members, slots = list(view.members.values()), set(view.known.slots)
        current = slots & view.known.current_now(view.version)
        if not view.pets and len(members) > NAMED_MAX:
            is_named = {m.id for m in members if m.slot is None or (m.missing_since is not None and not m.leaving)}
            by_slot = [m for m in members if m.id not in is_named]
            outdated = {m.slot for m in by_slot if m.hash != view.version}
            listed = {m.slot for m in by_slot if m.slot}
            slots, current = slots | listed, current | (listed - outdated)
            members = [m for m in members if m.id in is_named]
        packed = pack(slots)
        return Census(
            provider=self._provider,
            account=self._identity(),
            members=tuple(remembered(member) for member in members),
            slots=packed,
            version=view.version,
            current=packed if len(current) == len(slots) else pack(current),
            ending=tuple((each, max(0, math.ceil(until - now))) for each, until in view.inherited.items()),
            history=self._guard.history(now, recorded),
        )
