"""Members that have vanished: their absence is the only evidence of their termination.

Wrong credentials, a wrong region or an incomplete listing have the same effect. So more than a limit of them are
believed only once the provider shows that it is the right one.
"""

import math
from collections.abc import Mapping
from typing import Any

from infrakit.gate.census import History, pack, unpack
from infrakit.spi.values import InstanceID, Slot

SAME_ACCOUNT_S = 10.0  # at least: for which members must have vanished until the same account proves it
NAMED_MAX = 100  # members that are named in the census: any that is listed again shows the right provider


class Vanished:
    """The members of one group that have vanished, until that is believed."""

    def __init__(self) -> None:
        self._members: dict[Slot, InstanceID] = {}
        self._first_at = math.inf
        self._last_at = math.inf
        self._limit = 1  # the lowest that was declared since the first of them did
        self._ids = frozenset[InstanceID]()  # some of those that the previous leader has recorded
        self._has_returned = False  # some of them are listed again

    def __len__(self) -> int:
        return len(self._members)

    @property
    def are_believed(self) -> bool:
        """Whether they are so few that their absence proves their termination."""
        return len(self._members) <= self._limit

    def history(self) -> dict[str, Any]:
        """Return the fields of the census."""
        return {
            "vanished": pack(self._members),
            "vanished_max": self._limit if self._members else 0,
            "vanished_ids": tuple(sorted(self._named()))[:NAMED_MAX],
        }

    def recall(self, history: History, now: float) -> None:
        """Adopt what the previous leader has recorded."""
        self._members = {slot: InstanceID("") for slot in unpack(history.vanished)}
        self._first_at = self._last_at = now if self._members else math.inf
        self._limit = history.vanished_max or len(self._members)  # an earlier release has not recorded it
        self._ids = frozenset(history.vanished_ids)

    def declare(self, limit: int) -> None:
        """Adopt a declared limit: a larger one proves nothing about those that have vanished before."""
        self._limit = min(self._limit, limit)

    def add(self, slot: Slot, instance: InstanceID, now: float, *, limit: int) -> None:
        """Record one more; `limit` counts for the first of them."""
        if not self._members:
            self._first_at, self._limit = now, limit
        self._last_at, self._has_returned = now, False
        self._members[slot] = instance

    def listed(self, present: Mapping[InstanceID, Slot | None], oldest: float, now: float) -> None:
        """Drop those that are listed again; all, if the provider shows one that was listed no later."""
        if not self._members:
            return
        if oldest <= self._first_at:
            self.end()
            return
        if not self._named().isdisjoint(present):
            self._has_returned, self._last_at = True, now
        slots = set(present.values())
        self._members = {
            slot: instance
            for slot, instance in self._members.items()
            if not (instance in present if instance else slot in slots)
        }
        self._ids -= present.keys()

    def same_account(self, now: float, *, lag_s: float, identified: bool) -> bool:
        """See `Guard.same_account`."""
        proven = identified or self._has_returned
        if not self._members or not proven or now - self._last_at < max(lag_s, SAME_ACCOUNT_S):
            return False
        self.end()
        return True

    def end(self) -> None:
        """Believe that all of them have terminated."""
        self._members.clear()
        self._ids, self._has_returned = frozenset(), False

    def _named(self) -> set[InstanceID]:
        return {*self._members.values(), *self._ids} - {""} if self._members else set()
