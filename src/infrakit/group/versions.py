"""Member versions: a member is out of date only if something has changed that this member is made from.

The configuration hash covers all properties of a group: a health check, and the volumes of every pet. If the
flavor knows what a single member is made from (`MadeFrom`), that is compared instead. Its hash is the member version.
It is written into a tag of our own when the member is created; the configuration hash stays that of the original.
"""

from collections.abc import Mapping

import msgspec

from infrakit.spec import hash as hashes
from infrakit.spi import errors
from infrakit.spi.flavor import MadeFrom
from infrakit.spi.group import Group
from infrakit.spi.values import LogicalID


class MemberVersions(msgspec.Struct, frozen=True, kw_only=True):
    """The member versions of one version of a group. The defaults: they are not known."""

    common: str = ""  # of every member without an own part
    own: Mapping[LogicalID, str] = {}

    def of(self, logical_id: LogicalID | None) -> str:
        """Return the version of one member; empty: it is not known."""
        return self.own.get(logical_id, self.common) if logical_id is not None else self.common


def member_versions(group: Group, flavor: MadeFrom) -> MemberVersions:
    """Return the member versions of a declared group; unknown if the flavor rejects its properties."""
    properties = group.properties
    try:
        parts = flavor.made_from(properties=properties.flavor.properties)
    except errors.InfraKitError:
        return MemberVersions()
    common, own = hashes.of_members(properties.instance, properties.flavor.plugin, parts)
    return MemberVersions(common=common, own=own)
