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
    wait_for_death,
)

Open = Callable[[], Local]


class Moving:
    """A clock that tests move."""

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
    made = await first.provision(spec=spec(token="t", logical_id="a", volumes=("v",), tags={"x": "1"}))
    before, known = (await listed(first))[made], await facts(first, made)
    await first.close()
    second = open_local()
    assert (await listed(second)) == {made: before}
    assert await facts(second, made) == known
    assert await second.provision(spec=spec(token="t")) == made
    with pytest.raises(errors.Conflict, match=made):
        await second.provision(spec=spec(logical_id="a"))
    await destroy(second, made)
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
async def test_a_reused_pid_is_not_ours(open_local: Open, home: Path, unrelated_process: int, leads: bool) -> None:
    """The fixture checks that the unrelated process is not signalled."""
    first = open_local()
    made = await first.provision(spec=spec(token="t", logical_id="a"))
    pid = (await facts(first, made))["PID"]
    await first.close()
    os.killpg(pid, signal.SIGKILL)
    wait_for_death(pid)
    path = home / "instances" / made / "process.json"
    now = identify(unrelated_process if leads else os.getpid())
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(now, start_ticks=now.start_ticks - 1)))
    second = open_local()
    await until_gone(second, made)
    await destroy(second, made)
    assert await second.provision(spec=spec(logical_id="a")) != made


async def test_after_a_reboot_the_pid_is_another_process(open_local: Open, home: Path, unrelated_process: int) -> None:
    first = open_local()
    made = await first.provision(spec=spec("exit 0", token="t"))
    await until_written(home / "instances" / made / "exit")
    forged = msgspec.structs.replace(identify(unrelated_process), boot_id="another")
    (home / "instances" / made / "process.json").write_bytes(msgspec.json.encode(forged))
    await until_gone(first, made)


async def test_an_incomplete_instance_is_created_by_its_token(open_local: Open, home: Path) -> None:
    first = open_local()
    made = await first.provision(spec=spec(token="t", logical_id="a", volumes=("v",)))
    await destroy(first, made)
    await first.close()
    # The state after a crash before the gate was opened.
    (home / "graves" / made).rename(home / "instances" / made)
    (home / "instances" / made / "started").unlink()
    for claim in ("logical_id-a", "volume-v"):
        (home / "claims" / claim).write_text(made)
    (home / "draft").mkdir()
    (home / "trash" / "something").mkdir()
    second = open_local()
    assert await listed(second) == {}
    assert await second.inspect(instance=made) is None
    assert await second.provision(spec=spec(token="t", logical_id="a", volumes=("v",))) == made
    assert list(await listed(second)) == [made]


async def test_an_incomplete_instance_holds_no_logical_id(open_local: Open, home: Path) -> None:
    first = open_local()
    made = await first.provision(spec=spec(token="t", logical_id="a"))
    await destroy(first, made)
    await first.close()
    (home / "graves" / made).rename(home / "instances" / made)
    (home / "instances" / made / "started").unlink()
    (home / "claims" / "logical_id-a").write_text(made)
    second = open_local()
    other = await second.provision(spec=spec(token="another", logical_id="a"))
    assert list(await listed(second)) == [other]

    async def collected() -> bool:
        return [each.name for each in (home / "instances").iterdir()] == [other]

    await until(collected)


async def test_a_started_destruction_is_continued(open_local: Open, home: Path, tmp_path: Path) -> None:
    first = open_local()
    init = "trap 'echo asked >>asked' TERM; echo ready >ready; while :; do sleep 0.02; done"
    made = await first.provision(spec=spec(init, logical_id="a", GracePeriod="500ms"))
    work = home / "instances" / made / "work"
    await until_written(work / "ready")
    task = asyncio.create_task(destroy(first, made))
    await until_written(work / "asked")
    await first.close()
    await asyncio.gather(task, return_exceptions=True)
    second = open_local()
    assert (await listed(second))[made].state is State.STOPPING
    await until_gone(second, made)
    assert survivors(tmp_path) == []


async def test_terminated_instances_are_collected_after_a_day(open_local: Open, home: Path) -> None:
    clock = Moving(1_700_000_000.0)
    first = Local(home, clock=clock)
    made = await first.provision(spec=spec("exit 1", token="t"))
    await until_gone(first, made)
    await first.close()
    assert not (home / "graves" / made / "work").exists()
    for later_s, known in ((86_000.0, True), (86_500.0, False)):
        clock.at = 1_700_000_000.0 + later_s
        local = Local(home, clock=clock)
        await listed(local)
        await local.close()
        assert (home / "graves" / made).exists() is known


async def test_a_damaged_record_is_an_error_and_not_an_absence(local: Local, home: Path) -> None:
    made = await local.provision(spec=spec())
    path = home / "instances" / made / "instance.json"
    intact = path.read_bytes()
    path.write_bytes(b"{")
    with pytest.raises(errors.PluginError, match="damaged"):
        await listed(local)
    path.write_bytes(intact)
    assert list(await listed(local)) == [made]


async def test_a_provider_sees_what_another_does(open_local: Open) -> None:
    one, two = open_local(), open_local()
    made = await one.provision(spec=spec())
    assert list(await listed(two)) == [made]
    await one.label(instance=made, labels={"x": "y"})
    assert (await listed(two))[made].tags == {"x": "y"}
    await destroy(one, made)
    assert await listed(two) == {}
    await destroy(two, made)
