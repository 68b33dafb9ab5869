"""`infrakit down` without a running daemon: real processes of `local` that outlived their daemon."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from infrakit.instances.local import processes
from infrakit.manager.api import roster
from infrakit.runtime.lock import StateLock
from infrakit.stores.file import FileStore
from tests.unit.cli.command_line import CommandLine

GROUP = """\
- kind: group
  metadata: {name: NAME}
  properties:
    Allocation: {Size: 2}
    Instance: {Plugin: local}
    Flavor: {Plugin: vanilla, Properties: {Init: exec sleep 1000}}
"""
pytestmark = pytest.mark.timeout(240)  # a dozen processes each, on a machine that may be busy

WEB, API = GROUP.replace("NAME", "web"), GROUP.replace("NAME", "api")


@contextlib.asynccontextmanager
async def orphaned_processes(
    cli: CommandLine, home: Path, *commands: tuple[str, ...]
) -> AsyncIterator[dict[str, list[int]]]:
    """The processes of both groups, whose daemon was stopped with Ctrl-C after these commands."""
    (home / "both.yaml").write_text(WEB + API)
    process = await cli.start("up", "both.yaml")
    pids: dict[str, list[int]] = {}
    try:
        await wait_for_daemon(cli)
        done = await cli("commit", "both.yaml", "--wait")
        assert done.code == 0, done
        pids.update(leaders(home))
        for words in commands:
            assert (await cli(*words)).code == 0
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 150)
        yield pids
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
        for pid in itertools.chain(*pids.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


async def wait_for_daemon(cli: CommandLine) -> None:
    async with asyncio.timeout(150):
        while (await cli("status")).code != 0:
            pass


def leaders(home: Path) -> dict[str, list[int]]:
    """The first process of each instance, by group: it leads the process group of its instance."""
    pids: dict[str, list[int]] = {}
    for directory in sorted((home / "local" / "instances").iterdir()):
        group = json.loads((directory / "instance.json").read_text())["tags"]["infrakit.group"]
        pids.setdefault(group, []).append(json.loads((directory / "process.json").read_text())["pid"])
    return pids


def alive(pids: list[int]) -> list[bool]:
    """Whether each process runs; a zombie counts as terminated."""
    return [(found := processes.stat(pid)) is not None and found.state != "Z" for pid in pids]


async def created(cli: CommandLine) -> int:
    lines = (await cli("events", "-o", "json")).out.splitlines()
    return sum(json.loads(line)["Type"] == "created" for line in lines)


async def test_it_destroys_the_instances_of_a_stopped_daemon_and_recreates_none(cli: CommandLine, home: Path) -> None:
    async with orphaned_processes(cli, home) as pids:
        created_before = await created(cli)
        os.killpg(pids["web"][0], signal.SIGKILL)
        refused = await cli("down")
        assert refused.code == 2
        assert "Destroy every instance of api, web, keeping their volumes?" in refused.err
        assert alive(pids["api"]) == [True, True]
        down = await cli("down", "--yes")
        assert (down.code, down.out.splitlines()) == (
            0,
            ["destroying web: 1 instance", "web is destroyed", "destroying api: 2 instances", "api is destroyed"],
        )
        assert down.err == "infrakit: no daemon is running here; this command starts a temporary one\n"
        assert alive(pids["web"] + pids["api"]) == [False] * 4
        assert await created(cli) == created_before
        again = await cli("down", "--yes")
        assert (again.code, again.out) == (0, f"nothing is declared in {home}\n")


async def test_with_a_file_it_destroys_only_the_groups_of_that_file(cli: CommandLine, home: Path) -> None:
    async with orphaned_processes(cli, home) as pids:
        (home / "web.yaml").write_text(WEB)
        down = await cli("down", "web.yaml", "--yes")
        assert (down.code, down.out.splitlines()) == (0, ["destroying web: 2 instances", "web is destroyed"])
        assert (alive(pids["web"]), alive(pids["api"])) == ([False] * 2, [True] * 2)
        assert (await cli("down", "web.yaml", "--yes")).out == "no group of web.yaml is declared\n"
        assert (await cli("down", "both.yaml", "--yes")).out.splitlines()[-1] == "api is destroyed"
        assert alive(pids["api"]) == [False] * 2


async def test_with_a_file_the_daemon_keeps_running_for_other_groups(cli: CommandLine, home: Path) -> None:
    (home / "both.yaml").write_text(WEB.replace("local", "simulator") + API.replace("local", "simulator"))
    (home / "web.yaml").write_text(WEB)
    process = await cli.start("up", "both.yaml")
    try:
        await wait_for_daemon(cli)
        down = await cli("down", "web.yaml", "--yes")
        assert (down.code, down.out.splitlines()[1:]) == (0, ["web is destroyed", "the daemon keeps running for api"])
        down = await cli("down", "both.yaml", "--yes")
        assert (down.code, down.out.splitlines()[1:]) == (0, ["api is destroyed", "the daemon has stopped"])
        await asyncio.wait_for(process.communicate(), 150)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_a_halt_is_respected(cli: CommandLine, home: Path) -> None:
    async with orphaned_processes(cli, home, ("halt", "-m", "leave it")) as pids:
        down = await cli("down", "--yes")
        assert down.code == 2
        assert "halted by ann: leave it" in down.err
        assert "`infrakit up` in another terminal, `infrakit unhalt`, then `infrakit down`" in down.err
        assert alive(pids["web"] + pids["api"]) == [True] * 4


async def test_a_second_down_continues_after_a_timeout(cli: CommandLine, home: Path) -> None:
    async with orphaned_processes(cli, home) as pids:
        down = await cli("down", "--yes", "--timeout", "0s")
        assert down.code in (0, 2)  # all of it may be destroyed by then
        if down.code == 2:
            assert "run `infrakit down` again to continue" in down.err
        assert (await cli("down", "--yes")).code == 0
        assert alive(pids["web"] + pids["api"]) == [False] * 4


async def test_ctrl_c_reports_what_the_daemon_continues_and_how_to_resume(cli: CommandLine, home: Path) -> None:
    stubborn = GROUP.replace("NAME", "web").replace("exec sleep 1000", "\"trap '' TERM; sleep 1000\"")
    (home / "web.yaml").write_text(stubborn.replace("Plugin: local", "Plugin: local, Properties: {GracePeriod: 100s}"))
    process = await cli.start("up", "web.yaml")
    try:
        await wait_for_daemon(cli)
        assert (await cli("commit", "web.yaml", "--wait")).code == 0
        down = await cli.start("down", "--yes", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
        assert down.stdout is not None
        assert b"destroying web" in await asyncio.wait_for(down.stdout.readline(), 150)
        down.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(down.communicate(), 150)
        assert down.returncode == 130
        assert b"the daemon continues to destroy web; run `infrakit down` again to continue" in err
        assert (await cli("down", "web")).err.endswith("use `infrakit group destroy web`.\n")
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 150)
        for pid in itertools.chain(*leaders(home).values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


@pytest.mark.parametrize("variable", ["INFRAKIT_STORE", "INFRAKIT_LEADERSHIP"])
async def test_a_remote_store_is_refused_because_another_replica_may_lead(
    cli: CommandLine, home: Path, variable: str
) -> None:
    (home / "store").mkdir()
    cli.environment[variable] = "etcd://127.0.0.1:1/infrakit"
    down = await cli("down", "--yes")
    assert down.code == 3
    assert "stored in etcd://127.0.0.1:1/infrakit" in down.err
    assert "`infrakit up` in another terminal, then `infrakit down`" in down.err


async def test_without_stored_data_it_exits_3(cli: CommandLine, home: Path) -> None:
    assert (await cli("down", "--yes")).code == 3
    (home / "store").mkdir()
    cli.environment["INFRAKIT_HOST"] = "http://127.0.0.1:1"
    down = await cli("down", "--yes")
    assert (down.code, down.out) == (3, "")


async def test_an_unresponsive_daemon_that_holds_the_lock_is_reported(cli: CommandLine, home: Path) -> None:
    (home / "store").mkdir()
    with StateLock(home, started="2026-01-01T00:00:00Z"):
        down = await cli("down", "--yes")
    assert down.code == 2
    assert f"{home} is in use by the daemon with pid {os.getpid()}" in down.err
    assert f"kill {os.getpid()}, then run `infrakit down`" in down.err


async def test_another_replica_of_the_store_is_reported_as_the_host_to_use(cli: CommandLine, home: Path) -> None:
    entry = roster.ReplicaEntry(address="/run/other", version="1", format=1, host="b", pid=1, started="")
    body = msgspec.json.encode(roster.RosterDocument(replicas={"b": entry}))
    store = FileStore(home / "store")
    await store.replace(name=roster.NAME, body=body, expected=0)
    await store.close()
    down = await cli("down", "--yes")
    assert down.code == 2
    assert "INFRAKIT_HOST=/run/other infrakit down" in down.err
