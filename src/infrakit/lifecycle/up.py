"""`infrakit up`: run a daemon in this process, commit a declaration to it, and show what it does."""

import asyncio
import errno
import signal
import tempfile
from pathlib import Path

import msgspec

from infrakit.lifecycle.request import DocumentRequest, consent_named
from infrakit.lifecycle.view import View
from infrakit.rpc.discovery import HOME_VARIABLE
from infrakit.rpc.listen import Listen
from infrakit.runtime import collector
from infrakit.runtime.daemon import Daemon
from infrakit.runtime.registry import validate
from infrakit.runtime.sources import Place
from infrakit.spi.errors import invalid

STATUS_INTERVAL_S = 0.25  # between two checks whether the status has changed
AGES_S = 1.0  # between two reports of an unchanged status, whose ages grow
CHANGED_SHARE_MAX = 0.1  # maximum share of time that reports use, of a status that changes
UNCHANGED_SHARE_MAX = 0.01  # the same, of an unchanged one
PROBE_BYTES = 4096  # the lock; with a store elsewhere, a daemon can heal without space for anything more


def run(document: DocumentRequest | None, *, home: Path, place: Place, view: View, listen: Listen | None = None) -> int:
    """Validate, start the daemon, commit the document if there is one, and run until stopped. Returns the exit code."""
    return asyncio.run(_run(document, home=home, place=place, view=view, listen=listen))


async def _run(document: DocumentRequest | None, *, home: Path, place: Place, view: View, listen: Listen | None) -> int:
    if document is not None:
        await validate(document.text, document.source, home=home)  # before anything is started
    async with Daemon(home, place, listen=listen) as daemon:
        collector.adapt()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, daemon.stop.set)
        since = daemon.journal.newest
        async with asyncio.TaskGroup() as tasks:
            shown = [tasks.create_task(_events(daemon, view, since))]
            if view.is_live:
                shown.append(tasks.create_task(_statuses(daemon, view)))
            if document is not None:
                with consent_named("infrakit up"):
                    await daemon.operator.commit(**msgspec.structs.asdict(document))
            await daemon.run()
            for task in shown:
                task.cancel()
        await _show(daemon, view)  # the last screen must show the final state
    return 0


def check_home(home: Path) -> None:
    """Raise `InvalidSpec` if `home` could not store state; leave nothing behind, because the document may be invalid.

    Only creating something proves that it can be: the permissions of a file system without room, or of one that the
    kernel provides, promise it too.
    """
    there = next(each for each in (home, *home.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(bytes(PROBE_BYTES))
    except OSError as error:
        free = "free space there, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        why = f"no file can be created in {there.absolute()}: {error.strerror}"
        raise invalid(
            HOME_VARIABLE,
            f"{home.absolute()} cannot store the state of a daemon: {why}",
            hint=f"{free}set {HOME_VARIABLE} to a directory of your own",
        ) from None


async def _events(daemon: Daemon, view: View, since: int) -> None:
    async for event in daemon.journal.follow(since):
        view.event(event)


async def _statuses(daemon: Daemon, view: View) -> None:
    """Show the status after each change. An unchanged one is shown again for its ages: a report is not free."""
    loop, shown, changes_at, ages_at = asyncio.get_running_loop(), None, 0.0, 0.0
    while True:
        revision = daemon.operator.revision, daemon.journal.newest
        began = loop.time()
        if began >= (ages_at if revision == shown else changes_at):
            await _show(daemon, view)
            shown, took_s = revision, loop.time() - began
            changes_at = began + took_s / CHANGED_SHARE_MAX
            ages_at = began + max(AGES_S, took_s / UNCHANGED_SHARE_MAX)
        await asyncio.sleep(STATUS_INTERVAL_S)


async def _show(daemon: Daemon, view: View) -> None:
    status = await daemon.operator.status()
    view.status(status, await daemon.operator.members() if view.is_live and status.leader else ())
