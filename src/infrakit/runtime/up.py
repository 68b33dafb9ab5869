"""`infrakit up`: a daemon in this process, a declaration committed to it, and a view of what it does."""

import asyncio
import signal
from pathlib import Path

from infrakit.rpc.listen import Listen
from infrakit.runtime.daemon import Daemon
from infrakit.runtime.registry import validate
from infrakit.runtime.view import View

STATUS_INTERVAL_S = 0.25


def run(text: str, source: str, *, home: Path, who: str, why: str, view: View, listen: Listen | None = None) -> int:
    """Check, start, commit, and stay until told to stop. Returns the exit code."""
    return asyncio.run(_run(text, source, home=home, who=who, why=why, view=view, listen=listen))


async def _run(text: str, source: str, *, home: Path, who: str, why: str, view: View, listen: Listen | None) -> int:
    await validate(text, source, home=home)  # before anything is started
    async with Daemon(home, listen=listen) as daemon:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, daemon.stop.set)
        since = daemon.journal.newest
        async with asyncio.TaskGroup() as tasks:
            shown = [tasks.create_task(_events(daemon, view, since)), tasks.create_task(_statuses(daemon, view))]
            await daemon.operator.commit(text=text, source=source, who=who, why=why)
            await daemon.run()
            for task in shown:
                task.cancel()
        await _show(daemon, view)  # what the last words are about must not be a moment old
    return 0


async def _events(daemon: Daemon, view: View, since: int) -> None:
    async for event in daemon.journal.follow(since):
        view.event(event)


async def _statuses(daemon: Daemon, view: View) -> None:
    while True:
        await _show(daemon, view)
        await asyncio.sleep(STATUS_INTERVAL_S)


async def _show(daemon: Daemon, view: View) -> None:
    view.status(await daemon.operator.status(), await daemon.operator.members())
