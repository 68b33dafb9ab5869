"""A bare machine, the one command that makes it the first of a cluster, and the power that fails."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infrakit.lifecycle import offline
from tests.integration.etcd.members import address
from tests.integration.flavor_etcd.machines import PATIENCE_S, QUICK

EXAMPLE = Path(__file__).parents[3] / "examples" / "seed"


class Bare:
    """A machine on which nothing of InfraKit has run yet, and a cluster that shall be on it."""

    def __init__(self, directory: Path, *, members: int = 1) -> None:
        self.home = directory / "machine"
        self.addresses = [address() for _ in range(members)]
        self.address = self.addresses[0]
        self.store = f"etcd://{','.join(f'{each}:2379' for each in self.addresses)}/infrakit"
        self.directory = directory
        self.environment = {
            "PATH": f"{directory}:{os.environ['PATH']}",
            "INFRAKIT_HOME": str(self.home),
            "INFRAKIT_USER": "ann",
        }
        program = directory / "infrakit"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m infrakit "$@"\n')
        program.chmod(0o700)
        properties = {
            "Allocation": {"LogicalIDs": self.addresses},
            "Instance": {"Plugin": "local"},
            "Flavor": {"Plugin": "etcd", "Properties": {"ExtraArgs": QUICK}},
        }
        group = {"kind": "group", "metadata": {"name": "db"}, "properties": properties}
        (directory / "infrakit.yaml").write_text(json.dumps([group]))
        shutil.copy(EXAMPLE / "seed.sh.j2", directory)
        self.command = f"infrakit init infrakit.yaml --store {self.store} | sh"

    async def start(self) -> asyncio.subprocess.Process:
        """The one command, in a session of its own."""
        return await self._start(self.command)

    async def _start(self, command: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("sh", "-c", command),
            cwd=self.directory,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    async def seed(self) -> str:
        """The one command, to its end; what it said."""
        code, said = await self._ended(await self.start(), PATIENCE_S)
        assert code == 0, said
        return said

    async def bootstrap(self, *options: str) -> tuple[int, str]:
        """The same from outside: exit code, and what it said."""
        command = f"exec infrakit bootstrap infrakit.yaml --store {self.store} {' '.join(options)}"
        return await self._ended(await self._start(command), 3 * PATIENCE_S)

    async def _ended(self, process: asyncio.subprocess.Process, patience_s: float) -> tuple[int, str]:
        try:
            async with asyncio.timeout(patience_s):
                said, _ = await process.communicate()
        except TimeoutError:
            raise AssertionError(f"not within {patience_s:.0f} s; the machines said:\n{self.said}") from None
        finally:
            end(process)
        assert process.returncode is not None
        return process.returncode, said.decode()

    @property
    def said(self) -> str:
        """What the boot scripts of all machines have printed."""
        return "".join(log.read_text() for log in sorted((self.home / "local").glob("*/*/log")))

    @property
    def instances(self) -> list[Path]:
        return sorted((self.home / "local" / "instances").glob("i-*"))

    @property
    def booting(self) -> bool:
        """Whether the boot script of an instance has begun."""
        return any((each / "started").exists() for each in self.instances)

    def kill(self) -> None:
        """Everything that the provider has made, stopped first, so that none makes another meanwhile."""
        while pids := self._processes():
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)

    def _processes(self) -> list[int]:
        found, mark = [], f"INFRAKIT_DIRECTORY={self.home.resolve()}/".encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def versions(self) -> list[Any]:
        return list(offline.history(self.home, self.store, limit=9))


def end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def fresh(*, members: int = 1) -> Iterator[Bare]:
    """Such a machine, which is gone in the end with all that ran on it."""
    directory = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    machine = Bare(directory, members=members)
    try:
        yield machine
    finally:
        machine.kill()
        shutil.rmtree(directory, ignore_errors=True)
