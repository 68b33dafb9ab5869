"""Decodes JSON as liberally as the original: field names in any case, and `null` or no field for an empty list or map.

A first pass renames every field as its type declares it and fills in empty values; the strict decoder reads the result,
so that its errors name the place. Otherwise a field in another case would be dropped silently: an instance without its
tags belongs to no group. What a type leaves raw (the properties of plugins) is passed on byte for byte.

A short text that spells its fields as declared, and that the strict decoder reads, needs no first pass.
"""

import contextlib
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from infrakit.spi import codec

_NULL = b"null"
_SAMPLE_BYTES = 2048


class _Shape(NamedTuple):
    """A type that has named fields, or that may be written as `null` when empty."""

    kind: str  # struct list map raw
    empty: bytes | None  # the value that `null` means; None: `null` has no special meaning
    inner: Any = None  # of a list or map: the type of its elements
    fields: Mapping[str, msgspec.structs.FieldInfo] = {}  # of a struct: by name in lower case


def decode(text: bytes | msgspec.Raw, type_: Any) -> Any:
    """Decode `text` as `type_`. Raises `msgspec.MsgspecError`."""
    text = bytes(text)
    if len(text) <= 2 * _SAMPLE_BYTES and b"\\u" not in text and not is_misspelt(text, type_):
        with contextlib.suppress(msgspec.ValidationError):
            return codec.decode(text, type_)
    return codec.decode(_named(msgspec.Raw(text), type_), type_)


@functools.cache
def optional(type_: Any) -> tuple[tuple[bytes, bytes], ...]:
    """Return the names of optional fields, in quotes, as declared and in lower case."""
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
    """Whether a field of `type_` seems to be written in another case, so that a strict decoder would drop it.

    Of a long text only the beginning and the end are checked, because a client spells a field alike everywhere. Text
    that resembles a name gives a false positive; then `decode` only takes longer.
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
            given = codec.decode(raw, dict[str, msgspec.Raw])
            return msgspec.Raw(msgspec.json.encode(_fields(given, shape)))
        case "list", b"[":
            items = codec.decode(raw, list[msgspec.Raw])
            return msgspec.Raw(msgspec.json.encode([_named(item, shape.inner) for item in items]))
        case "map", b"{" if _shape(shape.inner) is not None:
            entries = codec.decode(raw, dict[str, msgspec.Raw])
            return msgspec.Raw(msgspec.json.encode({k: _named(v, shape.inner) for k, v in entries.items()}))
    return raw  # unexpected: the strict decoder reports it


def _fields(given: Mapping[str, msgspec.Raw], shape: _Shape) -> dict[str, msgspec.Raw]:
    """Return fields under their declared names, without unknown ones and without `null` where there is a default."""
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
    """Return the shape of a type; None for scalars such as numbers and strings."""
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
