"""Turns a request's bytes into a reply's: find the method, decode, call, encode.

It never raises, and a reply never contains a traceback.
"""

import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from infrakit.rpc import caller, envelope, failures, interfaces, wire
from infrakit.rpc.interfaces import INTERFACES, Interface
from infrakit.spi import codec, errors

DEPTH_MAX = 200  # of nesting in a request's params
LARGE_BYTES = 16 * 1024  # of params that are compared with the previous ones
HELLO = "Handshake.Hello"
IMPLEMENTS = "Handshake.Implements"  # the handshake of the original's v0.4.1 and v0.5

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(_STEPS))

_log = logging.getLogger(__name__)


class _TooDeep(Exception):
    """Parameters are nested deeper than `DEPTH_MAX`."""


class _Decoded(NamedTuple):
    """Parameters, and what they mean. The values are immutable."""

    params: bytes
    arguments: Mapping[str, Any]
    address: str


class Dispatcher:
    """Serves objects by name, each under every interface that it satisfies. The default object is called `.`.

    Several objects may share a name: each serves its own interfaces. An object with a method `aliases` is also served
    under those names, which may change at runtime.
    """

    def __init__(self, objects: Mapping[str, object | tuple[object, ...]]) -> None:
        self._methods: dict[str, tuple[wire.Method, _Serving]] = {}
        self._announced: dict[str, _Serving] = {}
        self._newest: dict[str, _Decoded] = {}  # the newest large parameters, by method
        named = [(name, o) for name, held in objects.items() for o in (held if isinstance(held, tuple) else (held,))]
        self._hidden: dict[str, str] = {}  # service -> why it is not served
        for interface in INTERFACES:
            self._record_hidden(interface, named)
            serving = _Serving({name: o for name, o in named if interfaces.serves(o, interface)})
            if serving.fixed:
                self._announced[interface.announced] = serving
                for method in wire.methods(interface):
                    self._methods[method.wire] = (method, serving)

    def _record_hidden(self, interface: Interface, named: Sequence[tuple[str, object]]) -> None:
        for name, each in named:
            if why := interfaces.hidden(each, interface):
                self._hidden[interface.service] = why
                _log.warning("%s: %s", name, why)

    @property
    def announced(self) -> dict[str, list[dict[str, str]]]:
        """The answer to the handshake: the names of objects by interface."""
        return {
            interface: [{"Name": name, "ProxyFor": ""} for name in sorted(serving.now())]
            for interface, serving in self._announced.items()
        }

    @property
    def _implemented(self) -> list[dict[str, str]]:
        """Every served interface, in every version that its clients may require."""
        served = [interface for interface in INTERFACES if interface.announced in self._announced]
        return [
            {"Name": interface.name or interface.service, "Version": version}
            for interface in served
            for version in (interface.version, *interface.earlier)
        ]

    def find(self, interface: Interface, address: str) -> Any:
        """Return the object that serves an interface under an address. Raises `NotFound`."""
        serving = self._announced.get(interface.announced)
        if serving is None:
            raise errors.NotFound(f"no object here serves {interface.announced}")
        return _select(serving.now(), address, interface)

    async def answer(self, body: bytes) -> bytes:
        """Return the reply; empty for a notification and for an invalid request."""
        try:
            body.decode()  # msgspec validates only what it decodes, and the reply repeats parts of the rest
            request = codec.decode(body, envelope.Request)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return b""
        reply = await self._execute(request)
        return b"" if request.is_notification else reply

    async def _execute(self, request: envelope.Request) -> bytes:
        if request.jsonrpc != "2.0":
            data = {"jsonrpc": request.jsonrpc, "method": request.method, "params": request.params, "id": request.id}
            return envelope.failure(request, failures.INVALID_REQUEST, "jsonrpc must be 2.0", data)
        if request.method in (HELLO, IMPLEMENTS):
            answer = {"Objects": self.announced} if request.method == HELLO else {"APIs": self._implemented}
            return envelope.result(request, msgspec.Raw(msgspec.json.encode(answer)))
        found = self._methods.get(request.method)
        if found is None:
            return envelope.failure(request, failures.APPLICATION_ERROR, self._missing(request.method))
        method, serving = found
        try:
            arguments, address = self._decode(method, bytes(request.params))
        except _TooDeep:
            message = f"params are nested deeper than {DEPTH_MAX} levels"
            return envelope.failure(request, failures.INVALID_REQUEST, message)
        except msgspec.MsgspecError as error:
            return envelope.failure(request, failures.INVALID_REQUEST, str(error), request.params)
        return await self._call(request, method, serving, arguments, address)

    def _decode(self, method: wire.Method, params: bytes) -> tuple[dict[str, Any], str]:
        """Decode parameters. Many instances are passed each second, nearly always the same: these are compared only."""
        newest = self._newest.get(method.wire)
        if newest is None or newest.params != params:
            if _too_deep(params):
                raise _TooDeep
            newest = _Decoded(params, *wire.arguments(method, method.decode(params)))
            if len(params) >= LARGE_BYTES and method.repeatable:
                self._newest[method.wire] = newest
        return dict(newest.arguments), newest.address

    async def _call(
        self,
        request: envelope.Request,
        method: wire.Method,
        serving: "_Serving",
        arguments: dict[str, Any],
        address: str,
    ) -> bytes:
        try:
            plugin = _select(serving.now(), address, method.interface)
            if "who" in arguments:
                arguments["who"] = caller.current().signed(arguments["who"])
            value = await getattr(plugin, method.name)(**arguments)
            return envelope.result(request, method.result(value, address, arguments))
        except errors.InfraKitError as error:
            data = failures.error_data(error)
            return envelope.failure(request, failures.APPLICATION_ERROR, failures.plain(str(error)), data)
        except Exception as error:  # a bug of ours or of a plugin: reply its message, log its traceback
            _log.exception("%s failed", method.wire)
            message = failures.plain(str(error)) or type(error).__name__
            return envelope.failure(request, failures.APPLICATION_ERROR, message)

    def _missing(self, name: str) -> str:
        if name.count(".") != 1:
            return f'rpc: service/method request ill-formed: "{name}"'
        if name.partition(".")[0] in self._hidden:
            return self._hidden[name.partition(".")[0]]
        services = {known.partition(".")[0] for known in (HELLO, *self._methods)}
        return f'rpc: can\'t find {"method" if name.partition(".")[0] in services else "service"} "{name}"'


class _Serving:
    """The objects that serve one interface."""

    def __init__(self, fixed: dict[str, Any]) -> None:
        self.fixed = fixed
        self._changing = [o for o in fixed.values() if hasattr(o, "aliases")]

    def now(self) -> Mapping[str, Any]:
        """Return the objects by every name that they currently have."""
        if not self._changing:
            return self.fixed
        return {name: o for o in self._changing for name in o.aliases()} | self.fixed


def _select(serving: Mapping[str, Any], address: str, interface: Interface) -> Any:
    """Return the object at an address, by the original's rules for the kind of address."""
    if interface.address == "Type":
        if (address or ".") in serving:
            return serving[address or "."]
        raise errors.NotFound(f"no-plugin:{address}")
    lookup, _, type_ = address.partition("/")
    only = next(iter(serving.values()))
    if (not type_ or lookup == ".") and all(each is only for each in serving.values()):
        return only
    first = lookup if type_ or lookup == "." else "."
    for key in (first, type_.partition("/")[2] or type_):
        if key in serving:
            return serving[key]
    raise errors.NotFound(f"not found: {address} (key={type_})")


def _too_deep(text: bytes) -> bool:
    """Whether a JSON text is nested deeper than DEPTH_MAX. Brackets in strings, as in scripts, do not count."""
    if text.count(b"[") + text.count(b"{") <= DEPTH_MAX:
        return False
    brackets = _STRING.sub(b"", text).translate(None, delete=_NO_BRACKETS)
    return max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEPTH_MAX
