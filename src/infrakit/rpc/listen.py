"""Listening on TCP: address, TLS and authentication. Plain TCP is for loopback only, unless forced."""

import asyncio
import errno
import socket
from typing import Any

import msgspec

from infrakit.rpc import address
from infrakit.rpc.tls import Files
from infrakit.rpc.unix import BACKLOG
from infrakit.spi.errors import Refused, invalid

RESOLVE_S = 10.0


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """An address for other machines, and the credentials that callers need there."""

    host: str
    port: int  # 0: any free port
    tls: Files | None = None
    token_file: str = ""
    force: bool = False  # serve every client that reaches it

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls is not None else 'http'}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return address.is_loopback(self.host)

    def at(self, bound: socket.socket) -> "Listen":
        """Return a copy with the address and port that the socket is bound to."""
        host, port = bound.getsockname()[:2]
        return msgspec.structs.replace(self, host=host, port=port)

    def check(self) -> None:
        """Raise `Refused` for settings that would give unauthenticated clients control of the infrastructure."""
        if self.is_loopback:
            return
        if self.tls is None and self.token_file:  # even if forced: a token read once is compromised for good
            raise Refused(
                "a token over plain TCP could be intercepted", where=self.url, remedy="add --tls-cert and --tls-key"
            )
        if self.force:
            return
        if self.tls is None:
            raise Refused(
                "plain TCP is for loopback addresses only",
                where=self.url,
                remedy="pass a certificate (--tls-cert, --tls-key), or --force-plain",
            )
        if not self.tls.client_ca and not self.token_file:
            raise Refused(
                "any client that reaches it could send commands",
                where=self.url,
                remedy="require client certificates (--tls-client-ca) or tokens (--token-file)",
            )

    async def bind(self) -> list[socket.socket]:
        """Return listening sockets, one for each address of the host. Raises `Refused`."""
        bound: list[socket.socket] = []
        failed = ""
        for family, place in await self._places():
            port = bound[0].getsockname()[1] if bound else place[1]
            try:
                bound.append(_listening(family, (place[0], port, *place[2:])))
            except OSError as error:
                if error.errno in (
                    errno.EADDRNOTAVAIL,
                    errno.EAFNOSUPPORT,
                ):  # a host without IPv6
                    failed = failed or error.strerror or str(error)
                    continue
                for each in bound:
                    each.close()
                raise self._refused(error.strerror or str(error)) from None
        if not bound:
            raise self._refused(failed or "the host has no address")
        return bound

    async def _places(self) -> list[tuple[int, tuple[Any, ...]]]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_S):
                found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise self._refused(error.strerror or str(error)) from None
        except TimeoutError:
            raise self._refused("the host name was not resolved in time") from None
        return list(dict.fromkeys((family, place) for family, _, _, _, place in found))

    def _refused(self, why: str) -> Refused:
        return Refused(f"cannot listen at {self.url}: {why}")


def parse(text: str) -> tuple[str, int]:
    """Parse `HOST:PORT` or `tcp://HOST:PORT`. Raises `InvalidSpec`."""
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise invalid("--listen", f"{text!r} is not an address to listen at", hint="write it as HOST:PORT")
    return host.strip("[]"), int(port)


def _listening(family: int, place: tuple[Any, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(place)
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound
