"""`infrakit up`: run a daemon in this process, commit a declaration to it, and show what it does."""

import asyncio
import os
import signal
from pathlib import Path

import msgspec

from infrakit.lifecycle.request import DocumentRequest, consent_named
from infrakit.lifecycle.view import View
from infrakit.rpc.discovery import HOME_VARIABLE
from infrakit.rpc.listen import Listen
from infrakit.runtime.daemon import Daemon
from infrakit.runtime.registry import validate
from infrakit.runtime.sources import Place
from infrakit.spi.errors import Refused

STATUS_INTERVAL_S = 0.25


def run(document: DocumentRequest | None, *, home: Path, place: Place, view: View, listen: Listen | None = None) -> int:
    """Validate, start the daemon, commit the document if there is one, and run until stopped. Returns the exit code."""
    return asyncio.run(_run(document, home=home, place=place, view=view, listen=listen))


async def _run(document: DocumentRequest | None, *, home: Path, place: Place, view: View, listen: Listen | None) -> int:
    _check_home(home)
    if document is not None:
        await validate(document.text, document.source, home=home)  # before anything is started
    async with Daemon(home, place, listen=listen) as daemon:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, daemon.stop.set)
        since = daemon.journal.newest
        async with asyncio.TaskGroup() as tasks:
            shown = [tasks.create_task(_events(daemon, view, since)), tasks.create_task(_statuses(daemon, view))]
            if document is not None:
                with consent_named("infrakit up"):
                    await daemon.operator.commit(**msgspec.structs.asdict(document))
            await daemon.run()
            for task in shown:
                task.cancel()
        await _show(daemon, view)  # the last screen must show the final state
    return 0


def _check_home(home: Path) -> None:
    """Raise `Refused` if `home` could not store state; create nothing yet, because the document may be invalid."""
    there = next(each for each in (home, *home.absolute().parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "is no directory" if not there.is_dir() else "may not be written to"
        raise Refused(
            f"{there.absolute()} {what}",
            where=str(home.absolute()),
            remedy=f"set {HOME_VARIABLE} to a directory of your own",
        )


async def _events(daemon: Daemon, view: View, since: int) -> None:
    async for event in daemon.journal.follow(since):
        view.event(event)


async def _statuses(daemon: Daemon, view: View) -> None:
    while True:
        await _show(daemon, view)
        await asyncio.sleep(STATUS_INTERVAL_S)


async def _show(daemon: Daemon, view: View) -> None:
    status = await daemon.operator.status()
    view.status(status, await daemon.operator.members() if status.leader else ())
