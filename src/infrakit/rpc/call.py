"""Synchronous calls for the command line, with the standard library only."""

import http.client
import itertools
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from infrakit.rpc import dial, failures, wire
from infrakit.rpc.dial import Target
from infrakit.rpc.discovery import NotRunning
from infrakit.spi import codec, errors
from infrakit.spi.event import Event
from infrakit.spi.values import GroupID, wire_name

T = TypeVar("T")

TIMEOUT_S = 15.0
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
HELLO_S = 5.0
TEXT_BYTES_MAX = 1000  # limit of a response that is not JSON-RPC

_NOT_CARRIED_OUT = (*range(400, 500), http.client.SERVICE_UNAVAILABLE)  # HTTP status of a request that was refused

_ids = itertools.count(1)


def call(path: Target, method: Callable[..., Awaitable[T]], /, timeout_s: float = TIMEOUT_S, **params: Any) -> T:
    """Call a Protocol's method at a socket: `call(path, Manager.scale, group=..., size=3, ...)`.

    Raises the error that the method raised there, `NotRunning` if no daemon answers, and `OutcomeUnknown` if the
    response is missing.
    """
    described = wire.method(method)
    request = {
        "jsonrpc": "2.0",
        "method": described.wire,
        "params": {wire_name(name): value for name, value in params.items()},
        "id": next(_ids),
    }
    status, body = _post(path, msgspec.json.encode(request), timeout_s)
    try:
        reply = described.read(body)
        if reply.error is not None:
            raise failures.error(reply.error.message, reply.error.error_data())
        value: T = reply.value
    except UNREADABLE as error:
        if status in _NOT_CARRIED_OUT:
            raise errors.Refused(_text(body), where=_where(path)) from None
        raise errors.PluginError(f"invalid response: {error}", where=_where(path)) from None
    return value


def hello(path: Target) -> dict[str, list[str]]:
    """Return the names of objects by interface, as the process at this address announces them. Raises `NotRunning`."""
    request = {"jsonrpc": "2.0", "method": "Handshake.Hello", "params": {}, "id": next(_ids)}
    try:
        _, body = _post(path, msgspec.json.encode(request), HELLO_S)
        reply = wire.read_hello(body)
        if reply.error is not None:
            raise failures.error(reply.error.message, reply.error.error_data())
        served: dict[str, list[str]] = reply.value
    except (errors.OutcomeUnknown, *UNREADABLE) as error:
        raise NotRunning(f"the process that listens there does not answer: {error}", where=_where(path)) from None
    return served


def _post(path: Target, body: bytes, timeout_s: float) -> tuple[int, bytes]:
    connection = dial.dial(path, timeout_s=timeout_s)
    try:
        connection.request("POST", f"{dial.prefix(path)}/", body, dial.headers(path))
        response = connection.getresponse()
        return response.status, response.read()
    except TimeoutError:
        raise errors.OutcomeUnknown(f"no answer within {timeout_s:.0f} s", where=_where(path)) from None
    except (OSError, http.client.HTTPException) as error:
        raise errors.OutcomeUnknown(f"the connection broke: {_reason(error)}", where=_where(path)) from None
    finally:
        connection.close()


def events(path: Target, *, since: int | None, group: GroupID | None, follow: bool) -> Generator[Event, None, None]:
    """Yield the journal's events after `since` (None: from now on); with `follow`, also new ones until closed."""
    query = {"follow": "true" if follow else "false"}
    if since is not None:
        query["since"] = str(since)
    if group is not None:
        query["group"] = group
    connection = dial.dial(path, timeout_s=TIMEOUT_S * 4)
    try:
        connection.request("GET", f"{dial.prefix(path)}/events?{urlencode(query)}", headers=dial.headers(path))
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise errors.Refused(_text(response.read(TEXT_BYTES_MAX)), where=_where(path))
        for line in response:
            if line.startswith(b"data:"):
                yield codec.decode(line[5:], Event)
    except (OSError, http.client.HTTPException) as error:
        raise NotRunning(f"lost the connection to the daemon: {_reason(error)}", where=_where(path)) from None
    finally:
        connection.close()


def _text(body: bytes) -> str:
    return body[:TEXT_BYTES_MAX].decode(errors="replace").strip()


def _where(path: Target) -> str:
    """Return the target for messages; a path is absolute, so that it is valid in every directory."""
    return str(path.absolute() if isinstance(path, Path) else path)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
