"""Destruction of resisting processes: scripts that ignore TERM, children that outlive their parent, orphans."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from infrakit.instances.local import Local
from infrakit.spi.values import State
from tests.unit.instances.local_world import (
    destroy,
    facts,
    listed,
    spec,
    survivors,
    until,
    until_gone,
    until_written,
    wait_for_exit,
)

STUBBORN = "trap 'echo asked >>\"$INFRAKIT_VOLUME/log\"' TERM; echo ready >ready; while :; do sleep 0.02; done"
GENTLE = "trap 'echo asked >>\"$INFRAKIT_VOLUME/log\"; exit 0' TERM; echo ready >ready; while :; do sleep 0.02; done"


async def start(local: Local, home: Path, init: str, **properties: Any) -> str:
    """Create an instance and wait until its script has written `ready`."""
    created = await local.provision(spec=spec(init, volumes=("v",), logical_id="a", **properties))
    await until_written(home / "instances" / created / "work" / "ready")
    return created


async def test_term_comes_first_and_the_script_may_clean_up(local: Local, home: Path) -> None:
    created = await start(local, home, GENTLE, GracePeriod="60s")
    await destroy(local, created)
    assert (home / "volumes" / "v" / "log").read_text() == "asked\n"


async def test_a_script_that_ignores_term_is_killed_after_the_grace_period(
    local: Local, home: Path, tmp_path: Path
) -> None:
    created = await start(local, home, STUBBORN, GracePeriod="300ms")
    begun = asyncio.get_running_loop().time()
    await destroy(local, created)
    assert asyncio.get_running_loop().time() - begun >= 0.3
    assert (home / "volumes" / "v" / "log").read_text() == "asked\n"  # once
    assert survivors(tmp_path) == []


async def test_a_stopping_instance_still_holds_its_logical_id(local: Local, home: Path) -> None:
    created = await start(local, home, STUBBORN, GracePeriod="1h")
    pid = (await facts(local, created))["PID"]
    ending = asyncio.create_task(destroy(local, created))
    await until_written(home / "volumes" / "v" / "log")
    assert (await listed(local))[created].state is State.STOPPING
    os.killpg(pid, signal.SIGKILL)
    await ending
    assert await listed(local) == {}


async def test_the_whole_process_group_is_terminated(local: Local, home: Path, tmp_path: Path) -> None:
    created = await start(local, home, "sleep 1000 & (sleep 1000 & sleep 1000) & echo ready >ready; wait")
    await destroy(local, created)
    assert survivors(tmp_path) == []


async def test_children_that_outlive_the_script_are_terminated(local: Local, home: Path, tmp_path: Path) -> None:
    """An instance runs as long as its script. It holds its volume until its last process has terminated."""
    created = await start(
        local, home, "(trap '' TERM; while :; do sleep 0.05; done) & echo ready >ready; exit 3", GracePeriod="200ms"
    )
    await until_gone(local, created)
    assert survivors(tmp_path) == []
    assert (home / "graves" / created / "exit").read_text() == "3\n"


async def test_children_of_a_finished_script_are_terminated_and_it_stays_finished(
    local: Local, home: Path, tmp_path: Path
) -> None:
    created = await start(local, home, "sleep 1000 & echo ready >ready; exit 0", SuccessCodes=[0])

    async def finished() -> bool:
        return (await listed(local))[created].state is State.FINISHED

    await until(finished)
    assert survivors(tmp_path) == []


async def test_killing_the_wrapper_terminates_the_instance(local: Local, home: Path, tmp_path: Path) -> None:
    created = await start(
        local, home, "echo ready >ready; trap '' TERM; while :; do sleep 0.05; done", GracePeriod="1h"
    )
    pid = (await facts(local, created))["PID"]
    os.kill(pid, signal.SIGKILL)
    wait_for_exit(pid)
    seen = await listed(local)
    assert seen[created].state is State.STOPPING
    assert seen[created].logical_id == "a"
    orphans = survivors(tmp_path)
    assert orphans
    for each in orphans:
        with contextlib.suppress(ProcessLookupError):  # one of its commands, which has exited in the meantime
            os.kill(each, signal.SIGKILL)
    await until_gone(local, created)


async def test_a_process_that_leaves_the_session_is_found(local: Local, home: Path, tmp_path: Path) -> None:
    """It is identified by the instance's lock alone."""
    created = await start(
        local, home, "setsid env -i sleep 1000 & setsid sleep 1000 & echo ready >ready; exec sleep 1000"
    )
    await destroy(local, created)
    assert survivors(tmp_path) == []
    await until_gone(local, created)


async def test_a_child_that_has_closed_everything_is_found(local: Local, home: Path, tmp_path: Path) -> None:
    """Python closes all files of its children, also the lock: the process group ID and the environment remain."""
    init = """#!/usr/bin/env python3
import os, pathlib, subprocess, signal
subprocess.Popen(["sleep", "1000"])
pathlib.Path("ready").write_text("ready\\n")
os.kill(os.getppid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""
    created = await start(local, home, init)
    await until_gone(local, created)
    assert survivors(tmp_path) == []
