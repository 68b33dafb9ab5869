"""The errors that cross a process or plugin boundary, and what the caller may conclude from each.

    InfraKitError
    ├── InvalidSpec       the user's document, properties or another value is wrong; all problems at once
    ├── NotFound          the thing named does not exist
    ├── Conflict          nothing was done: the revision is stale, or the address or volume is already in use
    ├── Refused           nothing was done; a retry succeeds only once the named cause is resolved
    │   ├── Halted        an operator has halted the group, or everything
    │   └── NotLeader     this replica may not act
    ├── Throttled         nothing was done; retry after `after_s` seconds
    ├── Unreachable       nothing was done: the request never reached the other side
    ├── OutcomeUnknown    the request may have been carried out: never repeat it blindly
    └── PluginError       a plugin raised an error of its own; a failed creation counts as outcome unknown

These errors decide law 3 (exactly one instance per intent). After `Refused`, `Throttled` or `Unreachable` a creation
certainly did not happen. After `OutcomeUnknown` or `PluginError` it may have happened, and the controller searches the
provider's listing for its token before it creates again.

Each error carries a sentence that names the failure, `where` it occurred, and a `remedy`: what the operator can do.
"""

from collections.abc import Sequence

import msgspec


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake in a document. `path` is its place, such as `groups[1].properties.Allocation.Size`."""

    path: str
    message: str  # what was found and what was expected, one sentence
    line: int | None = None  # counted from 1, where the format has lines
    hint: str = ""  # the nearest known name, or another remedy

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


def invalid(path: str, message: str, *, hint: str = "") -> InvalidSpec:
    """One value that the caller gave is invalid: `path` is its option, argument or variable."""
    return InvalidSpec([Problem(path=path, message=message, hint=hint)])


class NotFound(InfraKitError):
    """The named object does not exist."""


class Conflict(InfraKitError):
    """Nothing was done: the caller's revision is stale, or another instance holds the address or volume."""


class Refused(InfraKitError):
    """Nothing was done. A retry succeeds only once the named cause is resolved; controllers retry with back-off."""


class Halted(Refused):
    """An operator has halted the group, or everything. The halt lasts until it is lifted."""


class NotLeader(Refused):
    """This replica cannot prove that it is the leader, so it does not act."""


class Throttled(InfraKitError):
    """The other side limits the request rate: nothing was done; retry after `after_s` seconds."""

    def __init__(self, what: str, *, after_s: float, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.after_s = after_s


class Unreachable(InfraKitError):
    """The request never reached the other side: nothing was done."""


class OutcomeUnknown(InfraKitError):
    """The request was sent and no reply arrived: it may have been carried out. Never repeat it blindly."""


class PluginError(InfraKitError):
    """A plugin raised an error of its own. It may have carried out part of the request."""
