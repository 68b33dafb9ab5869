"""A daemon in a thread of this process, for one command: it destroys the requested groups and changes nothing else.

It is a complete daemon, with the lock of its home, the epoch and the socket, so that no second controller can act
meanwhile, and the command calls it like any other daemon. Groups that are not to be destroyed are halted in memory:
so instances that terminated after the last daemon stopped are not recreated first.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from infrakit.manager.api import roster
from infrakit.runtime import sources
from infrakit.runtime.daemon import Daemon
from infrakit.runtime.sources import Place
from infrakit.spi import formats
from infrakit.spi.errors import Refused
from infrakit.spi.manager import Halt

OBSERVED_S = 10.0  # timeout for the first listing of all groups; a slower group is shown without its instances
POLL_S = 0.02


@contextlib.contextmanager
def daemon(home: Path, why: Halt) -> Iterator[None]:
    """A context manager that runs the daemon. Raises what its start raises, and `Refused` if its store is shared."""
    running = _Running(home, why)
    thread = threading.Thread(target=running.run, name="temporary daemon")
    thread.start()
    try:
        running.ready.wait()
        if running.failure is not None:
            raise running.failure
        yield
    finally:
        running.stop()
        thread.join()


class _Running:
    """The daemon in its thread; `stop` may be called from another thread."""

    def __init__(self, home: Path, why: Halt) -> None:
        self.ready = threading.Event()  # also set after a failure
        self.failure: BaseException | None = None
        self._home = home
        self._why = why
        self._lock = threading.Lock()
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            pass  # stopped
        except BaseException as error:  # raised by the thread that waits for it
            self.failure = error
        finally:
            self.ready.set()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._task is not None:
                with contextlib.suppress(RuntimeError):  # its loop is closed: the thread has finished
                    self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def _serve(self) -> None:
        with self._lock:
            if self._stopped:
                return
            self._task = asyncio.current_task()
        await _refuse_other_replicas(self._home)
        async with Daemon(self._home, Place(), only_destroys=self._why) as running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OBSERVED_S):
                    await _until_observed(running)
            self.ready.set()
            await running.run()


async def _refuse_other_replicas(home: Path) -> None:
    store = sources.store("", home)
    try:
        body = (await store.read(name=roster.NAME)).body
    finally:
        await store.close()
    for name, entry in sorted(formats.decode(body, roster.RosterDocument, "roster of replicas").replicas.items()):
        raise Refused(
            f"replica {name} also uses the declaration in {home}",
            remedy=f"run the command at that replica: INFRAKIT_HOST={entry.address} infrakit down",
        )


async def _until_observed(running: Daemon) -> None:
    while any(  # noqa: ASYNC110 - no event stands for the first listing of all groups
        group.observed_age_s is None for group in (await running.operator.status()).groups
    ):
        await asyncio.sleep(POLL_S)
