"""Destroys an instance: TERM to all its processes, KILL after the grace period, wait until none is left."""

import asyncio
import pathlib
import signal

from infrakit.instances.local import processes, records
from infrakit.instances.local.home import Home
from infrakit.instances.local.records import Phase

_KILL_S = 30.0  # longer than this only a process in uninterruptible sleep (state D) remains
_POLL_S_MIN, _POLL_S_MAX = 0.005, 0.1


async def end(home: Home, instance_id: str, *, grace_s: float) -> bool:
    """Destroy the processes of an instance. False if one remains, blocked inside the kernel, after KILL."""
    loop = asyncio.get_running_loop()
    place = home.instance(instance_id)
    begun, poll_s = loop.time(), _POLL_S_MIN
    asked: set[int] = set()
    while loop.time() < begun + grace_s + _KILL_S:
        if not await asyncio.to_thread(_lives, home, instance_id):
            return True
        urgent = loop.time() >= begun + grace_s
        await asyncio.to_thread(_signal, place, signal.SIGKILL if urgent else signal.SIGTERM, asked)
        await asyncio.sleep(poll_s)
        poll_s = min(poll_s * 2, _POLL_S_MAX)
    return False


def _lives(home: Home, instance_id: str) -> bool:
    return records.phase(home, instance_id) in (Phase.PENDING, Phase.RUNNING, Phase.STOPPING)


def _signal(place: pathlib.Path, number: signal.Signals, asked: set[int]) -> None:
    """Send TERM to the group once, then once to each process that outlives the leader. Send KILL every time, since new
    processes may have been created.

    No process receives TERM twice: many programs skip their cleanup at the second one.
    """
    identity = records.leader(place)
    if identity is None or not (place / "started").exists():
        return  # it is being created: there is no process to signal yet
    is_request = number is signal.SIGTERM
    if not processes.is_alive(identity):
        asked |= processes.signal_remaining(place, number, spare=asked if is_request else set())
    elif not is_request or (identity.pid not in asked and processes.has_begun(identity)):
        processes.signal_group(identity, number)
        asked.add(identity.pid)
