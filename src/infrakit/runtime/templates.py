"""The template engine of this process, shared by all plugins, so that each template is compiled once."""

from infrakit.rpc import discovery
from infrakit.template.engine import Engine
from infrakit.template.loaders import Loader

FETCH_S = 10.0  # shorter than the caller's timeout, so that the error names the address that does not answer


def engine() -> Engine:
    """Create an engine that fetches what templates may name, including from plugins on this machine and S3 buckets."""
    loader = Loader(
        timeout_s=FETCH_S,
        sockets=lambda name: discovery.plugins_directory() / name,
        fetchers={"s3": _from_bucket},
    )
    return Engine(loader)


def _from_bucket(address: str, timeout_s: float) -> bytes:
    from infrakit.clients import s3

    return s3.load(address, timeout_s)
