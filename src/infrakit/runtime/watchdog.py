"""The watchdog, of systemd or of `runtime/restarts.py`: a daemon without progress is terminated and started again.

Progress means that the event loop runs, and that every controller keeps starting cycles, each of which begins with an
attempt to observe the provider. Whether that succeeds, and whether this replica leads, does not matter: replicas must
not be restarted because the quorum is lost. A process that is stopped or blocked sends nothing, so it is restarted.

The protocol: `sd_notify(3)`, and `sd_watchdog_enabled(3)` for the variables.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

STALLED_S = 300.0  # without a new cycle, although each call of a cycle has a shorter timeout


def interval_s(environ: Mapping[str, str], pid: int) -> float | None:
    """Return how often to notify systemd: half of its timeout. None if it does not watch this process."""
    timeout_us, watched = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(pid))
    if not environ.get("NOTIFY_SOCKET") or not timeout_us.isdecimal() or int(timeout_us) == 0 or watched != str(pid):
        return None
    return int(timeout_us) / 1e6 / 2


async def feed(
    progressed_at: Callable[[], float], stalled: Callable[[str], object], environ: Mapping[str, str] = os.environ
) -> None:
    """Notify systemd until cancelled, as long as there is progress. Returns at once if systemd does not watch.

    `progressed_at` returns the loop time of the last progress; `stalled` gets the reason when there is none.
    """
    every_s = interval_s(environ, os.getpid())
    if every_s is None:
        return
    address = environ["NOTIFY_SOCKET"]
    if address.startswith("@"):  # abstract
        address = "\0" + address[1:]
    was_stalled = False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.setblocking(False)
        while True:
            without_s = asyncio.get_running_loop().time() - progressed_at()
            is_stalled = without_s > STALLED_S
            if is_stalled and not was_stalled:
                stalled(f"no cycle has started for {without_s:.0f} s: the watchdog will restart this daemon")
            elif not is_stalled:
                _send(notify, address)
            was_stalled = is_stalled
            await asyncio.sleep(every_s)


def _send(notify: socket.socket, address: str) -> None:
    try:
        notify.sendto(b"WATCHDOG=1", address)
    except OSError:  # systemd is restarting, or its queue is full: the next one follows before its timeout
        return
