"""The configuration hash of a version, over what instances are created from; identical to the original's.

The original decodes Instance and Flavor into generic Go values and encodes them again, sorted and indented, so key
order, spacing and the spelling of numbers do not matter. To adopt its instances without replacing them, the same bytes
are produced here, with Go's escapes and Go's spelling of floats. As there, all numbers are 64-bit floats for the hash,
so two integers beyond 2**53 may count as equal.
"""

import base64
import decimal
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from infrakit.spi.flavor import MemberParts
from infrakit.spi.group import FlavorRef, Group, InstanceRef
from infrakit.spi.values import LogicalID

_INDENT = "  "
_ESCAPES = {code: f"\\u{code:04x}" for code in (*range(32), *map(ord, "<>&\u2028\u2029"))}
_ESCAPES |= str.maketrans({'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_EXPONENT_FROM, _EXPONENT_BELOW = 1e21, 1e-6  # thresholds at which Go's encoder uses exponents


def of(instance: InstanceRef, flavor: FlavorRef) -> str:
    """Return the configuration hash: 32 characters of lower-case base32. It does not depend on the allocation."""
    digest = hashlib.sha1(usedforsecurity=False)
    for plugin, properties in ((instance.plugin, instance.properties), (flavor.plugin, flavor.properties)):
        generic = {"Plugin": plugin, "Properties": _generic(properties)}
        digest.update(_go(generic, "\n" + _INDENT).encode())
    return base64.b32encode(digest.digest()).decode().rstrip("=").lower()


def of_members(instance: InstanceRef, flavor: str, parts: MemberParts) -> tuple[str, dict[LogicalID, str]]:
    """Return the hash of what a member is made from: of one without an own part, and of each pet that has one."""
    digest = hashlib.sha256(usedforsecurity=False)
    for part in (instance.plugin, _generic(instance.properties), flavor, _floats(parts.common)):
        digest.update((_go(part, "") + "\0").encode())
    own = {}
    for logical_id, part in parts.own.items():
        each = digest.copy()
        each.update(_go(_floats(part), "").encode())
        own[logical_id] = _text(each.digest())
    return _text(digest.digest()), own


def _text(digest: bytes) -> str:
    return base64.b32encode(digest[:20]).decode().lower()


def of_groups(groups: Sequence[Group]) -> str:
    """Return the SHA-256 of the whole declaration, in hexadecimal, independent of group order and spelling."""
    declared = [
        {"name": g.name, "tags": g.tags, "properties": _plain(json.loads(msgspec.json.encode(g.properties)))}
        for g in sorted(groups, key=lambda g: g.name)
    ]
    text = json.dumps(declared, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _generic(raw: msgspec.Raw) -> Any:
    return json.loads(bytes(raw) or b"null", parse_int=float)


def _floats(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_int=float)


def _go(value: Any, newline: str) -> str:
    """Encode like Go's json.MarshalIndent; `newline` includes the indentation of the level."""
    inner = newline + _INDENT
    if isinstance(value, dict):
        members = [f"{_go_text(name)}: {_go(value[name], inner)}" for name in sorted(value)]
        return "{" + inner + ("," + inner).join(members) + newline + "}" if members else "{}"
    if isinstance(value, list):
        elements = [_go(element, inner) for element in value]
        return "[" + inner + ("," + inner).join(elements) + newline + "]" if elements else "[]"
    if isinstance(value, str):
        return _go_text(value)
    if isinstance(value, float):
        return _go_number(value)
    return json.dumps(value)


def _go_text(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def _go_number(value: float) -> str:
    if value == 0:
        return "-0" if str(value).startswith("-") else "0"
    if _EXPONENT_BELOW <= abs(value) < _EXPONENT_FROM:
        return format(decimal.Decimal(repr(value)), "f").removesuffix(".0")
    return repr(value).replace("e-0", "e-")


def _plain(value: Any) -> Any:
    """Normalize numbers: whole floats become integers."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(element) for element in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
