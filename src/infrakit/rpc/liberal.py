"""Reads JSON as the original does: field names in any case, and `null` or nothing for a list or map that is empty.

A first pass gives every field the name that its type declares and fills in what is empty; the strict decoder reads the
result, so that its errors name the place. Without it a misspelt but valid field would be lost in silence: an instance
without its tags belongs to nobody. What a type leaves raw (the properties of plugins) passes byte for byte.
"""

import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

_NULL = b"null"
_SAMPLE_BYTES = 2048


class _Shape(NamedTuple):
    """What may hold named fields, or stand as `null` for its empty self."""

    kind: str  # struct list map raw
    empty: bytes | None  # what `null` means; None: it has no empty self
    inner: Any = None  # of a list or map: the type of what it holds
    fields: Mapping[str, msgspec.structs.FieldInfo] = {}  # of a struct: by name in lower case


def decode(text: bytes | msgspec.Raw, type_: Any) -> Any:
    """Decode `text` as `type_`. Raises `msgspec.MsgspecError`."""
    return msgspec.json.decode(_named(msgspec.Raw(text), type_), type=type_)


@functools.cache
def optional(type_: Any) -> tuple[tuple[bytes, bytes], ...]:
    """The names of fields that may be left out, in quotes, as declared and in lower case."""
    names: set[str] = set()

    def collect(inner: Any, seen: tuple[Any, ...] = ()) -> None:
        shape = _shape(inner)
        if shape is None or inner in seen:
            return
        collect(shape.inner, (*seen, inner))
        for field in shape.fields.values():
            if not field.required:
                names.add(field.encode_name)
            collect(field.type, (*seen, inner))

    collect(type_)
    return tuple((f'"{name}"'.encode(), f'"{name.lower()}"'.encode()) for name in sorted(names))


def is_misspelt(text: bytes, type_: Any) -> bool:
    """Whether a field of `type_` seems to stand in another case, so that a strict decoder would leave it out.

    Only the beginning and the end of a long text are looked at: whoever misspells a field does so everywhere. May be
    wrong about text that is like a name; then `decode` only takes longer.
    """
    sample = text if len(text) <= 2 * _SAMPLE_BYTES else text[:_SAMPLE_BYTES] + text[-_SAMPLE_BYTES:]
    lower = sample.lower()
    return any(lower.count(name_lower) != sample.count(name) for name, name_lower in optional(type_))


def _named(raw: msgspec.Raw, type_: Any) -> msgspec.Raw:
    shape = _shape(type_)
    if shape is None:
        return raw
    first = bytes(memoryview(raw)[:1])
    if bytes(memoryview(raw)[:5]) == _NULL:
        return raw if shape.empty is None else msgspec.Raw(shape.empty)
    match shape.kind, first:
        case "struct", b"{":
            given = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            return msgspec.Raw(msgspec.json.encode(_fields(given, shape)))
        case "list", b"[":
            items = msgspec.json.decode(raw, type=list[msgspec.Raw])
            return msgspec.Raw(msgspec.json.encode([_named(item, shape.inner) for item in items]))
        case "map", b"{" if _shape(shape.inner) is not None:
            entries = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            return msgspec.Raw(msgspec.json.encode({k: _named(v, shape.inner) for k, v in entries.items()}))
    return raw  # not what is expected: the strict decoder says so


def _fields(given: Mapping[str, msgspec.Raw], shape: _Shape) -> dict[str, msgspec.Raw]:
    """Fields under their own names; those unknown are left out, and so is `null` where there is a default."""
    named: dict[str, msgspec.Raw] = {}
    for name, value in given.items():
        field = shape.fields.get(name.lower())
        if field is not None and (field.required or bytes(value) != _NULL):
            named[field.encode_name] = _named(value, field.type)
    for field in shape.fields.values():
        inner = _shape(field.type)
        if field.required and field.encode_name not in named and inner is not None and inner.empty is not None:
            named[field.encode_name] = msgspec.Raw(inner.empty)
    return named


@functools.cache
def _shape(type_: Any) -> _Shape | None:
    """None for what is neither named, nor a list or map: numbers, texts."""
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is typing.Annotated:
        return _shape(arguments[0])
    if origin in (typing.Union, types.UnionType):
        shape = next((s for s in map(_shape, arguments) if s is not None), None)
        nullable = type(None) in arguments
        return shape._replace(empty=None) if shape is not None and nullable else shape
    if isinstance(origin, type):
        return _container(origin, arguments)
    if type_ is msgspec.Raw:
        return _Shape("raw", empty=_NULL)
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return _Shape("struct", empty=None, fields={f.encode_name.lower(): f for f in msgspec.structs.fields(type_)})
    return None


def _container(origin: type, arguments: tuple[Any, ...]) -> _Shape | None:
    if issubclass(origin, Mapping):
        return _Shape("map", empty=b"{}", inner=arguments[1])
    if issubclass(origin, Sequence):
        return _Shape("list", empty=b"[]", inner=arguments[0])
    return None
