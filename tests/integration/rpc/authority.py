"""Certificates in files, like those of an operator, and a manager that records who called it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

from infrakit.rpc import call
from infrakit.rpc.remotes import Remote
from infrakit.spi.manager import Manager
from tests.unit.cli.canned import CannedManager

HOST = "127.0.0.1"
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
EXPIRED: dict[str, Any] = {"not_before": YESTERDAY - timedelta(days=1), "not_after": YESTERDAY}


class Authority:
    """Signs certificates of servers and of clients."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.ca = trustme.CA()
        self.path = str(directory / "ca.pem")
        self.ca.cert_pem.write_to_path(self.path)

    def server(self, name: str = "server", *, host: str = HOST, **options: Any) -> tuple[str, str]:
        """The paths of a certificate for a host and of its key."""
        return self._write(name, self.ca.issue_cert(host, **options))

    def client(self, name: str, **options: Any) -> tuple[str, str]:
        """The paths of a client certificate with this name and of its key."""
        return self._write(name, self.ca.issue_cert(f"{name}@example.org", common_name=name, **options))

    def remote(self, url: str, name: str = "", **options: Any) -> Remote:
        """A remote that trusts this authority, with a client certificate of `name`, or without one."""
        cert, key = self.client(name, **options) if name else ("", "")
        return Remote(name="prod", url=url, ca=self.path, cert=cert, key=key)

    def _write(self, name: str, issued: trustme.LeafCert) -> tuple[str, str]:
        cert, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        issued.private_key_pem.write_to_path(str(key))
        issued.cert_chain_pems[0].write_to_path(str(cert))
        return str(cert), str(key)


class RecordingManager(CannedManager):
    """Records who scaled last."""

    who = ""

    async def scale(self, **request: Any) -> Any:
        self.who = request["who"]
        return await super().scale(**request)


async def scale_as_ann(remote: Remote) -> None:
    """Scale a group, with ann as the claimed name."""
    request: dict[str, Any] = {"group": "web", "size": 2, "who": "ann", "why": "x", "expected": None}
    await asyncio.to_thread(lambda: call.call(remote, Manager.scale, **request))
