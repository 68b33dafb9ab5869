"""Decodes only what has changed of an answer with many values: a listing of instances, or reports of their health.

It is requested every second, and is nearly always the same. An answer with the same bytes is the same value, and in any
other list, each element with the same bytes as before is the same object. So an unchanged listing costs one comparison
of bytes, and those who receive it need not compare its elements. The values are immutable.
"""

import collections.abc
import functools
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from infrakit.rpc import envelope, liberal, wire
from infrakit.spi import codec

KEPT = 8  # answers of one plugin that are kept: the newest of each request, such as those with different tags


class KnownAnswers:
    """The newest answers of one plugin to requests for many values."""

    def __init__(self) -> None:
        self._by_request: dict[tuple[str, bytes], _KnownAnswer] = {}

    def of(self, method: wire.Method, params: Mapping[str, Any]) -> "_KnownAnswer | None":
        """Return what is known of the answer to this request; None if it has few values, or must not be repeated."""
        elements = _elements(method.returns)
        if elements is None or not method.repeatable or not method.field:
            return None
        # lists depend on short filters; reports on the instances, of which nearly always the same are passed
        key = method.wire, msgspec.json.encode(params) if elements.are_listed else b""
        known = self._by_request.pop(key, None) or _KnownAnswer(method, elements)
        self._by_request[key] = known
        if len(self._by_request) > KEPT:
            del self._by_request[next(iter(self._by_request))]
        return known


class _Elements(NamedTuple):
    """The type of the values in an answer, and whether they are a list; else they are a mapping."""

    type: Any
    are_listed: bool


class _KnownAnswer:
    """The newest answer to one request."""

    def __init__(self, method: wire.Method, elements: _Elements) -> None:
        self._method = method
        self._elements = elements
        self._result = b""
        self._values: Any = ()

    def read(self, body: bytes) -> wire.Answer:
        """Decode a whole reply, like `wire.Method.read`."""
        try:
            reply = codec.decode(body, envelope.ClientReply)
        except msgspec.ValidationError:
            return self._method.read(body)
        result = bytes(reply.result)
        if reply.error is None and self._result and result == self._result:
            return wire.Answer(reply.id, None, self._values)
        if reply.error is not None or liberal.is_misspelt(body, self._method.returns):
            return self._method.read(body)
        try:
            answer = self._read_changed(body, result, reply.id)
        except msgspec.ValidationError:  # what the strict decoder rejects takes the slow path
            return self._method.read(body)
        if answer.error is None:
            self._result, self._values = result, answer.value
        return answer

    def _read_changed(self, body: bytes, result: bytes, id_: Any) -> wire.Answer:
        if self._elements.are_listed:
            return wire.Answer(id_, None, self._values_of(result))
        return self._method.read(body)

    def _values_of(self, result: bytes) -> Sequence[Any]:
        """Decode a result object; elements with the same bytes as before are the same objects."""
        split, decoder = _list_decoder(self._method.field), codec.decoder(self._elements.type)
        before = zip(split.decode(self._result).value, self._values, strict=True) if self._result else ()
        known = {bytes(text): value for text, value in before}
        texts = map(bytes, split.decode(result).value)
        return [known[text] if text in known else decoder.decode(text) for text in texts]


class _List(typing.Protocol):
    value: list[msgspec.Raw]


@functools.cache
def _list_decoder(field: str) -> "msgspec.json.Decoder[_List]":
    """Return a decoder for a result object whose one field is a list, which leaves the elements undecoded."""
    return codec.decoder(msgspec.defstruct("List", [("value", list[msgspec.Raw], msgspec.field(name=field))]))


@functools.cache
def _elements(returns: Any) -> _Elements | None:
    """Return what an answer of that type has many of, if these are structs."""
    origin, arguments = typing.get_origin(returns), typing.get_args(returns)
    if origin not in (collections.abc.Sequence, collections.abc.Mapping):
        return None
    type_ = arguments[-1]
    is_struct = isinstance(type_, type) and issubclass(type_, msgspec.Struct)
    return _Elements(type_, origin is collections.abc.Sequence) if is_struct else None
