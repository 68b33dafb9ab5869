"""A connection for one call of the command line: to a unix socket, or over TCP with or without TLS.

Over TLS the server is greeted before it is given anything to do. A server that does not accept our certificate says so
after the handshake, by ending the connection: a greeting that fails has done nothing, and an order would leave open
whether it was carried out.
"""

import http.client
import socket
import ssl  # http.client imports it in any case
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from infrakit.rpc import discovery
from infrakit.rpc.discovery import NotRunning
from infrakit.rpc.remotes import Remote

REMEDY = "start it with: infrakit up FILE, or set INFRAKIT_HOME to the home of one that runs"
NOT_ALLOWED = "the socket is another user's: ask as that one, or with sudo"
EXPLAIN_S = 2.0  # for asking a server once more, only to tell what is wrong with its certificate

_NOT_VALID_NOW = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_ANOTHER_HOST = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH

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
    """An open connection. Raises `NotRunning`: nothing was asked; `Refused` for files of ours that are wrong."""
    if isinstance(target, Path):
        return _dial_unix(target, timeout_s)
    shown = headers(target)
    connection = _tcp(target, timeout_s)
    stage = "connecting"
    try:
        connection.connect()
        if isinstance(connection, http.client.HTTPSConnection):
            stage = "greeting"
            connection.request("GET", f"{prefix(target)}/health", headers=shown)
            connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:  # TLS errors too
        connection.close()
        _fail(target, error, turned_away=stage == "greeting" or _is_about_us(error))
    return connection


def headers(target: Target) -> dict[str, str]:
    """What every request carries. Raises `Refused` rather than send a token that others could read on its way."""
    token = target.token() if isinstance(target, Remote) else ""
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})


def prefix(target: Target) -> str:
    """What stands before every path: a URL may lead into somebody's tree."""
    return "" if isinstance(target, Path) else urlsplit(target.url).path.rstrip("/")


def _dial_unix(path: Path, timeout_s: float) -> http.client.HTTPConnection:
    discovery.check_length(path)
    connection = _Unix(path, timeout_s=timeout_s)
    try:
        connection.connect()
    except OSError as error:
        connection.close()
        remedy = NOT_ALLOWED if isinstance(error, PermissionError) else REMEDY
        raise NotRunning(f"no daemon answers at {path.absolute()} ({error.strerror or error})", remedy=remedy) from None
    return connection


def _tcp(remote: Remote, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(remote.url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    from infrakit.rpc import tls

    context = tls.client_context(ca=remote.ca, cert=remote.cert, key=remote.key)
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


def _fail(remote: Remote, error: Exception, *, turned_away: bool) -> NoReturn:
    if isinstance(error, ssl.SSLCertVerificationError):
        what, remedy = _its_certificate(remote, error)
    elif turned_away and not isinstance(error, TimeoutError):
        what, remedy = _our_certificate(remote)
    elif isinstance(error, ssl.SSLError):
        what, remedy = f"it does not speak TLS as we do ({error.reason or error})", "see whether its URL is right"
    else:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        what = f"it cannot be reached ({words})"
        remedy = "see whether it runs with --listen; for the daemon of this machine: infrakit remote use local"
    raise NotRunning(what, where=f"remote {remote}", remedy=remedy) from None


def _is_about_us(error: Exception) -> bool:
    """Whether the server's last words (TLS 1.2 has them in the handshake) are about what we have shown."""
    reason = getattr(error, "reason", None) or ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def _its_certificate(remote: Remote, error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    """What is wrong with what the server shows, and who mends it."""
    if error.verify_code in _NOT_VALID_NOW:
        when = _of_server(remote) or error.verify_message
        return f"the server's certificate {when}", "renew it there, in the file of --tls-cert, or set the clock right"
    if error.verify_code in _ANOTHER_HOST:
        return f"the server's certificate is another host's: {error.verify_message}", "use a name that it was made for"
    trusted = remote.ca or "what this system trusts"
    remedy = "give the certificate of its authority: infrakit remote add NAME URL --ca FILE"
    return f"the server's certificate is not signed by {trusted} ({error.verify_message})", remedy


def _of_server(remote: Remote) -> str:
    """When the server's certificate is valid. It is looked at on a connection of its own, that nothing is sent over."""
    from infrakit.rpc import validity

    parts = urlsplit(remote.url)
    try:
        shown = ssl.get_server_certificate((parts.hostname or "", parts.port or 443), timeout=EXPLAIN_S)
    except OSError:
        return ""
    return validity.of(ssl.PEM_cert_to_DER_cert(shown))


def _our_certificate(remote: Remote) -> tuple[str, str]:
    """Why a server that has proven itself ends the connection without an answer."""
    if not remote.cert:
        words = "the server ended the connection, as one does that wants a certificate and is shown none"
        return words, "give it yours: infrakit remote add NAME URL --cert FILE --key FILE"
    from infrakit.rpc import validity

    when = validity.of_file(remote.cert)
    if when:
        return f"the server ended the connection: our certificate {remote.cert} {when}", "renew it"
    words = f"the server ended the connection: it seems not to accept our certificate {remote.cert}"
    return words, "see whether the authority that the server trusts (--tls-client-ca) has signed it"
