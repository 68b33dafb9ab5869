"""Exponential back-off: repeated failures of one slot, instance or membership change, and when to retry."""

import math
from collections.abc import Callable, Container, Iterable, Mapping

import msgspec

from infrakit.group.state.member import STABLE_S, Member
from infrakit.spi.values import Slot

REPLACING = "replacing "  # prefix of the keys of replacements by healing; the key of a creation is its slot alone
AGE_S_MAX = 600.0  # a failure whose retry was due that long ago no longer counts
EXPONENT_MAX = 30  # avoids an overflow; every larger exponent gives the maximum delay


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive failures, and when to retry."""

    count: int
    retry_at: float  # loop time
    why: str  # the reason of the newest failure
    version: str = ""  # of the slot's instance: failures of one version neither delay nor count for another

    def is_pending(self, now: float) -> bool:
        """Whether the time of the retry is still to come."""
        return self.retry_at > now


def replacement_key(slot: str) -> str:
    """Return the key of destructions by healing: they delay the next one, and never a creation."""
    return REPLACING + slot


class BackoffPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Delays before a retry: `first_s` after the first failure, doubled for each further one, at most `longest_s`."""

    first_s: float
    longest_s: float = math.inf
    jitter: Callable[[], float] = lambda: 1.0  # a factor around 1, so that retries do not coincide

    def delay_s(self, failures: int) -> float:
        """Return the delay in seconds after that many failures; 0 for no failure."""
        if failures < 1:
            return 0.0
        return min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, EXPONENT_MAX)) * self.jitter()

    def failed(self, before: Backoff | None, why: str, version: str, *, now: float, without_delay: int) -> Backoff:
        """Return the back-off after one more failure; the first `without_delay` ones are retried at once."""
        count = before.count + 1 if before is not None and before.version == version else 1
        return Backoff(count=count, retry_at=now + self.delay_s(count - without_delay), why=why, version=version)


def proven(backoffs: Mapping[str, Backoff], members: Iterable[Member]) -> list[tuple[Slot, str]]:
    """Return the slots with failures, and the versions that have now been healthy there for `STABLE_S`."""
    slots = {key.removeprefix(REPLACING) for key in backoffs}
    return [
        (m.slot, m.hash)
        for m in members
        if m.slot is not None
        and m.slot in slots
        and m.healthy_since is not None
        and m.judged_at - m.healthy_since >= STABLE_S
    ]


def forget(backoffs: dict[str, Backoff], slot: str, version: str) -> bool:
    """Remove the failures of one version in a slot. False: there were none."""
    keys = [key for key in (slot, replacement_key(slot)) if key in backoffs and backoffs[key].version == version]
    for key in keys:
        del backoffs[key]
    return bool(keys)


def expire(backoffs: dict[str, Backoff], members: Container[str], now: float) -> None:
    """Forget the failures that are too old, except those of members."""
    for key in [key for key, each in backoffs.items() if key not in members and now - each.retry_at > AGE_S_MAX]:
        del backoffs[key]
