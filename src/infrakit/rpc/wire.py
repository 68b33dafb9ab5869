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
from typing import Any

import msgspec

from infrakit.rpc import liberal
from infrakit.spi import errors
from infrakit.spi.flavor import Flavor
from infrakit.spi.group import Groups
from infrakit.spi.instance import Instance
from infrakit.spi.manager import Manager
from infrakit.spi.values import ABSENT, wire_name

INVALID_REQUEST = -32600
APPLICATION_ERROR = -32000
OK = "OK"  # the field of a method that returns nothing


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """How a Protocol appears on the wire."""

    protocol: type
    service: str  # before the dot of a method's name
    announced: str  # name and version in the handshake
    address: str = ""  # the field that selects an object behind the socket: Type, Name or none
    subject: str = ""  # the field that names what a call is about, if results repeat it
    results: Mapping[str, str] = {}  # Python method -> the field its value goes into


INTERFACES = (
    Interface(
        protocol=Instance,
        service="Instance",
        announced="Instance/0.6.1",
        address="Type",
        results={"provision": "ID", "describe_instances": "Descriptions"},
    ),
    Interface(protocol=Flavor, service="Flavor", announced="Flavor/0.1.1", address="Type", results={"prepare": "Spec"}),
    Interface(
        protocol=Groups,
        service="Group",
        announced="Group/0.1.1",
        address="Name",
        subject="ID",
        results={
            "commit_group": "Details",
            "describe_group": "Description",
            "inspect_groups": "Groups",
            "size": "Size",
        },
    ),
    Interface(
        protocol=Manager,
        service="Manager",
        announced="Stack/0.1.1",
        results={"is_leader": "Leader", "members": "Members", "logs": "Text", "history": "Versions", "show": "Text"},
    ),
)


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

    def value(self, result: msgspec.Raw) -> Any:
        """A result object as the return value."""
        if self.field == OK:
            return None
        if self.field:
            held = msgspec.json.decode(result, type=dict[str, msgspec.Raw])
            result = held.get(self.field, ABSENT)
        try:
            return msgspec.json.decode(result, type=self.returns)
        except msgspec.ValidationError:  # rare, so that large answers are read only once
            return liberal.decode(result, self.returns)


@functools.cache
def method(function: Callable[..., Any]) -> Method:
    """The wire's view of a Protocol's method, given as `Protocol.method`."""
    owner = function.__qualname__.split(".")[0]
    interface = next(i for i in INTERFACES if i.protocol.__name__ == owner)
    hints = typing.get_type_hints(function)
    returns = hints.pop("return")
    fields: list[Any] = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        field = (parameter.name, hints[parameter.name])
        fields.append(field if parameter.default is parameter.empty else (*field, parameter.default))
    if interface.address:
        fields.append((_address(interface), str, ""))
    params = msgspec.defstruct(f"{wire_name(function.__name__)}Params", fields, kw_only=True, rename=wire_name)
    return Method(interface=interface, name=function.__name__, params=params, returns=returns)


def _address(interface: Interface) -> str:
    """The attribute that holds the address; no parameter of a Protocol is called so."""
    return interface.address.lower()


def _subject(arguments: Mapping[str, Any]) -> str:
    """The ID that a call names, by itself or in what it declares; empty if it is about all."""
    spec = arguments.get("spec")
    named: str = spec.id if spec is not None else arguments.get("id", "")
    return named


def methods(interface: Interface) -> list[Method]:
    """Every method of an interface."""
    names = [n for n, f in vars(interface.protocol).items() if inspect.isfunction(f) and not n.startswith("_")]
    return [method(getattr(interface.protocol, name)) for name in names]


def arguments(method: Method, params: msgspec.Struct) -> tuple[dict[str, Any], str]:
    """Decoded parameters as keyword arguments, and the address."""
    given = {name: getattr(params, name) for name in params.__struct_fields__}
    address = given.pop(_address(method.interface), "") if method.interface.address else ""
    return given, address


# -- errors --------------------------------------------------------------------------------------------------------

_KINDS: dict[str, type[errors.InfraKitError]] = {
    kind.__name__: kind
    for kind in (
        errors.InvalidSpec,
        errors.NotFound,
        errors.Conflict,
        errors.Refused,
        errors.Halted,
        errors.NotLeader,
        errors.Throttled,
        errors.Unreachable,
        errors.OutcomeUnknown,
        errors.PluginError,
    )
}


class ErrorData(msgspec.Struct, kw_only=True, rename=wire_name, omit_defaults=True):
    """What makes an error of ours whole again on the other side."""

    kind: str = ""
    what: str = ""
    where: str = ""
    remedy: str = ""
    after_s: float = 0.0
    problems: list[errors.Problem] = []


def plain(text: str) -> str:
    """A text that JSON can carry: what is no Unicode, as in the name of a file, is escaped."""
    return text.encode(errors="backslashreplace").decode()


def error_data(error: errors.InfraKitError) -> ErrorData:
    return ErrorData(
        kind=type(error).__name__,
        what=plain(error.what),
        where=plain(error.where),
        remedy=plain(error.remedy),
        after_s=error.after_s if isinstance(error, errors.Throttled) else 0.0,
        problems=[_plain_problem(p) for p in error.problems] if isinstance(error, errors.InvalidSpec) else [],
    )


def _plain_problem(problem: errors.Problem) -> errors.Problem:
    words = {name: plain(getattr(problem, name)) for name in ("path", "message", "hint")}
    return msgspec.structs.replace(problem, **words)


def error(message: str, data: ErrorData | None) -> errors.InfraKitError:
    """The error that the other side raised; one that is not ours is a `PluginError` with its message."""
    kind = _KINDS.get(data.kind) if data is not None else None
    if data is None or kind is None:
        return errors.PluginError(message)
    if kind is errors.InvalidSpec:
        return errors.InvalidSpec(data.problems, where=data.where, remedy=data.remedy)
    if kind is errors.Throttled:
        return errors.Throttled(data.what, after_s=data.after_s, where=data.where, remedy=data.remedy)
    return kind(data.what, where=data.where, remedy=data.remedy)
