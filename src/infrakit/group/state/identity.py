"""Which pet an instance is, if the logical ID that is listed is missing or another one: a tag was removed or rewritten.

The tags are written in one step with the creation. What is left of them still identifies the instance: an earlier
listing, or its token, which names the slot. So a healthy pet is neither destroyed nor created a second time because a
tag is missing, or a provider has changed its case. The flavor gets the description with this logical ID, too.
"""

from collections.abc import Mapping

from infrakit.spi import values
from infrakit.spi.values import LogicalID, Token


def of_pet(
    listed: str | None, known: LogicalID | None, token: Token | None, tags: Mapping[str, str]
) -> tuple[LogicalID | None, str]:
    """Return the logical ID, and what shows it if that is not the listing. `known`: by an earlier listing."""
    slot = "" if values.TAG_SLOT in tags else slot_of(token or "", tags.get(values.TAG_GROUP, ""))
    if listed and slot in ("", listed):
        return LogicalID(listed), ""
    if known is not None and not listed and values.TAG_SLOT not in tags:
        return known, "an earlier listing"
    return (LogicalID(slot), "its token") if slot else (None, "")


def slot_of(token: str, group: str) -> str:
    """Return the slot that a token names, CLUSTER/GROUP/SLOT/REVISION-TERM; empty if it is no token of the group."""
    cluster, _, rest = token.partition("/")
    named, _, revision = rest.rpartition("/")
    return named.removeprefix(f"{group}/") if cluster and revision and named.startswith(f"{group}/") else ""
