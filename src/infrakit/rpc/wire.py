"""From typed methods to the wire and back: one mechanism for every interface, no stub for any method.

A Protocol's signature is the message. Its keyword parameters, under their wire names, are the fields of `params`; its
return value is the `result`: a struct is the object itself, anything else goes into the one field that the interface
names. What the original sends is read as liberally as it reads itself (`liberal`). Importing this costs next to
nothing, because the command line does.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from infrakit.rpc import envelope, interfaces, liberal
from infrakit.rpc.interfaces import Interface
from infrakit.spi.values import wire_name

OK = "OK"  # the field of a method that returns nothing


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """One method of an interface, ready to be called or served."""

    interface: Interface
    name: str  # Python's
    params: type[msgspec.Struct]
    returns: Any

    @property
    def wire(self) -> str:
        return f"{self.interface.service}.{wire_name(self.name)}"

    @property
    def field(self) -> str:
        """The field of the result that holds the value; empty if the value is the result."""
        if self.returns is type(None):
            return OK
        if isinstance(self.returns, type) and issubclass(self.returns, msgspec.Struct) and not self._named:
            return ""
        return self._named

    @property
    def _named(self) -> str:
        return self.interface.results.get(self.name, "")

    def decode(self, raw: bytes | msgspec.Raw) -> msgspec.Struct:
        """Parameters by name, or by position; absent they are empty. Raises `msgspec.MsgspecError`."""
        if bytes(memoryview(raw)[:1]) == b"[":
            listed = msgspec.json.decode(raw, type=list[msgspec.Raw])
            raw = listed[0] if listed else b"{}"
        if bytes(memoryview(raw)[:5]) in (b"", b"null"):
            raw = b"{}"
        params: msgspec.Struct = liberal.decode(raw, self.params)
        return params

    def result(self, value: Any, address: str, arguments: Mapping[str, Any]) -> msgspec.Raw:
        """A return value as the result object, with the address and the subject repeated."""
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
        """A whole reply. Raises `msgspec.MsgspecError` if it is none, or not of this method."""
        try:  # in one pass, because listings are large; what our types do not take as it is goes the long way
            fast = _replies(self.interface.protocol, self.name).decode(body)
            if fast.error is None and fast.result is not None and not liberal.is_misspelt(body, self.returns):
                return Answer(fast.id, None, getattr(fast.result, "value", fast.result))
        except msgspec.ValidationError:
            pass
        reply = msgspec.json.decode(body, type=envelope.ClientReply)
        if reply.error is not None or bytes(reply.result) == b"null":
            return Answer(reply.id, reply.error or NEITHER, None)
        return Answer(reply.id, None, self.value(reply.result))

    def value(self, result: msgspec.Raw) -> Any:
        """A result object as the return value, read as liberally as the original reads."""
        if self.field == OK:
            return None
        if self.field:
            held = msgspec.json.decode(result, type=dict[str, msgspec.Raw])
            found = [value for name, value in held.items() if name.lower() == self.field.lower()]
            if not found:  # nothing said is not the same as nothing there
                raise msgspec.ValidationError(f"the result has no {self.field}")
            result = found[0]
        return liberal.decode(result, self.returns)


class Answer(NamedTuple):
    """What a reply says: an error, or else a value."""

    id: Any
    error: envelope.ClientError | None
    value: Any


NEITHER = envelope.ClientError(message="the answer has neither result nor error")


class _Object(msgspec.Struct, rename="pascal"):
    name: str = ""


class _Hello(msgspec.Struct, rename="pascal"):
    objects: dict[str, list[_Object] | None] | None = None


def read_hello(body: bytes) -> Answer:
    """The reply to a handshake: the names of objects by interface, `Instance/0.6.1`."""
    reply = msgspec.json.decode(body, type=envelope.ClientReply)
    if reply.error is not None or bytes(reply.result) == b"null":
        return Answer(reply.id, reply.error or NEITHER, None)
    objects = msgspec.json.decode(reply.result, type=_Hello).objects or {}
    return Answer(reply.id, None, {interface: [o.name for o in named or ()] for interface, named in objects.items()})


@functools.cache
def _replies(protocol: type, name: str) -> msgspec.json.Decoder[Any]:
    """Reads the reply of one method with its value in place."""
    described = _described(protocol, name)
    result: Any = described.returns
    if described.field == OK:
        result = msgspec.defstruct("Result", [("value", type(None), None)])
    elif described.field:
        result = msgspec.defstruct("Result", [("value", described.returns, msgspec.field(name=described.field))])
    optional: list[Any] = [("result", result | None, None), ("error", envelope.ClientError | None, None)]
    return msgspec.json.Decoder(msgspec.defstruct("Reply", [*optional, ("id", Any, None)]))


def method(function: Callable[..., Any]) -> Method:
    """The wire's view of a Protocol's method, given as `Protocol.method`."""
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
    return Method(interface=interface, name=name, params=params, returns=returns)


def _address(interface: Interface) -> str:
    """The attribute that holds the address; no parameter of a Protocol is called so."""
    return interface.address.lower()


def _subject(arguments: Mapping[str, Any]) -> str:
    """The ID that a call names, by itself or in what it declares; empty if it is about all."""
    spec = arguments.get("spec")
    named: str = spec.id if spec is not None else arguments.get("id", "")
    return named


def methods(interface: Interface) -> list[Method]:
    """Every method of an interface that is a question with one answer; streams are not."""
    protocols = [base for base in interface.protocol.__mro__ if getattr(base, "_is_protocol", False)]
    names = dict.fromkeys(
        name
        for base in reversed(protocols)
        for name, function in vars(base).items()
        if inspect.iscoroutinefunction(function) and not name.startswith("_")
    )
    return [_described(interface.protocol, name) for name in names]


def arguments(method: Method, params: msgspec.Struct) -> tuple[dict[str, Any], str]:
    """Decoded parameters as keyword arguments, and the address."""
    given = {name: getattr(params, name) for name in params.__struct_fields__}
    address = given.pop(_address(method.interface), "") if method.interface.address else ""
    return given, address
