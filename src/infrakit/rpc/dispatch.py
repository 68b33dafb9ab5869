"""From a request's bytes to a reply's: find the method, decode, call, encode. Never raises, shows no traceback."""

import itertools
import logging
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from infrakit.rpc import envelope, wire
from infrakit.spi import errors

DEPTH_MAX = 200  # of nesting in a request's params
HELLO = "Handshake.Hello"

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(_STEPS))

_log = logging.getLogger(__name__)


class Dispatcher:
    """Objects by name, each serving every interface that it satisfies. The default object is called `.`."""

    def __init__(self, objects: Mapping[str, object]) -> None:
        self._methods: dict[str, tuple[wire.Method, dict[str, object]]] = {}
        self.announced: dict[str, list[dict[str, str]]] = {}
        for interface in wire.INTERFACES:
            serving = {name: o for name, o in objects.items() if isinstance(o, interface.protocol)}
            if serving:
                self.announced[interface.announced] = [{"Name": name, "ProxyFor": ""} for name in sorted(serving)]
                for method in wire.methods(interface):
                    self._methods[method.wire] = (method, serving)

    async def answer(self, body: bytes) -> bytes:
        """The reply, or nothing for a notification and for what is no request at all."""
        try:
            request = msgspec.json.decode(body, type=envelope.Request)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return b""
        reply = await self._execute(request)
        return b"" if request.is_notification else reply

    async def _execute(self, request: envelope.Request) -> bytes:
        if request.jsonrpc != "2.0":
            data = {"jsonrpc": request.jsonrpc, "method": request.method, "params": request.params, "id": request.id}
            return envelope.failure(request, wire.INVALID_REQUEST, "jsonrpc must be 2.0", data)
        if request.method == HELLO:
            return envelope.result(request, msgspec.Raw(msgspec.json.encode({"Objects": self.announced})))
        found = self._methods.get(request.method)
        if found is None:
            return envelope.failure(request, wire.APPLICATION_ERROR, self._missing(request.method))
        method, serving = found
        if _too_deep(bytes(request.params)):
            words = f"params are nested deeper than {DEPTH_MAX} levels"
            return envelope.failure(request, wire.INVALID_REQUEST, words)
        try:
            arguments, address = wire.arguments(method, method.decode(request.params))
        except msgspec.MsgspecError as error:
            return envelope.failure(request, wire.INVALID_REQUEST, str(error), request.params)
        return await self._call(request, method, serving, arguments, address)

    async def _call(
        self,
        request: envelope.Request,
        method: wire.Method,
        serving: dict[str, object],
        arguments: dict[str, Any],
        address: str,
    ) -> bytes:
        try:
            plugin = _select(serving, address, method.interface)
            value = await getattr(plugin, method.name)(**arguments)
            return envelope.result(request, method.result(value, address, arguments))
        except errors.InfraKitError as error:
            data = wire.error_data(error)
            return envelope.failure(request, wire.APPLICATION_ERROR, wire.plain(str(error)), data)
        except Exception as error:  # a fault of ours or of a plugin: told in its words, its traceback goes to the log
            _log.exception("%s failed", method.wire)
            words = wire.plain(str(error)) or type(error).__name__
            return envelope.failure(request, wire.APPLICATION_ERROR, words)

    def _missing(self, name: str) -> str:
        if name.count(".") != 1:
            return f'rpc: service/method request ill-formed: "{name}"'
        services = {known.partition(".")[0] for known in (HELLO, *self._methods)}
        return f'rpc: can\'t find {"method" if name.partition(".")[0] in services else "service"} "{name}"'


def _select(serving: dict[str, object], address: str, interface: wire.Interface) -> object:
    """The object that an address names, by the rules of the original for its kind of address."""
    if interface.address == "Type":
        if (address or ".") in serving:
            return serving[address or "."]
        raise errors.NotFound(f"no-plugin:{address}")
    lookup, _, type_ = address.partition("/")
    if len(serving) == 1 and (not type_ or lookup == "."):
        return next(iter(serving.values()))
    first = lookup if type_ or lookup == "." else "."
    for key in (first, type_.partition("/")[2] or type_):
        if key in serving:
            return serving[key]
    raise errors.NotFound(f"not found: {address} (key={type_})")


def _too_deep(text: bytes) -> bool:
    """Whether a JSON text is nested beyond reason. Brackets inside strings do not count: scripts are full of them."""
    if text.count(b"[") + text.count(b"{") <= DEPTH_MAX:
        return False
    brackets = _STRING.sub(b"", text).translate(None, delete=_NO_BRACKETS)
    return max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEPTH_MAX
