"""The journal: emit and write 100,000 events, read them after a restart, and search them in the files."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import measured
from infrakit.events.journal import Journal
from infrakit.spi.clock import SystemClock
from infrakit.spi.event import Event, Kind
from infrakit.spi.values import GroupID, InstanceID, Slot

EVENTS = 100_000
GATHERED = 1_000  # events per flush, as at 10,000 events per second


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Print the cost per event of a block that handles all of them."""
    began, cpu = time.perf_counter(), time.process_time()
    yield
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"  {name:34} {wall_s * 1e3:6.0f} ms wall, {cpu_s * 1e3:6.0f} ms CPU, {cpu_s / EVENTS * 1e6:5.2f} us an event"
    )


def events() -> Iterator[Event]:
    for number in range(EVENTS):
        yield Event(
            type=Kind.CREATED,
            group=GroupID(f"group-{number % 10}"),
            instance=InstanceID(f"i-{number:08}"),
            slot=Slot(str(number)),
            message=f"created in slot {number} after 0.3 s",
            cause="commit 7 by ann",
        )


async def work() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        async with Journal(path, clock=SystemClock()) as journal:
            emitted = list(events())
            with timed("emit"):
                for event in emitted:
                    journal.emit(event)
            with timed("flush, all at once"):
                await journal.flush()
            with timed(f"emit and flush, {GATHERED:,} at a time"):
                for number, event in enumerate(emitted, 1):
                    journal.emit(event)
                    if number % GATHERED == 0:
                        await journal.flush()
        began = time.perf_counter()
        async with Journal(path, clock=SystemClock()) as journal:
            print(f"  a restart                          {(time.perf_counter() - began) * 1e3:6.0f} ms")
            for name, since, group in (
                ("the newest 1,000", journal.newest - 1_000, None),
                ("as many as one response holds", 0, None),
                ("one group, also from the files", 0, "group-1"),
            ):
                began = time.perf_counter()
                found = await journal.since(since, group=group)
                print(f"  {name:34} {(time.perf_counter() - began) * 1e3:6.1f} ms, {len(found):,} events")


def main() -> None:
    print(f"the journal, {EVENTS:,} events")
    measured(work)


if __name__ == "__main__":
    main()
