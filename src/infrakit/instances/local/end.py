"""Bringing an instance to its end: TERM to all its processes, KILL after its grace, and waiting until none is left."""

import asyncio
import pathlib
import signal

from infrakit.instances.local import processes, records
from infrakit.instances.local.home import Home
from infrakit.instances.local.records import Phase

_KILL_S = 30.0  # after that only a process that hangs inside the kernel can be left
_LOOK_S_MIN, _LOOK_S_MAX = 0.005, 0.1


async def end(home: Home, instance_id: str, *, grace_s: float) -> bool:
    """True: nothing of it lives. False: it is being killed, and something in the kernel holds it."""
    loop = asyncio.get_running_loop()
    place = home.instance(instance_id)
    begun, look_s = loop.time(), _LOOK_S_MIN
    asked: set[int] = set()
    while loop.time() < begun + grace_s + _KILL_S:
        if not await asyncio.to_thread(_lives, home, instance_id):
            return True
        urgent = loop.time() >= begun + grace_s
        await asyncio.to_thread(_signal, place, signal.SIGKILL if urgent else signal.SIGTERM, asked)
        await asyncio.sleep(look_s)
        look_s = min(look_s * 2, _LOOK_S_MAX)
    return False


def _lives(home: Home, instance_id: str) -> bool:
    return records.phase(home, instance_id) in (Phase.PENDING, Phase.RUNNING, Phase.STOPPING)


def _signal(place: pathlib.Path, number: signal.Signals, asked: set[int]) -> None:
    """TERM to the group once, then once to each that the leader leaves behind; KILL always: more may be born meanwhile.

    Nobody is asked twice, because to many programs a second TERM means: never mind cleaning up.
    """
    identity = records.leader(place)
    if identity is None or not (place / "started").exists():
        return  # it is being made: there is nothing to signal yet
    is_request = number is signal.SIGTERM
    if not processes.is_alive(identity):
        asked |= processes.signal_remains(place, number, spare=asked if is_request else set())
    elif not is_request or (identity.pid not in asked and processes.has_begun(identity)):
        processes.signal_group(identity, number)
        asked.add(identity.pid)
