"""Destroys an instance: sends TERM to its processes, KILL after the grace period, and waits until none is left."""

import asyncio
import pathlib
import signal

from infrakit.instances.local import processes, records
from infrakit.instances.local.home import Home
from infrakit.instances.local.records import Phase

_KILL_S = 30.0  # only a process in uninterruptible sleep (state D) remains for longer
_POLL_S_MIN, _POLL_S_MAX = 0.005, 0.1


async def destroy(home: Home, instance_id: str, *, grace_s: float) -> bool:
    """Terminate the processes of an instance. Returns False if one remains after KILL, blocked inside the kernel."""
    loop = asyncio.get_running_loop()
    place = home.instance(instance_id)
    begun, poll_s = loop.time(), _POLL_S_MIN
    signalled: set[int] = set()
    while loop.time() < begun + grace_s + _KILL_S:
        if not await asyncio.to_thread(_is_live, home, instance_id):
            return True
        grace_is_over = loop.time() >= begun + grace_s
        await asyncio.to_thread(_signal, place, signal.SIGKILL if grace_is_over else signal.SIGTERM, signalled)
        await asyncio.sleep(poll_s)
        poll_s = min(poll_s * 2, _POLL_S_MAX)
    return False


def _is_live(home: Home, instance_id: str) -> bool:
    return records.phase(home, instance_id) in (Phase.PENDING, Phase.RUNNING, Phase.STOPPING)


def _signal(place: pathlib.Path, number: signal.Signals, signalled: set[int]) -> None:
    """Send TERM to the group once, then once to each process that outlives the leader; send KILL every time.

    KILL is repeated because new processes may have been created. No process receives TERM twice: many programs skip
    their cleanup at the second one.
    """
    identity = records.leader(place)
    if identity is None or not (place / "started").exists():
        return  # it is being created: there is no process to signal yet
    is_term = number is signal.SIGTERM
    if not processes.is_alive(identity):
        signalled |= processes.signal_remaining(place, number, exclude=signalled if is_term else set())
    elif not is_term or (identity.pid not in signalled and processes.has_begun(identity)):
        processes.signal_group(identity, number)
        signalled.add(identity.pid)
