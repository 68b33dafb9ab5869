"""A seed whose boot is cut off anywhere: the same command again, and nothing is there twice."""

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

import pytest

from infrakit.runtime import remains
from tests.integration.etcd.members import address, needs_etcd
from tests.integration.flavor_etcd.machines import PATIENCE_S, QUICK, until

pytestmark = [needs_etcd, pytest.mark.slow, pytest.mark.timeout(180)]

EXAMPLE = Path(__file__).parents[3] / "examples" / "seed"


class Bare:
    """A machine on which nothing of InfraKit has run yet, and a cluster of one member that shall be on it."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "machine"
        self.address = address()
        self.store = f"etcd://{self.address}:2379/infrakit"
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
            "Allocation": {"LogicalIDs": [self.address]},
            "Instance": {"Plugin": "local"},
            "Flavor": {"Plugin": "etcd", "Properties": {"ExtraArgs": QUICK}},
        }
        group = {"kind": "group", "metadata": {"name": "db"}, "properties": properties}
        (directory / "infrakit.yaml").write_text(json.dumps([group]))
        shutil.copy(EXAMPLE / "seed.sh.j2", directory)
        self.command = f"infrakit init infrakit.yaml --store {self.store} | sh"

    async def start(self) -> asyncio.subprocess.Process:
        """The one command, in a session of its own."""
        return await asyncio.create_subprocess_exec(
            *("sh", "-c", self.command),
            cwd=self.directory,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    async def seed(self) -> str:
        """The one command, to its end; what it said."""
        process = await self.start()
        try:
            async with asyncio.timeout(PATIENCE_S):
                said, _ = await process.communicate()
        except TimeoutError:
            raise AssertionError(f"not within {PATIENCE_S:.0f} s; the machine said:\n{self.said}") from None
        finally:
            end(process)
        assert process.returncode == 0, said.decode()
        return said.decode()

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
        return list(remains.history(self.home, self.store, limit=9))


def end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def bare() -> Iterator[Bare]:
    directory = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    machine = Bare(directory)
    try:
        yield machine
    finally:
        machine.kill()
        shutil.rmtree(directory, ignore_errors=True)


async def is_whole(bare: Bare) -> None:
    """One instance, one version of the declaration, and a second time changes nothing."""
    [instance] = bare.instances
    assert "left as it is" in await bare.seed()
    assert bare.instances == [instance]
    record = json.loads((instance / "instance.json").read_text())
    assert record["tags"]["infrakit.config.hash"] == "bootstrap", "nobody has led yet who could relabel it"
    versions = await asyncio.to_thread(bare.versions)
    assert [(each.version, each.who) for each in versions] == [(1, "ann")]


async def test_from_nothing(bare: Bare) -> None:
    said = await bare.seed()
    assert f"{bare.address}: {bare.instances[0].name} is made, the first of its group" in said
    assert "version 1 of the declaration is in it" in said
    await is_whole(bare)


async def test_from_a_template_that_brings_all_with_it(bare: Bare) -> None:
    bare.command = f"infrakit template seed.sh.j2 --var store={bare.store} | sh"
    assert "version 1 of the declaration is in it" in await bare.seed()
    await is_whole(bare)


async def test_all_of_it_is_killed_while_it_boots(bare: Bare) -> None:
    process = await bare.start()
    try:
        await until(lambda: bare.booting, "it boots")
    finally:
        end(process)
    bare.kill()
    assert "is made, the first of its group" in await bare.seed()
    await is_whole(bare)


async def test_what_waits_for_it_is_killed_and_the_machine_is_not(bare: Bare) -> None:
    process = await bare.start()
    try:
        await until(lambda: bare.booting, "it boots")
    finally:
        end(process)
    [instance] = bare.instances
    said = await bare.seed()
    assert "is made" not in said
    assert bare.instances == [instance]
    await is_whole(bare)


async def test_the_machine_is_killed_once_it_has_data(bare: Bare) -> None:
    process = await bare.start()
    log = bare.home / "local" / "volumes" / bare.address / "member" / "wal"
    try:
        await until(log.exists, "it has a log")
    finally:
        end(process)
    bare.kill()
    await bare.seed()
    await is_whole(bare)


async def test_two_at_once_make_one(bare: Bare) -> None:
    first, second = await bare.start(), await bare.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            outputs = [await each.communicate() for each in (first, second)]
    finally:
        end(first)
        end(second)
    said = "".join(out.decode() for out, _ in outputs)
    assert said.count("is made, the first of its group") == 1
    await is_whole(bare)
