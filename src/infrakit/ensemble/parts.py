"""What a member is made from: its declared properties without those that only the leader uses."""

from collections.abc import Iterable

import msgspec

from infrakit.spi.flavor import MemberParts
from infrakit.template.boot import Script


def without(properties: msgspec.Raw, policies: Iterable[str], *, script: Script) -> MemberParts:
    """Return the declared properties without some. All of them, if the boot script may read every property."""
    declared = msgspec.json.decode(bytes(properties) or b"null") or {}
    left_out = () if script.reads_properties else frozenset(policies)
    return MemberParts(common={name: value for name, value in declared.items() if name not in left_out})
