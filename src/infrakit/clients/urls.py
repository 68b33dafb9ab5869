"""Creates clients from the URL of a store or leadership source: `etcd://HOST:PORT/PREFIX`, `swarm:///SOCKET`."""

import ssl
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs

from infrakit.spi.errors import Refused

if TYPE_CHECKING:
    from infrakit.clients.etcd import Etcd
    from infrakit.clients.swarm import Swarm

ETCD_PORT = 2379
ETCD_PREFIX = "/infrakit"


def etcd(url: SplitResult) -> "Etcd":
    """Return a client of the etcd members in the URL. Raises `Refused` if its certificates cannot be used."""
    from infrakit.clients.etcd import Etcd

    scheme = "https" if url.query else "http"
    hosts = (host if ":" in host else f"{host}:{ETCD_PORT}" for host in url.netloc.split(","))
    return Etcd([f"{scheme}://{host}" for host in hosts], tls=_tls(url))


def etcd_prefix(url: SplitResult) -> str:
    """Return the prefix of all keys: the path of the URL, or `/infrakit`."""
    return url.path.rstrip("/") or ETCD_PREFIX


def _tls(url: SplitResult) -> ssl.SSLContext | None:
    """Return the TLS context of `?ca=FILE&cert=FILE&key=FILE`, each optional; None without a query."""
    if not url.query:
        return None
    files = {name: values[-1] for name, values in parse_qs(url.query).items()}
    if unknown := sorted(files.keys() - {"ca", "cert", "key"}):
        what = f"unknown parameter {unknown[0]!r}"
        raise Refused(what, where=url.geturl(), remedy="the known parameters are ca, cert and key: files")
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "cert" in files:
            context.load_cert_chain(files["cert"], files.get("key"))
    except (OSError, ssl.SSLError) as error:
        raise Refused(f"the certificates cannot be used: {error}", where=url.geturl()) from None
    return context


def names_engine(url: SplitResult) -> bool:
    """Whether the URL names a local Docker Engine: `swarm:`, or `swarm:///SOCKET`."""
    return not url.netloc and not url.query and (not url.path or url.path.startswith("/"))


def swarm(url: SplitResult) -> "Swarm":
    """Return a client of the Swarm, by the Engine at the socket in the URL. Raises `Refused` without the extra."""
    from infrakit.clients.swarm import Swarm

    return Swarm(f"unix://{url.path}") if url.path else Swarm()
