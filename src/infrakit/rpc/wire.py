"""Converts typed methods to the wire format and back: one mechanism for every interface, without stubs.

A Protocol's signature defines the message. Its keyword parameters, under their wire names, are the fields of `params`.
Its return value is the `result`: a struct is encoded as the object itself, any other value as the one field that the
interface names. Messages are decoded as liberally as the original does (`liberal`). This module is cheap to import,
because every command loads it.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from infrakit.rpc import envelope, interfaces, liberal
from infrakit.rpc.interfaces import Interface
from infrakit.spi import codec
from infrakit.spi.repeat import is_repeatable
from infrakit.spi.values import wire_name

OK = "OK"  # the field of a method that returns nothing


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """The wire description of one method of an interface, for clients and servers."""

    interface: Interface
    name: str  # in Python
    params: type[msgspec.Struct]
    returns: Any
    repeatable: bool = False  # may be retried after a broken connection; see `spi.repeat`

    @property
    def wire(self) -> str:
        return f"{self.interface.service}.{wire_name(self.name)}"

    @property
    def may_wait(self) -> bool:
        """Whether a call may wait for its turn. Those that change something pass the gate, and begin at that moment."""
        return self.repeatable or self.wire == "Flavor.Prepare"

    @property
    def field(self) -> str:
        """The field of the result that holds the value; empty if the value is the whole result."""
        if self.returns is type(None):
            return OK
        if isinstance(self.returns, type) and issubclass(self.returns, msgspec.Struct) and not self._named:
            return ""
        return self._named

    @property
    def _named(self) -> str:
        return self.interface.results.get(self.name, "")

    def decode(self, raw: bytes | msgspec.Raw) -> msgspec.Struct:
        """Decode parameters, by name or by position, or absent. Raises `msgspec.MsgspecError`."""
        if bytes(memoryview(raw)[:1]) == b"[":
            listed = codec.decode(raw, list[msgspec.Raw])
            raw = listed[0] if listed else b"{}"
        if bytes(memoryview(raw)[:5]) in (b"", b"null"):
            raw = b"{}"
        params: msgspec.Struct = liberal.decode(raw, self.params)
        return params

    def result(self, value: Any, address: str, arguments: Mapping[str, Any]) -> msgspec.Raw:
        """Encode a return value as the result object, which repeats the address and the subject."""
        repeated: dict[str, Any] = {self.interface.address: address} if self.interface.address else {}
        if self.interface.subject:
            repeated[self.interface.subject] = _subject(arguments)
        if self.field == OK:
            return msgspec.Raw(msgspec.json.encode(repeated | {OK: True}))
        if self.field:
            return msgspec.Raw(msgspec.json.encode(repeated | {self.field: value}))
        body = msgspec.json.encode(value)
        if not repeated:
            return msgspec.Raw(body)
        prefix = msgspec.json.encode(repeated)[:-1]
        return msgspec.Raw(prefix + (b"," if body != b"{}" else b"") + body[1:])

    def read(self, body: bytes) -> "Answer":
        """Decode a whole reply. Raises `msgspec.MsgspecError` if it is invalid."""
        try:  # in one pass, because listings are large; what the strict decoder rejects takes the slow path
            fast = _replies(self.interface.protocol, self.name).decode(body)
            if fast.error is None and fast.result is not None and not liberal.is_misspelt(body, self.returns):
                return Answer(fast.id, None, getattr(fast.result, "value", fast.result))
        except msgspec.ValidationError:
            pass
        reply = codec.decode(body, envelope.ClientReply)
        if reply.error is not None or bytes(reply.result) == b"null":
            return Answer(reply.id, reply.error or NEITHER, None)
        return Answer(reply.id, None, self.value(reply.result))

    def value(self, result: msgspec.Raw) -> Any:
        """Decode a result object as the return value, as liberally as the original does."""
        if self.field == OK:
            return None
        if self.field:
            held = codec.decode(result, dict[str, msgspec.Raw])
            found = [value for name, value in held.items() if name.lower() == self.field.lower()]
            if not found:  # a missing field is not an empty one
                raise msgspec.ValidationError(f"the result has no {self.field}")
            result = found[0]
        return liberal.decode(result, self.returns)


class Answer(NamedTuple):
    """The content of a reply: an error, or else a value."""

    id: Any
    error: envelope.ClientError | None
    value: Any


NEITHER = envelope.ClientError(message="the response has neither result nor error")


class _Object(msgspec.Struct, rename="pascal"):
    name: str = ""


class _Hello(msgspec.Struct, rename="pascal"):
    objects: dict[str, list[_Object] | None] | None = None


def read_hello(body: bytes) -> Answer:
    """Decode the reply to a handshake: the names of objects by interface, such as `Instance/0.6.1`."""
    reply = codec.decode(body, envelope.ClientReply)
    if reply.error is not None or bytes(reply.result) == b"null":
        return Answer(reply.id, reply.error or NEITHER, None)
    objects = codec.decode(reply.result, _Hello).objects or {}
    return Answer(reply.id, None, {interface: [o.name for o in named or ()] for interface, named in objects.items()})


@functools.cache
def _replies(protocol: type, name: str) -> msgspec.json.Decoder[Any]:
    """Return a decoder for the reply of one method, including its value."""
    described = _described(protocol, name)
    result: Any = described.returns
    if described.field == OK:
        result = msgspec.defstruct("Result", [("value", type(None), None)])
    elif described.field:
        result = msgspec.defstruct("Result", [("value", described.returns, msgspec.field(name=described.field))])
    optional: list[Any] = [("result", result | None, None), ("error", envelope.ClientError | None, None)]
    return codec.decoder(msgspec.defstruct("Reply", [*optional, ("id", Any, None)]))


def method(function: Callable[..., Any]) -> Method:
    """Return the wire description of a Protocol's method, given as `Protocol.method`."""
    owner = function.__qualname__.split(".")[0]
    protocol = next(i.protocol for i in interfaces.INTERFACES if i.protocol.__name__ == owner)
    return _described(protocol, function.__name__)


@functools.cache
def _described(protocol: type, name: str) -> Method:
    interface, function = interfaces.of(protocol), getattr(protocol, name)
    hints = typing.get_type_hints(function)
    returns = hints.pop("return")
    fields: list[Any] = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        field = (parameter.name, hints[parameter.name])
        default = interface.defaults.get(parameter.name, parameter.default)
        fields.append(field if default is parameter.empty else (*field, default))
    if interface.address:
        fields.append((_address(interface), str, ""))
    params = msgspec.defstruct(f"{wire_name(name)}Params", fields, kw_only=True, rename=wire_name)
    return Method(interface=interface, name=name, params=params, returns=returns, repeatable=is_repeatable(function))


def _address(interface: Interface) -> str:
    """Return the attribute that holds the address; no parameter of a Protocol has this name."""
    return interface.address.lower()


def _subject(arguments: Mapping[str, Any]) -> str:
    """Return the ID in the arguments or in their spec; empty if the call has no subject."""
    spec = arguments.get("spec")
    named: str = spec.id if spec is not None else arguments.get("id", "")
    return named


def methods(interface: Interface) -> list[Method]:
    """Return every method of an interface that is a request with one response; streams are not."""
    protocols = [base for base in interface.protocol.__mro__ if getattr(base, "_is_protocol", False)]
    names = dict.fromkeys(
        name
        for base in reversed(protocols)
        for name, function in vars(base).items()
        if inspect.iscoroutinefunction(function) and not name.startswith("_")
    )
    return [_described(interface.protocol, name) for name in names]


def arguments(method: Method, params: msgspec.Struct) -> tuple[dict[str, Any], str]:
    """Return decoded parameters as keyword arguments, and the address."""
    given = {name: getattr(params, name) for name in params.__struct_fields__}
    address = given.pop(_address(method.interface), "") if method.interface.address else ""
    return given, address
