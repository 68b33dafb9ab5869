"""Who may speak at an address on TCP: what is shown to them, and what they have to show.

Certificates and tokens are looked at every few seconds. A new certificate is that of the connections to come; a token
that was struck out is refused at the next request, also on a connection that lives.
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

RELOAD_S = 5.0  # between two looks at the files
# What browsers say of the page that asks. No page has any business here, and on loopback none would need a secret.
BROWSER = ("Origin", "Sec-Fetch-Site")


class Guard:
    """The guard of one address. Raises `Refused` if a file is missing or wrong."""

    def __init__(self, listen: Listen) -> None:
        files, token_file = listen.tls, listen.token_file
        self._tls = self._tokens = None
        if files is not None:
            paths = [each for each in (files.cert, files.key, files.client_ca) if each]
            self._tls = Reloaded(paths, lambda: tls.server_context(files, optional=bool(token_file)))
        if token_file:
            self._tokens = Reloaded([token_file], lambda: Tokens(Path(token_file)))

    def context(self) -> ssl.SSLContext | None:
        """For the next connection. None: plain TCP."""
        return self._tls.value if self._tls is not None else None

    async def follow(self) -> NoReturn:
        """Look at the files again and again."""
        while True:
            await asyncio.sleep(RELOAD_S)
            for each in (self._tls, self._tokens):
                if each is not None:
                    await asyncio.to_thread(each.refresh)

    def refusal(self, request: web.BaseRequest) -> web.Response | None:
        """What a request is answered whatever it shows."""
        if any(name in request.headers for name in BROWSER):
            return web.Response(status=403, text="no pages of browsers here\n")
        return None

    def caller(self, request: web.BaseRequest) -> caller.Caller | None:
        """Who calls. None: somebody who ought to show something, and does not."""
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        if certificate:  # which the handshake has verified
            return caller.Caller(tls.name_of(certificate), "certificate")
        if self._tokens is None:
            return caller.Caller()
        name = self._tokens.value.name(request.headers.get("Authorization", ""))
        return caller.Caller(name, "token") if name else None
