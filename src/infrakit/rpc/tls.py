"""TLS for servers and clients: contexts from files, certificates that are renewed while they are used, and errors in
words that say which side has to mend what.
"""

import asyncio
import logging
import os
import ssl
from pathlib import Path
from typing import Any

import msgspec

from infrakit.spi.errors import Refused

RELOAD_S = 5.0  # between two looks at the files of a certificate
CA_VARIABLE = "INFRAKIT_TLS_CA"
CERT_VARIABLE = "INFRAKIT_TLS_CERT"
KEY_VARIABLE = "INFRAKIT_TLS_KEY"

_log = logging.getLogger(__name__)


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """What a server shows, and whose certificates it accepts: paths of PEM files."""

    cert: str
    key: str
    client_ca: str = ""  # none: clients show no certificate


def server_context(files: Files, *, optional: bool = False) -> ssl.SSLContext:
    """TLS 1.2 or newer. With `optional`, clients may do without a certificate. Raises `Refused` naming the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, files.cert, files.key)
    if files.client_ca:
        context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
        _trust(context, files.client_ca)
    return context


def client_context(*, ca: str = "", cert: str = "", key: str = "") -> ssl.SSLContext:
    """Trusts `ca`, or what the system trusts, and shows `cert` if there is one. Raises `Refused` naming the file."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _trust(context, ca)
    if cert:
        _load(context, cert, key or cert)
    return context


def client_context_of_environment() -> ssl.SSLContext:
    """For plugins on other machines: `$INFRAKIT_TLS_CA`, `$INFRAKIT_TLS_CERT`, `$INFRAKIT_TLS_KEY`."""
    ca, cert, key = (os.environ.get(name, "") for name in (CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE))
    return client_context(ca=ca, cert=cert, key=key)


async def renew(context: ssl.SSLContext, files: Files) -> None:
    """Load the certificate anew whenever its files change, for ever. A broken one is told, the old one kept."""
    seen = await asyncio.to_thread(_state, files)
    while True:
        await asyncio.sleep(RELOAD_S)
        now = await asyncio.to_thread(_state, files)
        if now == seen:
            continue
        seen = now
        try:
            await asyncio.to_thread(server_context, files)  # as a whole, before anything of it is used
            context.load_cert_chain(files.cert, files.key)
            _log.info("the certificate %s was renewed", files.cert)
        except (Refused, OSError) as error:
            _log.error("the old certificate is kept: %s", error)


def name_of(certificate: Any) -> str:
    """The common name of a peer's certificate, as `getpeercert` returns it; else its first alternative name."""
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    alternatives = (certificate or {}).get("subjectAltName", ())
    return str(alternatives[0][1]) if alternatives else ""


def explain(error: OSError) -> str:
    """An error of a connection in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted here: {error.verify_message}; see the CA that was given for it"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").replace("_", " ").lower()
        if "certificate" in reason or "unknown ca" in reason:
            return f"it does not accept our certificate ({reason}); see --cert and --key"
        return f"no TLS with it: {reason or error}"
    return error.strerror or str(error) or type(error).__name__


def _load(context: ssl.SSLContext, cert: str, key: str) -> None:
    try:
        context.load_cert_chain(cert, key)
    except FileNotFoundError as error:
        missing = cert if not Path(cert).exists() else key
        raise Refused(f"{error.strerror}", where=missing) from None
    except (ssl.SSLError, OSError) as error:
        raise Refused(f"no certificate with its key: {error}", where=f"{cert}, {key}") from None


def _trust(context: ssl.SSLContext, ca: str) -> None:
    try:
        context.load_verify_locations(ca)
    except (ssl.SSLError, OSError) as error:
        raise Refused(f"no certificates of an authority: {error}", where=ca) from None


def _state(files: Files) -> list[tuple[int, int]]:
    found = []
    for each in (files.cert, files.key):
        try:
            status = Path(each).stat()
            found.append((status.st_mtime_ns, status.st_size))
        except OSError:
            found.append((0, 0))
    return found
