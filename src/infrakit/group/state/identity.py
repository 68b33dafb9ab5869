"""Which pet an instance is, if it is listed without its logical ID, because a tag was removed or dropped.

The tags are written in one step with the creation. What is left of them still identifies the instance: an earlier
listing, or its token, which names the slot. So a healthy pet is not destroyed because a tag is missing.
"""

from collections.abc import Mapping

from infrakit.spi import values
from infrakit.spi.values import LogicalID, Token


def recovered(known: LogicalID | None, token: Token | None, tags: Mapping[str, str]) -> tuple[LogicalID | None, str]:
    """Return the logical ID, and what shows it; None if nothing does. `known`: by an earlier listing."""
    if values.TAG_SLOT in tags:  # a member of cattle, from before the group became pets
        return None, ""
    if known is not None:
        return known, "an earlier listing"
    slot = slot_of(token or "", tags.get(values.TAG_GROUP, ""))
    return (LogicalID(slot), "its token") if slot else (None, "")


def slot_of(token: str, group: str) -> str:
    """Return the slot that a token names, CLUSTER/GROUP/SLOT/REVISION; empty if it is no token of the group."""
    cluster, _, rest = token.partition("/")
    named, _, revision = rest.rpartition("/")
    return named.removeprefix(f"{group}/") if cluster and revision and named.startswith(f"{group}/") else ""
