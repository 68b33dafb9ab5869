"""`infrakit events`: the journal as lines, from any event or time on."""

import asyncio
import datetime
import json
import signal

import pytest

from infrakit.spi.event import Event, Kind, timestamp
from tests.unit.cli.canned import CannedManager
from tests.unit.cli.command_line import CommandLine


async def test_events_are_lines_with_their_reason(cli: CommandLine, manager: CannedManager) -> None:
    done = await cli("events")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "2026-11-23 11:21:54Z created        web/3 web-3: up after 0.2s [heal]",
        "2026-11-23 11:21:54Z unhealthy      store: refused",
        "2026-11-23 11:25:06Z stopped        bye",
    ]


async def test_json_output_has_one_line_per_event(cli: CommandLine, manager: CannedManager) -> None:
    lines = (await cli("events", "-o", "json")).out.splitlines()
    assert [json.loads(line)["Seq"] for line in lines] == [1, 2, 3]
    assert (await cli("events", "-o", "yaml")).out.count("---\n") == 3


@pytest.mark.parametrize(
    ("since", "shown"),
    [
        ("0", [1, 2, 3]),
        ("2", [3]),
        ("3", []),
        ("2026-11-23T11:22:00Z", [3]),
        ("2026-11-23T12:22:00+01:00", [3]),
        ("2026-11-23T11:00:00Z", [1, 2, 3]),
    ],
)
async def test_since_is_a_number_or_a_time(
    cli: CommandLine, manager: CannedManager, since: str, shown: list[int]
) -> None:
    done = await cli("events", "--since", since, "-o", "json")
    assert [json.loads(line)["Seq"] for line in done.out.splitlines()] == shown


async def test_since_may_be_an_age(cli: CommandLine, manager: CannedManager) -> None:
    now = datetime.datetime.now(datetime.UTC).timestamp()
    for seq, age_s in ((4, 7200), (5, 1800)):
        await manager.journal.add(Event(seq=seq, timestamp=timestamp(now - age_s), type=Kind.CREATED, message="x"))
    done = await cli("events", "--since", "1h", "-o", "json")
    assert [json.loads(line)["Seq"] for line in done.out.splitlines()] == [5]


async def test_only_the_events_of_one_group_are_shown(cli: CommandLine, manager: CannedManager) -> None:
    done = await cli("events", "--group", "store", "-o", "json")
    assert [json.loads(line)["Seq"] for line in done.out.splitlines()] == [2]


async def test_follow_prints_new_events_until_ctrl_c(cli: CommandLine, manager: CannedManager) -> None:
    process = await cli.start("events", "--follow", "--since", "2")
    assert process.stdout is not None
    try:
        first = await asyncio.wait_for(process.stdout.readline(), 60)
        assert b"bye" in first
        await manager.journal.add(Event(seq=4, timestamp=timestamp(0), type=Kind.CREATED, message="fresh"))
        assert b"fresh" in await asyncio.wait_for(process.stdout.readline(), 60)
    finally:
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out, err) == (130, b"", b"")
