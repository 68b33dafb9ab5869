"""The table of exceptions: which law cannot hold in a world with a fault, how often it may fail, and why.

A fault that is not named here excuses nothing. The number is per occurrence of the fault; `UNLIMITED` applies where the
fault lasts for the whole run. The other laws hold in these worlds, too.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

UNLIMITED = 1_000_000

EACH = 24  # a request, an instance, a volume and an entry of the member list for each of two members in three groups

LABEL_TO_DESTROY = 4  # the calls for one instance: a label, a drain, a release and its destruction

ONE_ACTOR = "1 one actor"
ONE_PER_IDENTITY = "2 one per identity"
ONE_PER_INTENT = "3 exactly one"
NOT_MORE = "3 never more than declared"
NEEDED = "4 unknown is not missing"
IN_A_ROW = "5 never worse: in a row"
AT_ONCE = "5 never worse: at once"
MAJORITY = "5 never worse: majority"
BREAKER = "5 never worse: too many unhealthy"
CREATIONS = "5 never worse: creations"
OWN_NODE = "5 never worse: own node last"
NOT_OURS = "5 never worse: not ours"
VOLUMES = "5 never worse: volumes"
HELD_VOLUMES = "5 never worse: held volumes"
NEVER_LOST = "6 never lost"
CONVERGED = "7 converged means converged"
REASON = "8 a reason for everything"
STOP = "9 stop means stop"


class Permitted(NamedTuple):
    """What one fault excuses."""

    fault: str
    law: str
    times: int
    why: str


TABLE = (
    Permitted("silent listings", ONE_PER_IDENTITY, UNLIMITED, "what is omitted for longer than the lag has terminated"),
    Permitted("silent listings", NOT_MORE, UNLIMITED, "the same, of cattle; creations of an hour stay limited"),
    Permitted("silent listings", CONVERGED, UNLIMITED, "an instance that is never shown is not counted"),
    Permitted("silent listings", NEEDED, UNLIMITED, "a surplus that is shown late is removed, whichever it is"),
    Permitted("long empty listings", ONE_PER_IDENTITY, EACH, "MaxUnhealthy members that vanish are replaced"),
    Permitted("long empty listings", NOT_MORE, EACH, "the same, of cattle"),
    Permitted("long empty listings", NEEDED, EACH, "what was replaced appears again, and the surplus is removed"),
    Permitted("long empty listings", HELD_VOLUMES, EACH, "volumes of members that vanish are deleted, if requested"),
    *(
        Permitted("long empty listings of a known account", law, UNLIMITED, "what it does not show has terminated")
        for law in (ONE_PER_IDENTITY, NOT_MORE, NEEDED, HELD_VOLUMES)
    ),
    Permitted("empty listings without evidence", ONE_PER_IDENTITY, UNLIMITED, "freed or restored, a group is new"),
    Permitted("empty listings without evidence", NOT_MORE, UNLIMITED, "the same, of cattle"),
    Permitted("empty listings without evidence", NEEDED, UNLIMITED, "the surplus is removed later"),
    Permitted("old reads", ONE_ACTOR, UNLIMITED, "the store is not linearizable: a newer epoch is not shown"),
    Permitted("old reads", STOP, UNLIMITED, "the same: a newer halt is not shown"),
    Permitted("alias", NEEDED, 2, "one machine with two IDs appears as a surplus, or a second bearer: one at a time"),
    Permitted("alias without a token", CONVERGED, UNLIMITED, "two IDs and no token appear as two members"),
    Permitted("changed version tag without evidence", NEEDED, 1, "only the tag shows the version, to a new leader"),
    Permitted("lost token of another cluster", NOT_OURS, LABEL_TO_DESTROY, "only the token shows whose it is"),
    *(
        Permitted(fault, law, times, why)
        for fault in ("restore", "fork")
        for law, times, why in (
            (ONE_ACTOR, UNLIMITED, "a lost epoch is acquired again"),
            (NOT_MORE, EACH, "creations in flight whose records were lost"),
            (ONE_PER_IDENTITY, EACH, "the same, of pets, if the provider locks no identities"),
            (NEVER_LOST, UNLIMITED, "what was written after the backup, or to the copy, is lost"),
            (VOLUMES, EACH, "a request to delete them is in force where its revocation is lost"),
        )
    ),
    Permitted("fork", STOP, UNLIMITED, "a halt in one copy is not known to the other one"),
)


def of(fault: str) -> Mapping[str, int]:
    """What one occurrence of a fault permits, by law."""
    permitted: dict[str, int] = {}
    for each in TABLE:
        if each.fault == fault:
            permitted[each.law] = permitted.get(each.law, 0) + each.times
    return permitted


def allowed(faults: Iterable[str]) -> dict[str, int]:
    """What the standing faults of a world permit, by law."""
    total: dict[str, int] = {}
    for fault in faults:
        for law, times in of(fault).items():
            total[law] = total.get(law, 0) + times
    return total
