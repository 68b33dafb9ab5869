"""The HTTP endpoints for monitoring a replica: `/metrics`, `/healthz` and `/readyz`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from infrakit.manager.api.manager import Operator
from infrakit.manager.lead.ledger import LedgerDocument
from infrakit.manager.lead.replica import Replica
from infrakit.manager.monitoring import metrics
from infrakit.manager.monitoring.metrics import Counters
from infrakit.manager.monitoring.prometheus import MEDIA, render
from infrakit.rpc.page import Page, Pages
from infrakit.spi import errors

STORE_TIMEOUT_S = 2.0
UNREADY = 503


@contextlib.asynccontextmanager
async def pages(replica: Replica, operator: Operator, counters: Counters) -> AsyncIterator[Pages]:
    """A context manager that yields the endpoints by path, to be served until it exits."""
    readiness = Readiness(replica)

    async def figures() -> Page:
        return Page(render(await metrics.families(replica, operator, counters)), media=MEDIA)

    async def alive() -> Page:
        return Page("alive\n")  # a response proves that the process is alive

    async def ready() -> Page:
        why_not = await readiness.why_not()
        return Page(f"not ready: {why_not}\n", UNREADY) if why_not else Page(f"ready: {readiness.role}\n")

    try:
        yield {"/metrics": figures, "/healthz": alive, "/readyz": ready}
    finally:
        await readiness.close()


class Readiness:
    """Readiness: whether a replica can do its job as leader or follower."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._reading: asyncio.Task[LedgerDocument] | None = None

    @property
    def role(self) -> str:
        """The role of a ready replica, as a sentence."""
        replica = self._replica
        if replica.term is not None:
            return f"it leads with epoch {replica.term.ledger.epoch}"
        leader = replica.observation.who if replica.observation is not None else ""
        return f"it follows {leader}" if leader else "it follows"

    async def why_not(self) -> str:
        """Why the replica is not ready, in one sentence; empty if it is ready."""
        replica = self._replica
        observed = replica.valid_observation
        if observed is None or (observed.leader and not replica.active.is_set()):
            return _one_line(replica.why_not_active)
        return await self._why_store_unreadable()

    async def _why_store_unreadable(self) -> str:
        """Return why the store cannot be read, or an empty string. Concurrent requests share one read of the store."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._replica.peek())
            self._reading.add_done_callback(_retrieve)
        reading = self._reading
        await asyncio.wait({reading}, timeout=STORE_TIMEOUT_S)
        if not reading.done():
            return f"the store has not answered for {STORE_TIMEOUT_S:g} s"
        if reading.cancelled():
            return "it is stopping"
        error = reading.exception()
        if error is None:
            return ""
        if isinstance(error, errors.InfraKitError | TimeoutError):
            return _one_line(f"the store cannot be read: {str(error) or 'it does not answer'}")
        raise error

    async def close(self) -> None:
        """Cancel the read in flight."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})


def _retrieve(reading: asyncio.Task[LedgerDocument]) -> None:
    """Consume the exception of a read whose requests have timed out, so that asyncio does not log it."""
    if not reading.cancelled():
        reading.exception()


def _one_line(sentence: str) -> str:
    return " ".join(sentence.split())
