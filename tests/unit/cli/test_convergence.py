"""Status and its exit code, waiting for convergence, and `infrakit down`."""

import asyncio
import json
import signal
import sys
import time

import msgspec
import pytest
import yaml

from infrakit.cli import convergence
from infrakit.spi.manager import GroupStatus, Status
from tests.unit.cli import canned
from tests.unit.cli.canned import CannedManager, Serve
from tests.unit.cli.command_line import CommandLine

LATER = "; next check at 2026-11-23 11:25:24Z [unhealthy-after]"


async def test_status_shows_the_replica_the_groups_and_the_reasons(cli: CommandLine, manager: CannedManager) -> None:
    manager.groups[1] = canned.HEALING
    manager.halts = (canned.HALT,)
    done = await cli("status")
    assert (done.code, done.err) == (2, "")
    assert done.out.splitlines() == [
        "box (pid 4711) leads, epoch 3, declaration 7, up 3m12s",
        "HALTED: everything, by ann@box at 2026-11-23 11:21:54Z: moving the rack",
        "",
        "GROUP  KIND    WANT  LIVE  HEALTHY  CURRENT  SEEN  PHASE",
        "store  pets    3     3     3        3        0s    converged",
        "web    cattle  3     3     2        3        0s    healing",
        "",
        "web:",
        f"  = wait web-2: {canned.WAIT.reason}; it becomes healthy{LATER}",
    ]


async def test_status_as_json_or_yaml_has_the_wire_format(cli: CommandLine, manager: CannedManager) -> None:
    done = await cli("status", "-o", "json")
    assert done.code == 0
    assert json.loads(done.out)["Groups"][0]["Name"] == "store"
    manager.groups = [canned.HEALING]
    done = await cli("status", "-o", "yaml")
    assert done.code == 2
    assert yaml.safe_load(done.out)["Groups"][0]["Phase"] == "healing"


async def test_the_status_of_a_follower_is_not_converged(cli: CommandLine, manager: CannedManager) -> None:
    manager.leads = False
    done = await cli("status")
    assert done.code == 2
    assert "does not lead" in done.out


async def status_with(manager: CannedManager, *groups: GroupStatus) -> Status:
    manager.groups = list(groups)
    return await manager.status()


def test_waiting_on_a_terminal_shows_the_groups_that_have_not_converged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = CannedManager()
    now, healing = [100.0], asyncio.run(status_with(manager, canned.HEALING))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = convergence.Progress()
    progress.show(healing)
    assert capsys.readouterr().err == ""  # a short wait shows no progress
    now[0] += convergence.PROGRESS_S
    progress.show(healing)
    shown = capsys.readouterr().err.splitlines()
    assert shown[:2] == ["waiting for:", "web: healing, 2 of 3 healthy"]
    now[0] += convergence.PROGRESS_S
    progress.show(healing)
    assert capsys.readouterr().err == ""  # progress is shown again only when it has changed
    worse = canned.group("web", healthy=1, converged=False, phase="healing")
    progress.show(asyncio.run(status_with(manager, worse)))
    assert "web: healing, 1 of 3 healthy" in capsys.readouterr().err


async def test_a_declaration_without_groups_is_converged(cli: CommandLine, manager: CannedManager) -> None:
    manager.groups = []
    done = await cli("status")
    assert done.code == 0
    assert "No groups are declared" in done.out


async def test_wait_ends_as_soon_as_everything_is_converged(cli: CommandLine, manager: CannedManager) -> None:
    converged, polls = manager.groups, []
    manager.groups = [canned.HEALING]

    def count_poll() -> None:
        polls.append(1)
        if len(polls) == 3:
            manager.groups = converged

    manager.on_status = count_poll
    done = await cli("status", "--wait", "1m")
    assert done.code == 0
    assert len(polls) == 3
    assert "converged" in done.out


async def test_a_wait_that_times_out_prints_the_groups_that_have_not_converged(
    cli: CommandLine, manager: CannedManager
) -> None:
    manager.groups = [canned.HEALING]
    done = await cli("status", "--wait", "0.1")
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("infrakit: not converged after 0.1s\nweb: healing, 2 of 3 healthy\n")
    assert "tcp 127.0.0.1:8002 refused" in done.err


async def test_a_change_waits_for_its_own_version(cli: CommandLine, manager: CannedManager) -> None:
    """A converged status counts only once the daemon reports the new version."""
    polls = []

    def count_poll() -> None:
        polls.append(1)
        if len(polls) == 2:
            manager.version = 8

    manager.on_status = count_poll
    done = await cli("group", "scale", "web", "5", "--wait=1m")
    assert done.code == 0
    assert len(polls) == 2
    assert done.out.endswith("converged\n")
    manager.version, manager.on_status = 7, lambda: None
    assert (await cli("group", "scale", "web", "5", "--wait=100ms")).code == 2


async def test_watch_continues_until_ctrl_c(cli: CommandLine, manager: CannedManager) -> None:
    process = await cli.start("status", "--watch")
    assert process.stdout is not None
    try:
        lines = [await asyncio.wait_for(process.stdout.readline(), 60) for _ in range(10)]
        assert sum(b"leads, epoch 3" in line for line in lines) == 2
    finally:
        process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 130
    assert err == b""


async def test_down_is_refused_if_the_daemon_runs_on_a_member(cli: CommandLine, manager: CannedManager) -> None:
    done = await cli("down", "--yes")
    assert (done.code, done.out) == (2, "")
    assert "the daemon runs on web-1 of web: it would destroy its own machine" in done.err
    assert manager.orders == []


async def test_down_destroys_one_group_after_another_and_stops_the_daemon(cli: CommandLine, serve: Serve) -> None:
    manager = CannedManager()
    manager.listed = ()
    stopped = asyncio.Event()

    async def stop() -> None:
        stopped.set()

    def advance() -> None:
        destroyed = [parameters["group"] for method, parameters in manager.orders if method == "destroy"]
        if destroyed and manager.groups and manager.groups[-1].name == destroyed[-1]:
            destroying = manager.groups.pop()
            if destroying.live:
                manager.groups.append(canned.group(destroying.name, live=0, want=0, converged=False))

    manager.on_status, manager.on_shutdown = advance, stop
    async with serve(manager):
        down = asyncio.create_task(cli("down", "--yes", "-m", "the end"))
        await asyncio.wait_for(stopped.wait(), 60)
    done = await down
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "destroying web: 3 instances",
        "web is destroyed",
        "destroying store: 3 instances",
        "store is destroyed",
        "the daemon has stopped",
    ]
    who = {"who": "ann", "why": "the end"}
    assert manager.orders == [
        ("destroy", {"group": "web", "volumes": False} | who),
        ("destroy", {"group": "store", "volumes": False} | who),
        ("shutdown", who),
    ]


async def test_down_times_out_and_leaves_the_daemon_running(cli: CommandLine, manager: CannedManager) -> None:
    manager.listed = ()
    done = await cli("down", "--yes", "--volumes", "--timeout", "0.1")
    assert done.code == 2
    assert "not destroyed after 0.1s" in done.err
    assert [method for method, _ in manager.orders] == ["destroy"]
    assert manager.orders[0][1]["volumes"] is True


async def test_down_is_refused_while_halted(cli: CommandLine, manager: CannedManager) -> None:
    manager.halts = (canned.HALT,)
    done = await cli("down", "--yes")
    assert done == (2, "", "infrakit: halted by ann@box: moving the rack; `infrakit unhalt` first\n")
    assert manager.orders == []


@pytest.mark.parametrize("arguments", [["down"], ["group", "destroy", "web"]], ids=" ".join)
async def test_without_a_terminal_a_destructive_command_needs_yes(
    cli: CommandLine, manager: CannedManager, arguments: list[str]
) -> None:
    manager.listed = ()
    done = await cli(*arguments)
    assert done.code == 2
    assert "--yes" in done.err
    assert manager.orders == []


@pytest.mark.parametrize("phase", ["paused", "halted"])
def test_waiting_stops_if_only_an_operator_can_make_progress(phase: str) -> None:
    web = canned.group("web", converged=False, phase=phase)
    waiting = Status(leader=True, replica="r", epoch=1, version=3, pid=1, started="", now="", groups=(web,))
    assert convergence.stuck(waiting)
    healing = msgspec.structs.replace(waiting, groups=(web, canned.group("x", converged=False, phase="healing")))
    assert not convergence.stuck(healing)
    assert not convergence.stuck(msgspec.structs.replace(waiting, groups=()))
