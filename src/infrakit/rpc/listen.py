"""Listening on TCP: who may, with what, and where others find it. Plain TCP is for this machine only, unless forced."""

import ipaddress
import ssl
from pathlib import Path

import msgspec

from infrakit.rpc.tls import Files, server_context
from infrakit.rpc.tokens import Tokens
from infrakit.spi.errors import Refused


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """An address for other machines, and what callers have to show there."""

    host: str
    port: int
    tls: Files | None = None
    token_file: str = ""
    force: bool = False  # serve anybody who can reach it

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls is not None else 'http'}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def check(self) -> None:
        """Raise `Refused` for what would give strangers control of the infrastructure."""
        if self.force or self.is_loopback:
            return
        if self.tls is None:
            raise Refused(
                "plain TCP is for loopback addresses only",
                where=self.url,
                remedy="give a certificate (--tls-cert, --tls-key), or say --force-plain",
            )
        if not self.tls.client_ca and not self.token_file:
            raise Refused(
                "anybody who can reach it could give orders",
                where=self.url,
                remedy="ask for certificates (--tls-client-ca) or tokens (--token-file)",
            )

    def context(self) -> ssl.SSLContext | None:
        """With tokens as well, a certificate is one of two ways to show who one is."""
        return server_context(self.tls, optional=bool(self.token_file)) if self.tls is not None else None

    def tokens(self) -> Tokens | None:
        return Tokens(Path(self.token_file)) if self.token_file else None


def parse(address: str) -> tuple[str, int]:
    """`HOST:PORT`, also as `tcp://HOST:PORT`. Raises `Refused`."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise Refused(f"{address!r} is no address to listen at", remedy="write it as HOST:PORT")
    return host.strip("[]"), int(port)
