"""Runs plugins in processes of their own, and restarts each with exponential back-off when it terminates."""

import asyncio
import contextlib
import logging
import random
import signal
import sys
from collections.abc import Sequence

BACKOFF_S = 0.5  # before the second start; doubles
BACKOFF_MAX_S = 30.0
STABLE_S = 60.0  # a process that ran for that long resets the back-off
STOP_S = 15.0

_log = logging.getLogger("infrakit.supervisor")


async def supervise(commands: Sequence[Sequence[str]]) -> None:
    """Keep `python -m infrakit COMMAND` running for each, until SIGTERM or SIGINT; then stop all of them."""
    rng = random.SystemRandom()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        for command in commands:
            tasks.create_task(_keep_running(command, stop, rng))


async def _keep_running(command: Sequence[str], stop: asyncio.Event, rng: random.Random) -> None:
    loop = asyncio.get_running_loop()
    backoff_s = BACKOFF_S
    while not stop.is_set():
        began = loop.time()
        code = await _run(command, stop)
        if stop.is_set():
            return
        backoff_s = BACKOFF_S if loop.time() - began > STABLE_S else min(BACKOFF_MAX_S, backoff_s * 2)
        wait_s = backoff_s * (0.5 + rng.random() / 2)
        _log.warning("%s %s; restarting in %.1f s", " ".join(command), _exit_text(code), wait_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await stop.wait()


async def _run(command: Sequence[str], stop: asyncio.Event) -> int:
    """Run a command and return its exit code. It has its own session, so Ctrl-C reaches it only through us."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "infrakit", *command, start_new_session=True)
    _log.info("%s runs as process %d", " ".join(command), process.pid)
    ended = asyncio.create_task(process.wait())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        await _stop(process, ended)
    return ended.result()


async def _stop(process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
    if not ended.done():
        process.send_signal(signal.SIGTERM)
        await asyncio.wait({ended}, timeout=STOP_S)
    if not ended.done():
        process.kill()
        await asyncio.wait({ended})


def _exit_text(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
