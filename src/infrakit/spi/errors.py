"""The few errors that cross a boundary, and what each lets the caller conclude.

    InfraKitError
    ├── InvalidSpec       the user's document or properties are wrong; all problems at once
    ├── NotFound          the thing named does not exist
    ├── Conflict          somebody else was first: a stale revision, an address or a volume that is taken
    ├── Refused           nothing was done, and asking again will not help until something changes
    ├── Halted            an operator said stop
    ├── NotLeader         this replica may not act
    ├── Throttled         nothing was done; ask again after `after_s` seconds
    ├── Unreachable       nothing was done: the request never reached the other side
    ├── OutcomeUnknown    the request may have been carried out: never repeat it blindly
    └── PluginError       a plugin failed in its own words; for a creation its outcome counts as unknown

The last four decide law 3 (exactly one per intent): after `Refused`, `Throttled` or `Unreachable` a creation surely did
not happen, after `OutcomeUnknown` or `PluginError` it may have, and its token has to be looked for.

Each carries a sentence that says what failed, `where` it did, and a `remedy`: what the reader can do.
"""

from collections.abc import Sequence

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong in a document: `path` such as `groups[1].properties.Allocation.Size`."""

    path: str
    message: str  # what was found and what was expected, one sentence
    line: int | None = None  # counted from 1, where the format has lines
    hint: str = ""  # the nearest known name, or another way out

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        hint = f" ({self.hint})" if self.hint else ""
        subject = f"{self.path}: " if self.path else ""
        return f"{place}{subject}{self.message}{hint}"


class InfraKitError(Exception):
    """Base of all errors that InfraKit raises on purpose."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{where}{self.what}{remedy}"


class InvalidSpec(InfraKitError):
    """A document or a plugin's properties are wrong; `problems` lists everything, not only the first."""

    def __init__(self, problems: Sequence[Problem], *, where: str = "", remedy: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems), where=where, remedy=remedy)

    def __str__(self) -> str:
        return "\n".join(f"{self.where}: {p}" if self.where else str(p) for p in self.problems)


class NotFound(InfraKitError):
    """The thing named does not exist."""


class Conflict(InfraKitError):
    """Somebody else was first: a stale revision, or an address or volume that another instance holds."""


class Refused(InfraKitError):
    """Nothing was done, and repeating it unchanged will not help."""


class Halted(Refused):
    """An operator said stop; it holds until lifted."""


class NotLeader(Refused):
    """This replica cannot prove that it may act."""


class Throttled(InfraKitError):
    """The other side asks for patience: nothing was done; ask again after `after_s` seconds."""

    def __init__(self, what: str, *, after_s: float, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.after_s = after_s


class Unreachable(InfraKitError):
    """The request never reached the other side: nothing was done."""


class OutcomeUnknown(InfraKitError):
    """The request was sent and no answer came: it may have been carried out."""


class PluginError(InfraKitError):
    """A plugin failed in its own words. It may have done part of what it was asked to do."""
