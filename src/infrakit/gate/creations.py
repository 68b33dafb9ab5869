"""The creations of an hour, and how many more are permitted.

Within an hour at most twice the declared size, but at least `CREATIONS_MIN`; plus what the group has grown by, plus the
size once for each new version. Sizes and versions that take turns permit no more than each of them does.
"""

from collections import Counter
from collections.abc import Container
from typing import Any

from infrakit.gate.census import History

WINDOW_S = 3600.0
CREATIONS_MIN = 10  # a group of one that is terminated a few times in an hour is still healed
AGE_STEP_S = 10  # to which ages of creations are rounded down in the census


class Creations:
    """The creations of one group within an hour."""

    def __init__(self) -> None:
        self._size = 0
        self._version = ""
        self._created: dict[str, float] = {}  # by token: when the call began, the oldest first
        self._inherited: set[str] = set()  # those of them that the previous leader recorded, and may not have requested
        self._allowances: list[tuple[float, int]] = []  # further creations, each for one window
        self._sizes: dict[int, float] = {}  # when each earlier size was declared last in this window
        self._versions: dict[str, float] = {}  # when each was first declared in this window

    # -- the census ------------------------------------------------------------------------------------------------

    def history(self, now: float, recorded: Container[str]) -> dict[str, Any]:
        """Return the fields of the census, without the creations of `recorded` tokens."""
        known = (at for token, at in self._created.items() if token not in recorded)
        recent = (max(0.0, now - at) for at in known if now - at < WINDOW_S)
        ages = Counter(int(age_s) // AGE_STEP_S * AGE_STEP_S for age_s in recent)
        return {
            "size": self._size,
            "version": self._version,
            "created": tuple(sorted(ages.items(), reverse=True)),
            "allowances": tuple((int(max(0.0, now - at)), n) for at, n in self._allowances if now - at < WINDOW_S),
            "sizes": tuple((each, int(max(0.0, now - at))) for each, at in self._sizes.items()),
            "versions": tuple((each, int(max(0.0, now - at))) for each, at in self._versions.items()),
        }

    def recall(self, history: History, now: float) -> None:
        """Adopt what the previous leader has recorded."""
        self._size, self._version = history.size, history.version
        for age_s, number in history.created:
            self._created |= {f"{age_s}/{n}": now - age_s for n in range(number)}
        self._allowances = [(now - age_s, number) for age_s, number in history.allowances]
        self._sizes = {size: now - age_s for size, age_s in history.sizes}
        self._versions = {version: now - age_s for version, age_s in history.versions}

    # -- what is declared ------------------------------------------------------------------------------------------

    def declare(self, size: int, version: str, now: float, *, permits: bool) -> None:
        """Adopt a declared size and version. `permits`: growth and a new version permit further creations."""
        largest, old_size, old_version = self._largest(now), self._size, self._version
        self._size, self._version = size, version
        if not permits:
            return
        growth = max(0, size - largest)
        if size != old_size:
            self._sizes[old_size] = now
        replaced = size if self._replaces(old_version, version, now) else 0
        if growth + replaced:
            self.allow(growth + replaced, now)

    def allow(self, number: int, now: float) -> None:
        """Permit further creations for one window."""
        self._allowances.append((now, number))

    def resume(self) -> None:
        """Permit as many as in a new window."""
        self._created.clear()

    @property
    def smallest(self) -> int:
        """The smallest size that was declared in this window."""
        return min(self._size, *self._sizes) if self._sizes else self._size

    def _largest(self, now: float) -> int:
        """The largest size that was declared in this window: sizes that take turns permit no more than it does."""
        self._sizes = {size: at for size, at in self._sizes.items() if now - at < WINDOW_S}
        return max(self._size, *self._sizes) if self._sizes else self._size

    def _replaces(self, old: str, new: str, now: float) -> bool:
        """Whether all may be created again for this version: once in a window, also if two take turns."""
        if old in ("", new):
            return False
        self._versions = {each: at for each, at in self._versions.items() if now - at < WINDOW_S}
        is_first = new not in self._versions
        for each in (old, new):
            self._versions.setdefault(each, now)
        return is_first

    # -- calls -----------------------------------------------------------------------------------------------------

    def inherit(self, token: str, now: float) -> None:
        """Count a creation that the previous leader has recorded, and perhaps not requested, because it was refused."""
        if self.begin(token, now):
            self._inherited.add(token)

    def begin(self, token: str, now: float) -> bool:
        """Record that a creation begins; one token counts once. False: it is counted already."""
        self._inherited.discard(token)
        if token in self._created:
            return False
        self._created[token] = now
        return True

    def withdraw(self, token: str) -> None:
        """Record that a creation certainly had no effect."""
        self._created.pop(token, None)

    # -- decisions -------------------------------------------------------------------------------------------------

    def is_repeated(self, token: str, left: int) -> bool:
        """Whether the creation is counted already, so that it may be requested again although none is `left`."""
        return token in self._created and (left >= 0 or token not in self._inherited)

    def left(self, now: float) -> int:
        """How many more are permitted now; negative if more are counted."""
        while self._created and now - next(iter(self._created.values())) >= WINDOW_S:
            del self._created[next(iter(self._created))]
        self._allowances = [(at, number) for at, number in self._allowances if now - at < WINDOW_S]
        return self._max(now) - len(self._created)

    def more_at(self, now: float) -> float:
        """When the next one is permitted, if none is left."""
        return next(iter(self._created.values()), now) + WINDOW_S

    def why_no_more(self, now: float) -> str:
        """The reason if none is left."""
        return (
            f"{len(self._created)} instances were created within an hour, at most {self._max(now)} are permitted "
            f"for {self._size} declared ones"
        )

    def _max(self, now: float) -> int:
        return max(CREATIONS_MIN, 2 * self._largest(now)) + sum(number for _, number in self._allowances)
