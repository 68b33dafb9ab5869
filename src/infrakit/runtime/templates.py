"""The engine that renders the templates of this process: one for all plugins, so that each is compiled once."""

from infrakit.rpc import discovery
from infrakit.template.engine import Engine
from infrakit.template.loaders import Loader

FETCH_S = 10.0  # shorter than what waits for it, so that an address that does not answer is told by name


def engine() -> Engine:
    """It can fetch whatever templates may name, also from plugins that run here and from buckets."""
    loader = Loader(
        timeout_s=FETCH_S,
        sockets=lambda name: discovery.plugins_directory() / name,
        fetchers={"s3": _from_bucket},
    )
    return Engine(loader)


def _from_bucket(address: str, timeout_s: float) -> bytes:
    from infrakit.clients import s3

    return s3.load(address, timeout_s)
