"""A bare machine, the command that bootstraps a cluster on it, and simulated power failures."""

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
from tests.integration.flavor_etcd.machines import QUICK, TIMEOUT_S

EXAMPLE = Path(__file__).parents[3] / "examples" / "seed"


class BareMachine:
    """A machine on which InfraKit has never run, and the declaration of a cluster for it."""

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
        """Start the bootstrap command in its own session."""
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
        """Run the bootstrap command to completion, and return its output."""
        code, output = await self._completed(await self.start(), TIMEOUT_S)
        assert code == 0, output
        return output

    async def bootstrap(self, *options: str) -> tuple[int, str]:
        """Run `infrakit bootstrap` from outside the cluster; return its exit code and output."""
        command = f"exec infrakit bootstrap infrakit.yaml --store {self.store} {' '.join(options)}"
        return await self._completed(await self._start(command), 3 * TIMEOUT_S)

    async def _completed(self, process: asyncio.subprocess.Process, timeout_s: float) -> tuple[int, str]:
        try:
            async with asyncio.timeout(timeout_s):
                output, _ = await process.communicate()
        except TimeoutError:
            raise AssertionError(f"not within {timeout_s:.0f} s; output of the machines:\n{self.output}") from None
        finally:
            kill_session(process)
        assert process.returncode is not None
        return process.returncode, output.decode()

    @property
    def output(self) -> str:
        """The output of the boot scripts of all machines."""
        return "".join(log.read_text() for log in sorted((self.home / "local").glob("*/*/log")))

    @property
    def instances(self) -> list[Path]:
        return sorted((self.home / "local" / "instances").glob("i-*"))

    @property
    def booting(self) -> bool:
        """Whether the boot script of an instance has begun."""
        return any((each / "started").exists() for each in self.instances)

    def kill(self) -> None:
        """Kill every process that the provider has started; stop them first, so that none forks meanwhile."""
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


def kill_session(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def fresh(*, members: int = 1) -> Iterator[BareMachine]:
    """A bare machine; at exit it is removed, with all of its processes."""
    directory = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    machine = BareMachine(directory, members=members)
    try:
        yield machine
    finally:
        machine.kill()
        shutil.rmtree(directory, ignore_errors=True)
