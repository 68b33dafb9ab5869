"""Authentication at an address on TCP: the server's certificate, and the callers' certificates and tokens.

Certificates and tokens are reloaded every few seconds. A new certificate applies to new connections; a revoked token is
rejected at the next request, also on an open connection.
"""

import asyncio
import ssl
from pathlib import Path
from typing import NoReturn

from aiohttp import web

from infrakit.rpc import caller, tls
from infrakit.rpc.listen import Listen
from infrakit.rpc.reloaded import Reloaded
from infrakit.rpc.tokens import Tokens

RELOAD_S = 5.0  # interval between two checks of the files
# Headers that browsers send. Web pages are rejected: on loopback, they would need no credentials.
BROWSER = ("Origin", "Sec-Fetch-Site")


class Authenticator:
    """Authenticates the callers at one address. Raises `Refused` if a file is missing or invalid."""

    def __init__(self, listen: Listen) -> None:
        files, token_file = listen.tls, listen.token_file
        self._tls = self._tokens = None
        if files is not None:
            paths = [each for each in (files.cert, files.key, files.client_ca) if each]
            self._tls = Reloaded(paths, lambda: tls.server_context(files, optional=bool(token_file)))
        if token_file:
            self._tokens = Reloaded([token_file], lambda: Tokens(Path(token_file)))

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS context of the next connection; None for plain TCP."""
        return self._tls.value if self._tls is not None else None

    async def follow(self) -> NoReturn:
        """Reload the files whenever they change."""
        while True:
            await asyncio.sleep(RELOAD_S)
            for each in (self._tls, self._tokens):
                if each is not None:
                    await asyncio.to_thread(each.refresh)

    def refusal(self, request: web.BaseRequest) -> web.Response | None:
        """Return the rejection of a request regardless of its credentials, or None."""
        if any(name in request.headers for name in BROWSER):
            return web.Response(status=403, text="requests from browsers are rejected\n")
        return None

    def caller(self, request: web.BaseRequest) -> caller.Caller | None:
        """Return the authenticated caller; None if the required credentials are missing or invalid."""
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        if certificate:  # verified by the TLS handshake
            return caller.Caller(tls.name_of(certificate), "certificate")
        if self._tokens is None:
            return caller.Caller()
        name = self._tokens.value.name(request.headers.get("Authorization", ""))
        return caller.Caller(name, "token") if name else None
