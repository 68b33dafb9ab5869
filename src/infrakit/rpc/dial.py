"""A connection for one call of the command line: to a unix socket, or over TCP with or without TLS."""

import http.client
import socket
from pathlib import Path
from urllib.parse import urlsplit

from infrakit.rpc import discovery
from infrakit.rpc.remotes import Remote
from infrakit.spi import errors

REMEDY = "start it with: infrakit up FILE"

Target = Path | Remote


class _Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        super().__init__("infrakit", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def dial(target: Target, *, timeout_s: float) -> http.client.HTTPConnection:
    """An open connection. Raises `Unreachable`: nothing was asked."""
    connection = _connection(target, timeout_s)
    try:
        connection.connect()
    except OSError as error:  # TLS errors too
        connection.close()
        what, remedy = _failure(target, error)
        raise errors.Unreachable(what, remedy=remedy) from None
    return connection


def headers(target: Target) -> dict[str, str]:
    """What every request carries."""
    token = target.token() if isinstance(target, Remote) else ""
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})


def _connection(target: Target, timeout_s: float) -> http.client.HTTPConnection:
    if isinstance(target, Path):
        discovery.check_length(target)
        return _Unix(target, timeout_s=timeout_s)
    parts = urlsplit(target.url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    from infrakit.rpc import tls

    context = tls.client_context(ca=target.ca, cert=target.cert, key=target.key)
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


def _failure(target: Target, error: OSError) -> tuple[str, str]:
    if isinstance(target, Path):
        return f"no daemon answers at {target} ({error.strerror or error})", REMEDY
    from infrakit.rpc import tls

    return f"the remote {target} cannot be reached: {tls.explain(error)}", "see: infrakit remote ls"
