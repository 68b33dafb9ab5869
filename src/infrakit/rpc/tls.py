"""TLS contexts for servers and clients, created from files. Errors name the file to fix."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from infrakit.spi.errors import Refused

NAME_MAX = 200  # length limit of a caller's name


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """A server's certificate and key, and the CA of the client certificates that it accepts: paths of PEM files."""

    cert: str
    key: str
    client_ca: str = ""  # empty: no client certificates


def server_context(files: Files, *, optional: bool = False) -> ssl.SSLContext:
    """Create a context for TLS 1.2 or newer. With `optional`, client certificates are optional. Raises `Refused`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, files.cert, files.key)
    if files.client_ca:
        context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
        _load_ca(context, files.client_ca)
    return context


def client_context(*, ca: str = "", cert: str = "", key: str = "") -> ssl.SSLContext:
    """Create a context that trusts `ca` (default: the system's CAs) and presents `cert`, if any. Raises `Refused`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca:
        _load_ca(context, ca)
    else:
        context.load_default_certs()
    if cert:
        _load_certificate(context, cert, key or cert)
    return context


def name_of(certificate: dict[str, Any]) -> str:
    """Return the subject of a certificate from `getpeercert`: common name, alternative name, or serial number.

    Unprintable characters are removed, because the name appears in histories and terminals.
    """
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    alternatives = [value for _, value in certificate.get("subjectAltName", ())]
    number = f"number {certificate.get('serialNumber', 'unknown')}"
    name = str([*common, *alternatives, number][0])
    return "".join(filter(str.isprintable, name)).strip()[:NAME_MAX] or number


def _load_certificate(context: ssl.SSLContext, cert: str, key: str) -> None:
    for what, file in (("the certificate", cert), ("the key", key)):
        _check_readable(what, file)
    try:
        context.load_cert_chain(cert, key, password=_no_password(key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Refused(f"the key does not match the certificate {cert}", where=key) from None
        what, file = ("key", key) if b"BEGIN CERTIFICATE" in Path(cert).read_bytes() else ("certificate", cert)
        raise Refused(f"the file holds no readable {what} (PEM)", where=file) from None


def _load_ca(context: ssl.SSLContext, ca: str) -> None:
    _check_readable("the CA certificates", ca)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise Refused("the file holds no CA certificates (PEM)", where=ca) from None


def _check_readable(what: str, file: str) -> None:
    try:
        Path(file).open("rb").close()
    except OSError as error:
        raise Refused(f"{what} cannot be read: {error.strerror}", where=file) from None


def _no_password(key: str) -> Callable[[], str]:
    """Refuse an encrypted key; OpenSSL would prompt at the terminal, and a daemon would hang."""

    def refuse() -> str:
        raise Refused(
            "the key is encrypted; a daemon cannot prompt for a password", where=key, remedy="decrypt the file"
        )

    return refuse
