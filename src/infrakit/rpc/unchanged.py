"""Decodes only what has changed of an answer that is a list of values, such as a listing of instances.

A listing is requested every second, and is nearly always the same. An answer with the same bytes is the same value, and
in any other answer, each element with the same bytes as before is the same object. So an unchanged listing costs one
comparison of bytes, and those who receive it need not compare its elements. The values are immutable.
"""

import collections.abc
import functools
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from infrakit.rpc import envelope, liberal, wire
from infrakit.spi import codec

KEPT = 8  # answers of one plugin that are kept: the newest of each request, such as those with different tags


class KnownAnswers:
    """The newest answers of one plugin to requests for lists."""

    def __init__(self) -> None:
        self._by_request: dict[tuple[str, bytes], _KnownAnswer] = {}

    def of(self, method: wire.Method, params: Mapping[str, Any]) -> "_KnownAnswer | None":
        """Return what is known of the answer to this request; None if it is no list that may be requested again."""
        element = _element(method.returns)
        if element is None or not method.repeatable or not method.field:
            return None
        key = method.wire, msgspec.json.encode(params)
        known = self._by_request.pop(key, None) or _KnownAnswer(method, element)
        self._by_request[key] = known
        if len(self._by_request) > KEPT:
            del self._by_request[next(iter(self._by_request))]
        return known


class _KnownAnswer:
    """The newest answer to one request."""

    def __init__(self, method: wire.Method, element: Any) -> None:
        self._method = method
        self._element = element
        self._result = b""
        self._values: Sequence[Any] = ()

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
            values = self._values_of(result)
        except msgspec.ValidationError:  # what the strict decoder rejects takes the slow path
            return self._method.read(body)
        self._result, self._values = result, values
        return wire.Answer(reply.id, None, values)

    def _values_of(self, result: bytes) -> Sequence[Any]:
        """Decode a result object; elements with the same bytes as before are the same objects."""
        split, decoder = _list_decoder(self._method.field), codec.decoder(self._element)
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
def _element(returns: Any) -> Any:
    """Return the type of the elements if `returns` is a sequence of structs, else None."""
    if typing.get_origin(returns) is not collections.abc.Sequence:
        return None
    (element,) = typing.get_args(returns)
    return element if isinstance(element, type) and issubclass(element, msgspec.Struct) else None
