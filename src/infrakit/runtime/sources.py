"""The store and the leadership source of a replica, both created from a URL, here and nowhere else."""

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, urlsplit

import msgspec

from infrakit.leadership.static import Static
from infrakit.rpc import address as addresses
from infrakit.spi.errors import Refused
from infrakit.spi.leadership import Leadership
from infrakit.spi.store import Store
from infrakit.stores.file import FileStore

if TYPE_CHECKING:
    from infrakit.clients.swarm import Swarm

STORES = "file:///DIR, etcd://HOST:PORT[,HOST:PORT]/PREFIX, s3://BUCKET/PREFIX, swarm: or swarm:///SOCKET, or memory:"
LEADERSHIPS = "static:, file:///PATH, etcd://HOST:PORT, etcd+campaign://HOST:PORT[,HOST:PORT]/PREFIX, or swarm: or swarm:///SOCKET"
ETCD_PORT = 2379
PREFIX = "/infrakit"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What distinguishes one replica from another. Left empty: a single replica, with its state in its home."""

    name: str = msgspec.field(default_factory=lambda: os.uname().nodename)  # as other replicas know it
    store: str = ""  # URL
    leadership: str = ""  # URL
    advertise: str = ""  # the address at which other replicas reach it, if not the one it listens at
    accept_store: bool = False  # accept a store below the high-water mark

    @property
    def is_alone(self) -> bool:
        """Whether no other replica can lead instead."""
        return self.leadership in ("", "static:")


def store(url: str, home: Path) -> Store:
    """The store that a URL names; for an empty URL, the directory `store` in `home`. Raises `Refused`."""
    if not url:
        return FileStore(home.absolute() / "store")
    parts = _store_named(url)
    if parts.scheme == "file":
        return FileStore(Path(parts.path))
    if parts.scheme == "memory":
        from infrakit.stores.memory import MemoryStore

        return MemoryStore()
    if parts.scheme == "etcd":
        from infrakit.clients.etcd import Etcd
        from infrakit.stores.etcd import EtcdStore

        return EtcdStore(Etcd(_endpoints(parts), tls=_tls(parts)), parts.path.rstrip("/") or PREFIX)
    if parts.scheme == "swarm":
        from infrakit.stores.swarm import SwarmStore

        return SwarmStore(_swarm(parts))
    from infrakit.stores.s3 import s3_store

    return s3_store(url)


def check_store(url: str) -> None:
    """Raises `Refused` if a URL names no store. Neither connects nor reads files, which may be on another machine."""
    if url:
        _store_named(url)


def _store_named(url: str) -> SplitResult:
    parts = _split(url, "--store", STORES)
    is_whole = {
        "file": parts.path.startswith("/") and not parts.netloc,
        "memory": True,
        "etcd": bool(parts.netloc),
        "s3": bool(parts.netloc),
        "swarm": _names_engine(parts),
    }
    if not is_whole.get(parts.scheme):
        raise _wrong(url, "--store", STORES)
    return parts


def leadership(url: str, name: str) -> Leadership:
    """The observer that a URL names, for the replica `name`; for an empty URL, it always leads. Raises `Refused`."""
    if not url:
        return Static()
    parts = _split(url, "--leadership", LEADERSHIPS)
    if parts.scheme == "static":
        return Static()
    if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
        from infrakit.leadership.file import FileObserver

        return FileObserver(Path(parts.path), name)
    if parts.scheme == "swarm" and _names_engine(parts):
        from infrakit.leadership.swarm import SwarmObserved

        return SwarmObserved(_swarm(parts))
    if parts.scheme in ("etcd", "etcd+campaign") and parts.netloc:
        from infrakit.clients.etcd import Etcd
        from infrakit.leadership.etcd import EtcdCampaign, EtcdObserved

        client = Etcd(_endpoints(parts), tls=_tls(parts))
        if parts.scheme == "etcd+campaign":
            return EtcdCampaign(client, f"{parts.path.rstrip('/') or PREFIX}/leader", name)
        if len(client.endpoints) > 1:
            raise Refused(
                "a replica observes only the etcd member beside it: name one endpoint",
                where=f"--leadership {url}",
                remedy="name the local member only, or campaign: etcd+campaign://...",
            )
        return EtcdObserved(client)
    raise _wrong(url, "--leadership", LEADERSHIPS)


def advertised(text: str) -> str:
    """Validate the address at which other replicas reach this one, a URL or a unix socket. Raises `Refused`."""
    place = addresses.parse(text)
    if isinstance(place, Path) and not place.is_absolute():
        what = f"{text!r} is no address at which others could reach it"
        raise Refused(what, where="--advertise", remedy="write it as https://HOST:PORT, or unix:///PATH")
    return text


async def close(leadership: Leadership) -> None:
    """Close an observer, if it can be closed."""
    end = getattr(leadership, "close", None)
    if end is not None:
        await end()


def _names_engine(parts: SplitResult) -> bool:
    """Whether a URL names the Engine beside this replica: `swarm:`, or its socket."""
    return not parts.netloc and not parts.query and (not parts.path or parts.path.startswith("/"))


def _swarm(parts: SplitResult) -> "Swarm":
    from infrakit.clients.swarm import Swarm

    return Swarm(f"unix://{parts.path}") if parts.path else Swarm()


def _endpoints(parts: SplitResult) -> list[str]:
    scheme = "https" if parts.query else "http"
    hosts = parts.netloc.split(",")
    return [f"{scheme}://{host}" if ":" in host else f"{scheme}://{host}:{ETCD_PORT}" for host in hosts]


def _tls(parts: SplitResult) -> ssl.SSLContext | None:
    """The TLS context for `?ca=FILE&cert=FILE&key=FILE`; None, so plain HTTP, if none of them is given."""
    if not parts.query:
        return None
    files = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := sorted(files.keys() - {"ca", "cert", "key"}):
        raise Refused(f"there is no {unknown[0]!r}", where=parts.geturl(), remedy="known are ca, cert and key: files")
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "cert" in files:
            context.load_cert_chain(files["cert"], files.get("key"))
    except (OSError, ssl.SSLError) as error:
        raise Refused(f"the certificates cannot be used: {error}", where=parts.geturl()) from None
    return context


def _split(url: str, option: str, forms: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _wrong(url, option, forms) from None
    if parts.username or parts.password:
        raise Refused("a password does not belong into a URL", where=option, remedy=f"write it as {forms}")
    return parts


def _wrong(url: str, option: str, forms: str) -> Refused:
    return Refused(f"{url!r} is not understood", where=option, remedy=f"write it as {forms}")
