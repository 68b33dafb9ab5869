"""Commands without a daemon read the stored journal and the stored versions of the last one."""

import json
from pathlib import Path

import pytest

from infrakit.events.journal import Journal
from infrakit.manager.declaration import changes
from infrakit.manager.declaration.store import Declaration
from infrakit.spec import document
from infrakit.spi.clock import SystemClock
from infrakit.spi.event import Event, Kind
from infrakit.spi.values import GroupID
from infrakit.stores.file import FileStore
from tests.unit.cli.command_line import CommandLine

OFFLINE_NOTE = "reading the stored data of the last daemon"


async def store_events(home: Path) -> None:
    async with Journal(home / "events", clock=SystemClock()) as journal:
        for number in range(3):
            journal.emit(Event(type=Kind.CREATED, group=GroupID("ab"[number % 2]), message=f"event {number}"))


async def store_versions(directory: Path) -> None:
    declaration = Declaration(FileStore(directory), SystemClock())
    for size in (2, 3):
        text = (
            '[{"kind": "group", "metadata": {"name": "web"}, "properties": {"Allocation": {"Size": %d}, '
            '"Instance": {"Plugin": "local"}, "Flavor": {"Plugin": "vanilla"}}}]'
        )
        groups = document.parse(text % size, source="f.json")
        await declaration.change(changes.declare(groups), what="commit", who="ann", why=f"size {size}")


async def test_events_are_read_from_the_stored_journal(cli: CommandLine, home: Path) -> None:
    await store_events(home)
    done = await cli("events", "-o", "json")
    assert (done.code, [json.loads(line)["Seq"] for line in done.out.splitlines()]) == (0, [1, 2, 3])
    assert OFFLINE_NOTE in done.err
    done = await cli("events", "--since", "1", "--group", "a")
    assert (done.code, len(done.out.splitlines())) == (0, 1)
    assert "event 2" in done.out


async def test_following_events_needs_a_daemon(cli: CommandLine, home: Path) -> None:
    await store_events(home)
    done = await cli("events", "--follow")
    assert (done.code, done.out) == (3, "")
    assert "infrakit up starts it with the last declaration" in done.err


async def test_versions_are_read_from_the_store(cli: CommandLine, home: Path) -> None:
    await store_versions(home / "store")
    done = await cli("history", "-n", "1", "-o", "json")
    assert (done.code, [(v["Version"], v["Why"]) for v in json.loads(done.out)]) == (0, [(2, "size 3")])
    assert OFFLINE_NOTE in done.err
    done = await cli("history", "--show", "1")
    assert (done.code, json.loads(done.out)[0]["properties"]["Allocation"]) == (0, {"Size": 2})
    done = await cli("history", "--show", "9")
    assert done.code == 1
    assert "no version 9 is stored" in done.err


async def test_a_store_elsewhere_is_found_by_its_url(cli: CommandLine, home: Path) -> None:
    await store_versions(home / "elsewhere")
    cli.environment["INFRAKIT_STORE"] = f"file://{home}/elsewhere"
    assert "size 2" in (await cli("history")).out


@pytest.mark.parametrize("command", ["events", "history"])
async def test_without_local_data_or_for_a_remote_host_a_daemon_is_needed(
    cli: CommandLine, home: Path, command: str
) -> None:
    done = await cli(command)
    assert (done.code, done.out) == (3, "")
    # The data of another machine cannot be read from here.
    await store_events(home)
    await store_versions(home / "store")
    cli.environment["INFRAKIT_HOST"] = "http://127.0.0.1:1"
    done = await cli(command)
    assert (done.code, done.out) == (3, "")
