"""Which pet an instance is, if the logical ID that is listed is missing or another one: a tag was removed or rewritten.

An instance has one logical ID for life: that of its address and its volume. The tags are written in one step with the
creation, and its token names the slot. Without a token, a declared logical ID that it was listed with remains its own,
for the next leader, too: the census names it. So a healthy pet is neither destroyed nor created a second time because a
tag is missing, or a provider has changed its case. The flavor gets the description with this logical ID, too.

Without a token, it also holds every other declared logical ID that it is listed with: the earlier listing may be the
one that was wrong, so neither gets a second instance.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from infrakit.spi import values
from infrakit.spi.values import LogicalID, Token


class Identity(NamedTuple):
    """The logical ID of a pet."""

    logical_id: LogicalID | None
    shown_by: str = ""  # what shows it, if that is not the listing
    names: tuple[LogicalID, ...] = ()  # the logical IDs that it holds if they are declared; the first is its own


def of_pet(
    listed: LogicalID | None,
    names: tuple[LogicalID, ...],
    token: Token | None,
    tags: Mapping[str, str],
    *,
    declared: Collection[LogicalID],
) -> Identity:
    """Return which pet an instance is. `names`: those of its earlier listings, the oldest first."""
    if values.TAG_SLOT in tags:  # created as one of cattle
        return Identity(listed)
    if own := created_as(token or "", tags):
        return Identity(own, "" if listed == own else "its token", (own,))
    if names and listed == names[0]:
        names = names[:1]
    known = next((each for each in names if each in declared), None if listed else next(iter(names), None))
    if listed and listed not in names:
        names = (*(each for each in names if each in declared), listed)
    if known is None or known == listed:
        return Identity(listed, "", names)
    return Identity(known, "an earlier listing", names)


def created_as(token: str, tags: Mapping[str, str]) -> LogicalID | None:
    """Return the logical ID that a token names; None if it names none, or the slot of one of cattle."""
    slot = "" if values.TAG_SLOT in tags else slot_of(token, tags.get(values.TAG_GROUP, ""))
    return LogicalID(slot) if slot else None


def slot_of(token: str, group: str) -> str:
    """Return the slot that a token names, CLUSTER/GROUP/SLOT/REVISION-TERM; empty if it is no token of the group."""
    cluster, _, rest = token.partition("/")
    named, _, revision = rest.rpartition("/")
    return named.removeprefix(f"{group}/") if cluster and revision and named.startswith(f"{group}/") else ""
