"""What a member is made from: without health checks, drains and policies, and without the parts of other pets."""

from typing import Any

import msgspec

from infrakit.flavors.vanilla import scripts
from infrakit.flavors.vanilla.properties import decode
from infrakit.spi.flavor import MemberParts
from infrakit.spi.values import LogicalID

POLICIES = ("Health", "Drain", "Quorum")  # properties that only the leader uses
ATTACHMENTS, BY_LOGICAL_ID = "Attachments", "ByLogicalID"


def of(properties: msgspec.Raw) -> MemberParts:
    """Split declared properties. If a boot script may read all of them, through `spec`, nothing is left out."""
    checked = decode(properties)
    declared: dict[str, Any] = msgspec.json.decode(bytes(properties) or b"null") or {}
    if any(each.reads_properties for pet in (None, *checked.by_logical_id) for each in scripts.of(checked, pet)):
        return MemberParts(common=declared)
    own: dict[LogicalID, dict[str, Any]] = {}
    common = {name: value for name, value in declared.items() if name not in POLICIES}
    for name in (ATTACHMENTS, BY_LOGICAL_ID):
        if isinstance(common.get(name), dict):
            for logical_id, value in common.pop(name).items():
                if value:
                    own.setdefault(LogicalID(logical_id), {})[name] = value
    return MemberParts(common=common, own=own)
