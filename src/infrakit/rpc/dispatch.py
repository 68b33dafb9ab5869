"""From a request's bytes to a reply's: find the method, decode, call, encode. Never raises, shows no traceback."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from infrakit.rpc import envelope, wire
from infrakit.spi import errors

DEPTH_MAX = 200  # of nesting in a request

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
            if _depth(body) > DEPTH_MAX:
                return b""
            request = msgspec.json.decode(body, type=envelope.Request)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return b""
        reply = await self._execute(request)
        return b"" if request.is_notification else reply

    async def _execute(self, request: envelope.Request) -> bytes:
        if request.jsonrpc != "2.0":
            data = {"jsonrpc": request.jsonrpc, "method": request.method, "params": request.params, "id": request.id}
            return envelope.failure(request, wire.INVALID_REQUEST, "jsonrpc must be 2.0", data)
        if request.method == "Handshake.Hello":
            return envelope.result(request, msgspec.Raw(msgspec.json.encode({"Objects": self.announced})))
        found = self._methods.get(request.method)
        if found is None:
            return envelope.failure(request, wire.APPLICATION_ERROR, self._missing(request.method))
        method, serving = found
        try:
            arguments, address = wire.arguments(method, method.decode(bytes(request.params)))
        except (msgspec.MsgspecError, RecursionError) as error:
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
            return envelope.result(request, method.result(value, address))
        except errors.InfraKitError as error:
            return envelope.failure(request, wire.APPLICATION_ERROR, str(error), wire.error_data(error))
        except Exception as error:  # a fault of ours or of a plugin: told in its words, its traceback goes to the log
            _log.exception("%s failed", method.wire)
            return envelope.failure(request, wire.APPLICATION_ERROR, str(error) or type(error).__name__)

    def _missing(self, name: str) -> str:
        if "." not in name:
            return f'rpc: service/method request ill-formed: "{name}"'
        service = name.partition(".")[0]
        known = any(other.startswith(f"{service}.") for other in self._methods)
        return f'rpc: can\'t find {"method" if known else "service"} "{name}"'


def _select(serving: dict[str, object], address: str, interface: wire.Interface) -> object:
    """The object that an address names, by the rules of the original for its kind of address."""
    if interface.address == "Type":
        if (address or ".") in serving:
            return serving[address or "."]
        raise errors.NotFound(f"no-plugin:{address}")
    lookup, _, type_ = address.partition("/")
    if len(serving) == 1 and (not type_ or lookup == "."):
        return next(iter(serving.values()))
    for key in (type_ or ".", lookup, type_.rpartition("/")[2]):
        if key in serving:
            return serving[key]
    raise errors.NotFound(f"not found: {address} (key={type_})")


def _depth(body: bytes) -> int:
    """How deeply a text may be nested at the most; brackets inside strings count too, which errs on the safe side."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX:
        return 0
    depth = deepest = 0
    for byte in body:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
