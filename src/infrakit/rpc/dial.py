"""Opens a connection for one call of the command line: to a unix socket, or over TCP with or without TLS.

Over TCP, a health request precedes the call. A server that does not accept our certificate closes the connection only
after the TLS handshake: when the health request fails, nothing was done, whereas the outcome of a command would be
unknown.
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

REMEDY = (
    "infrakit up starts it with the last declaration, infrakit up FILE with another; "
    "or set INFRAKIT_HOME to the home of a running one"
)
NOT_ALLOWED = "the socket belongs to another user: run the command as that user, or with sudo"
EXPLAIN_S = 2.0  # for a second connection, to explain what is wrong with the server's certificate

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
    """Open a connection. Raises `NotRunning` (no call was sent), or `Refused` if a credentials file is invalid."""
    if isinstance(target, Path):
        return _dial_unix(target, timeout_s)
    sent_headers = headers(target)
    connection = _tcp(target, timeout_s)
    stage = "connecting"
    try:
        connection.connect()
        if isinstance(connection, http.client.HTTPSConnection):
            stage = "health"
            connection.request("GET", f"{prefix(target)}/health", headers=sent_headers)
            connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:  # TLS errors too
        connection.close()
        _fail(target, error, rejected=stage == "health" or _is_about_client_certificate(error))
    return connection


def headers(target: Target) -> dict[str, str]:
    """Return the headers of every request. Raises `Refused` rather than send a token in clear over a network."""
    token = target.token() if isinstance(target, Remote) else ""
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})


def prefix(target: Target) -> str:
    """Return the prefix of every path: a URL may have a path of its own, as behind a reverse proxy."""
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


def _fail(remote: Remote, error: Exception, *, rejected: bool) -> NoReturn:
    if isinstance(error, ssl.SSLCertVerificationError):
        what, remedy = _explain_server_certificate(remote, error)
    elif rejected and not isinstance(error, TimeoutError):
        what, remedy = _explain_client_certificate(remote)
    elif isinstance(error, ssl.SSLError):
        what, remedy = f"the TLS handshake failed ({error.reason or error})", "check the URL"
    else:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        what = f"it cannot be reached ({reason})"
        remedy = "check that it runs with --listen; for the daemon of this machine: infrakit remote use local"
    raise NotRunning(what, where=f"remote {remote}", remedy=remedy) from None


def _is_about_client_certificate(error: Exception) -> bool:
    """Whether the server's TLS alert (in TLS 1.2 part of the handshake) is about our certificate."""
    reason = getattr(error, "reason", None) or ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def _explain_server_certificate(remote: Remote, error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    """Explain what is wrong with the server's certificate, and the remedy."""
    if error.verify_code in _NOT_VALID_NOW:
        when = _server_validity(remote) or error.verify_message
        return f"the server's certificate {when}", "renew the file of --tls-cert on the server, or correct the clock"
    if error.verify_code in _ANOTHER_HOST:
        what = f"the server's certificate is for another host: {error.verify_message}"
        return what, "use a name that it was issued for"
    trusted = remote.ca or "an authority that this system trusts"
    remedy = "pass the certificate of its authority: infrakit remote add NAME URL --ca FILE"
    return f"the server's certificate is not signed by {trusted} ({error.verify_message})", remedy


def _server_validity(remote: Remote) -> str:
    """Return when the server's certificate is valid. It is read over a second connection, on which nothing is sent."""
    from infrakit.rpc import validity

    parts = urlsplit(remote.url)
    try:
        certificate = ssl.get_server_certificate((parts.hostname or "", parts.port or 443), timeout=EXPLAIN_S)
    except OSError:
        return ""
    return validity.of(ssl.PEM_cert_to_DER_cert(certificate))


def _explain_client_certificate(remote: Remote) -> tuple[str, str]:
    """Explain why a server with a valid certificate closed the connection without a response, and the remedy."""
    if not remote.cert:
        reason = "the server closed the connection; it probably requires a client certificate"
        return reason, "pass yours: infrakit remote add NAME URL --cert FILE --key FILE"
    from infrakit.rpc import validity

    when = validity.of_file(remote.cert)
    if when:
        return f"the server closed the connection: our certificate {remote.cert} {when}", "renew it"
    reason = f"the server closed the connection: it probably rejected our certificate {remote.cert}"
    return reason, "check that the authority that the server trusts (--tls-client-ca) has signed it"
