"""Restarts of the daemon: instances outlive it, are found again, and are never created twice."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from infrakit.instances.local import Local
from infrakit.instances.local.processes import identify
from infrakit.spi import errors
from infrakit.spi.values import State
from tests.unit.instances.local_world import (
    destroy,
    facts,
    is_alive,
    listed,
    spec,
    survivors,
    until,
    until_gone,
    until_written,
    wait_for_exit,
)

Open = Callable[[], Local]


class SettableClock:
    """A clock that tests set."""

    def __init__(self, now: float) -> None:
        self.at = now

    def now(self) -> float:
        return self.at


@pytest.fixture
def unrelated_process() -> Iterator[int]:
    """An unrelated process that leads its own group. It must never be signalled."""
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process.pid
    assert process.poll() is None, "it was signalled"
    process.kill()
    process.wait()


async def test_instances_are_found_again(open_local: Open, home: Path) -> None:
    first = open_local()
    created = await first.provision(spec=spec(token="t", logical_id="a", volumes=("v",), tags={"x": "1"}))
    before, known = (await listed(first))[created], await facts(first, created)
    await first.close()
    second = open_local()
    assert (await listed(second)) == {created: before}
    assert await facts(second, created) == known
    assert await second.provision(spec=spec(token="t")) == created
    with pytest.raises(errors.Conflict, match=created):
        await second.provision(spec=spec(logical_id="a"))
    await destroy(second, created)
    assert not is_alive(known["PID"])


async def test_an_exit_is_known_even_if_no_daemon_was_running(open_local: Open, home: Path) -> None:
    first = open_local()
    init = 'while [ ! -e "$INFRAKIT_VOLUME/go" ]; do sleep 0.01; done; exit 4'
    good = await first.provision(spec=spec(init, volumes=("a",), SuccessCodes=[4]))
    bad = await first.provision(spec=spec(init, volumes=("b",), token="bad"))
    await first.close()
    for each in ("a", "b"):
        (home / "volumes" / each / "go").touch()
    for each in (good, bad):
        await until_written(home / "instances" / each / "exit")
    second = open_local()
    await until_gone(second, bad)

    async def finished() -> bool:
        return (await listed(second))[good].state is State.FINISHED

    await until(finished)
    assert await second.inspect(instance=bad) is None
    assert await second.provision(spec=spec(token="bad")) == bad
    assert bad not in await listed(second)


@pytest.mark.parametrize("leads", [True, False], ids=["leader", "child"])
async def test_a_reused_pid_is_not_mistaken_for_the_instance(
    open_local: Open, home: Path, unrelated_process: int, leads: bool
) -> None:
    """The fixture checks that the unrelated process is not signalled."""
    first = open_local()
    created = await first.provision(spec=spec(token="t", logical_id="a"))
    pid = (await facts(first, created))["PID"]
    await first.close()
    os.killpg(pid, signal.SIGKILL)
    wait_for_exit(pid)
    path = home / "instances" / created / "process.json"
    now = identify(unrelated_process if leads else os.getpid())
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(now, start_ticks=now.start_ticks - 1)))
    second = open_local()
    await until_gone(second, created)
    await destroy(second, created)
    assert await second.provision(spec=spec(logical_id="a")) != created


async def test_after_a_reboot_the_pid_is_another_process(open_local: Open, home: Path, unrelated_process: int) -> None:
    first = open_local()
    created = await first.provision(spec=spec("exit 0", token="t"))
    await until_written(home / "instances" / created / "exit")
    forged = msgspec.structs.replace(identify(unrelated_process), boot_id="another")
    (home / "instances" / created / "process.json").write_bytes(msgspec.json.encode(forged))
    await until_gone(first, created)


async def test_an_incomplete_instance_is_created_by_its_token(open_local: Open, home: Path) -> None:
    first = open_local()
    created = await first.provision(spec=spec(token="t", logical_id="a", volumes=("v",)))
    await destroy(first, created)
    await first.close()
    # The state after a crash before the gate was opened.
    (home / "graves" / created).rename(home / "instances" / created)
    (home / "instances" / created / "started").unlink()
    for claim in ("logical_id-a", "volume-v"):
        (home / "claims" / claim).write_text(created)
    (home / "draft").mkdir()
    (home / "trash" / "something").mkdir()
    second = open_local()
    assert await listed(second) == {}
    assert await second.inspect(instance=created) is None
    assert await second.provision(spec=spec(token="t", logical_id="a", volumes=("v",))) == created
    assert list(await listed(second)) == [created]


async def test_an_incomplete_instance_holds_no_logical_id(open_local: Open, home: Path) -> None:
    first = open_local()
    created = await first.provision(spec=spec(token="t", logical_id="a"))
    await destroy(first, created)
    await first.close()
    (home / "graves" / created).rename(home / "instances" / created)
    (home / "instances" / created / "started").unlink()
    (home / "claims" / "logical_id-a").write_text(created)
    second = open_local()
    other = await second.provision(spec=spec(token="another", logical_id="a"))
    assert list(await listed(second)) == [other]

    async def collected() -> bool:
        return [each.name for each in (home / "instances").iterdir()] == [other]

    await until(collected)


async def test_a_started_destruction_is_continued(open_local: Open, home: Path, tmp_path: Path) -> None:
    first = open_local()
    init = "trap 'echo asked >>asked' TERM; echo ready >ready; while :; do sleep 0.02; done"
    created = await first.provision(spec=spec(init, logical_id="a", GracePeriod="500ms"))
    work = home / "instances" / created / "work"
    await until_written(work / "ready")
    task = asyncio.create_task(destroy(first, created))
    await until_written(work / "asked")
    await first.close()
    await asyncio.gather(task, return_exceptions=True)
    second = open_local()
    assert (await listed(second))[created].state is State.STOPPING
    await until_gone(second, created)
    assert survivors(tmp_path) == []


async def test_terminated_instances_are_collected_after_a_day(open_local: Open, home: Path) -> None:
    clock = SettableClock(1_700_000_000.0)
    first = Local(home, clock=clock)
    created = await first.provision(spec=spec("exit 1", token="t"))
    await until_gone(first, created)
    await first.close()
    assert not (home / "graves" / created / "work").exists()
    for later_s, known in ((86_000.0, True), (86_500.0, False)):
        clock.at = 1_700_000_000.0 + later_s
        local = Local(home, clock=clock)
        await listed(local)
        await local.close()
        assert (home / "graves" / created).exists() is known


async def test_a_damaged_record_is_an_error_and_not_an_absence(local: Local, home: Path) -> None:
    created = await local.provision(spec=spec())
    path = home / "instances" / created / "instance.json"
    intact = path.read_bytes()
    path.write_bytes(b"{")
    with pytest.raises(errors.PluginError, match="damaged"):
        await listed(local)
    path.write_bytes(intact)
    assert list(await listed(local)) == [created]


async def test_a_provider_observes_the_changes_of_another_provider(open_local: Open) -> None:
    one, two = open_local(), open_local()
    created = await one.provision(spec=spec())
    assert list(await listed(two)) == [created]
    await one.label(instance=created, labels={"x": "y"})
    assert (await listed(two))[created].tags == {"x": "y"}
    await destroy(one, created)
    assert await listed(two) == {}
    await destroy(two, created)
