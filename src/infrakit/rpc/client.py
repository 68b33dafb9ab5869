"""Clients that satisfy the Protocols of the plugins they call: controllers handle local and remote plugins alike.

`connect` requests the list of served interfaces (the handshake) and returns an object with the methods of the required
interface and of the extensions that the plugin serves. A new connection repeats the handshake, because another process
may answer.
"""

import asyncio
import functools
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from infrakit.rpc import failures, interfaces, wire
from infrakit.rpc.interfaces import Interface
from infrakit.rpc.transport import Broken, Transport, opened
from infrakit.rpc.unchanged import KnownAnswers
from infrakit.spi import codec, errors
from infrakit.spi.event import Event
from infrakit.spi.group import seconds
from infrakit.spi.instance import Watches
from infrakit.spi.values import wire_name

ANSWER_S = 15.0  # timeout of repeatable calls; the original's default
ACT_S = 600.0  # timeout of all other calls; callers set shorter ones
HELLO = "Handshake.Hello"

_ids = itertools.count(1)


class Remote:
    """A plugin in another process. Its methods are those of the interfaces that the plugin serves; see `connect`."""

    def __init__(self, transport: Transport, name: str, interface: Interface) -> None:
        self._transport = transport
        self._name = name
        self._interface = interface
        self._handshake_at = -1  # the incarnation of the last handshake
        self._handshake_lock = asyncio.Lock()
        self._known_answers = KnownAnswers()

    def __repr__(self) -> str:
        return f"<{self._interface.service} {self._name} at {self._transport.address}>"

    async def close(self) -> None:
        """Close the connections to the plugin."""
        await self._transport.close()

    @property
    def incarnation(self) -> int:
        """Identifies the connected process: a new number may be another process, with other capabilities."""
        return self._transport.incarnation

    async def handshake(self) -> Mapping[str, list[str]]:
        """Send the handshake, and change the class of this object to the Protocols that the plugin serves now.

        Raises `Unreachable`, and `Refused` if the plugin does not serve our interface.
        """
        try:
            served = await hello(self._transport, self._name)
        except errors.OutcomeUnknown as error:  # a handshake changes nothing
            raise errors.Unreachable(error.what, where=error.where, remedy=error.remedy) from None
        _check(served, self._interface, self._name)
        self._handshake_at = self.incarnation
        protocol = self._interface.protocol
        extended = [e.protocol for e in interfaces.extensions(protocol) if _is_served(served, e, self._name)]
        self.__class__ = _class((protocol, *extended))
        return served

    async def _call(self, method: wire.Method, arguments: Mapping[str, Any]) -> Any:
        if self._handshake_at != self.incarnation:
            async with self._handshake_lock:
                if self._handshake_at != self.incarnation:
                    await self.handshake()
        params = {wire_name(name): value for name, value in arguments.items()}
        if method.interface.address == "Type":
            params["Type"] = self._name.partition("/")[2]
        elif method.interface.address:
            params[method.interface.address] = self._name
        if method.repeatable:
            known = self._known_answers.of(method, params)
            read = method.read if known is None else known.read
            return await _send_repeatable(self._transport, self._name, method.wire, params, read)
        return await exchange(
            self._transport, self._name, method.wire, params, method.read, deadline_s=ACT_S, may_wait=method.may_wait
        )


async def connect(protocol: type, name: str, address: str) -> Any:
    """Return an object that satisfies `protocol` and those of its extensions that the plugin serves under this name.

    Raises `Unreachable`, `OutcomeUnknown` if the plugin does not answer, `NotFound` if it has no object of that type,
    and `Refused` if it does not serve that interface in our version.
    """
    interface = interfaces.of(protocol)
    remote = Remote(Transport(address), name, interface)
    try:
        await remote.handshake()
    except BaseException:
        await remote.close()
        raise
    return remote


async def events(address: str, *, quiet_s: float) -> AsyncIterator[Event]:
    """Yield every event of a daemon's journal from its beginning, then each new one until the connection breaks.

    `quiet_s`: see `Transport.lines`. Raises `Unreachable`.
    """
    async with opened(address) as transport:
        try:
            async for line in transport.lines("/events?since=0&follow=true", quiet_s=quiet_s):
                yield codec.decode(line, Event)
        except msgspec.MsgspecError as error:
            raise errors.Unreachable(f"invalid event: {error}", where=address) from None


async def hello(transport: Transport, name: str) -> Mapping[str, list[str]]:
    """Return the names of objects by interface, as a plugin announces them."""
    served: Mapping[str, list[str]] = await _send_repeatable(transport, name, HELLO, {}, wire.read_hello)
    return served


def _is_served(served: Mapping[str, Sequence[str]], interface: Interface, name: str) -> bool:
    """Whether the object of that name serves the interface; other objects at the same socket may serve more."""
    type_ = name.partition("/")[2] or "."
    return interface.announced in served and (interface.address != "Type" or type_ in served[interface.announced])


def _check(served: Mapping[str, Sequence[str]], interface: Interface, name: str) -> None:
    if interface.announced not in served:
        kind = f"{interface.announced.partition('/')[0]}/"
        others = sorted(each for each in served if each.startswith(kind))
        what = f"it serves {', '.join(others)}, and {interface.announced} is needed" if others else ""
        what = what or f"it does not serve {interface.announced}, but {', '.join(sorted(served)) or 'nothing'}"
        raise errors.Refused(what, where=name, remedy="run a plugin of that kind and version")
    names = served[interface.announced]
    if not _is_served(served, interface, name):
        lookup = name.partition("/")[0]
        known = ", ".join(lookup if each == "." else f"{lookup}/{each}" for each in names)
        raise errors.NotFound(f"it does not serve {name}", where=name, remedy=f"it serves: {known}")


async def _send_repeatable(
    transport: Transport, name: str, method: str, params: Mapping[str, Any], read: Callable[[bytes], wire.Answer]
) -> Any:
    """Send a repeatable request; if the connection breaks, retry it once on a new connection."""
    try:
        return await exchange(transport, name, method, params, read, deadline_s=_timeout_s(), may_wait=True)
    except Broken:
        return await exchange(transport, name, method, params, read, deadline_s=_timeout_s(), may_wait=True)


async def exchange(
    transport: Transport,
    name: str,
    method: str,
    params: Mapping[str, Any],
    read: Callable[[bytes], wire.Answer],
    *,
    deadline_s: float,
    may_wait: bool = False,
    id_: int | None = None,
) -> Any:
    """Send one request and return the result. Raises the plugin's error, with its name and the method.

    `may_wait`: see `Transport.post`.
    """
    where, id_ = f"{name} {method}", next(_ids) if id_ is None else id_
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": id_})
    try:
        answer = await transport.post(body, deadline_s=deadline_s, may_wait=may_wait)
    except (errors.Unreachable, errors.OutcomeUnknown) as error:
        raise type(error)(error.what, where=f"{where} at {error.where}", remedy=error.remedy) from None
    try:
        reply = read(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        shown = answer[:200].decode(errors="replace").strip()
        raise errors.PluginError(f"invalid response ({error}): {shown!r}", where=where) from None
    if reply.id is not None and reply.id != id_:
        raise errors.OutcomeUnknown("the response belongs to another request", where=where)
    if reply.error is not None:
        raise _with_place(failures.error(reply.error.message, reply.error.error_data()), where)
    return reply.value


def _with_place(error: errors.InfraKitError, where: str) -> errors.InfraKitError:
    error.where = f"{where}: {error.where}" if error.where else where
    return error


@functools.cache
def _timeout_s() -> float:
    text = os.environ.get("INFRAKIT_CLIENT_TIMEOUT", "")
    return seconds(text) or ANSWER_S


@functools.cache
def _class(protocols: tuple[type, ...]) -> type[Remote]:
    """Return a subclass of `Remote` with the methods of these Protocols: `isinstance` finds what the plugin serves."""
    members: dict[str, Any] = {
        method.name: _stub(method) for each in protocols for method in wire.methods(interfaces.of(each))
    }
    if Watches in protocols:
        members["watch"] = _watch
    return type("Remote", (Remote,), members)


def _stub(method: wire.Method) -> Callable[..., Awaitable[Any]]:
    async def call(self: Remote, **arguments: Any) -> Any:
        return await self._call(method, arguments)

    call.__name__ = method.name
    return call


async def _watch(self: Remote) -> AsyncIterator[str]:
    query = urlencode({"type": self._name.partition("/")[2]})
    async for line in self._transport.lines(f"/watch?{query}"):
        yield codec.decode(line, str)
