"""Runs the daemon in a process of its own, and restarts it when it exits, or makes no progress.

To the daemon this is systemd: it reports its progress by the protocol of `runtime/watchdog.py`. The supervisor has no
event loop, opens no file and sends no request, so what stops or blocks the daemon does not affect it.
"""

import ctypes
import logging
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import Self

WATCHDOG_S = 60.0  # without a notification, like `WatchdogSec=` of the unit
STOP_S = 30.0  # like `TimeoutStopSec=` of the unit
BACKOFF_S = 0.5  # before the second start; doubles
BACKOFF_MAX_S = 30.0
STABLE_S = 60.0  # a daemon that ran for that long resets the back-off
PAUSED_S = 1.0  # a wait that is that much too long is not the daemon's fault: the supervisor did not run either
REFUSALS = (1, 2)  # exit codes of `infrakit up` for what a restart does not change, unless the daemon was running
PR_SET_PDEATHSIG = 1  # of prctl(2)

_log = logging.getLogger("infrakit.supervisor")


def supervise(arguments: Sequence[str], environ: Mapping[str, str], *, timeout_s: float, rng: random.Random) -> int:
    """Keep `python -m infrakit ARGUMENTS` running until SIGTERM or SIGINT, until it exits with code 0, or is refused.

    It is refused if it exits with a code of `REFUSALS` before it has notified once: it has printed why, such as another
    daemon that uses its home. `timeout_s`: without a notification for that long, it is killed and restarted. Returns
    its last exit code.
    """
    backoff_s = BACKOFF_S
    with _Supervisor() as supervisor:
        while True:
            began = time.monotonic()
            code = supervisor.run(arguments, environ, timeout_s)
            if supervisor.is_stopping or code == 0:
                return max(0, code)
            if code in REFUSALS and not supervisor.has_notified:
                _log.warning("the daemon %s; it is not restarted", _exit_text(code))
                return code
            backoff_s = BACKOFF_S if time.monotonic() - began > STABLE_S else min(BACKOFF_MAX_S, backoff_s * 2)
            wait_s = backoff_s * (0.5 + rng.random() / 2)
            _log.warning("the daemon %s; restarting in %.1f s", _exit_text(code), wait_s)
            if supervisor.pause(wait_s):
                return 0


class _Supervisor:
    """The signals and notifications that the supervisor waits for, and the daemon that it has started."""

    def __init__(self) -> None:
        self.is_stopping = False
        self.has_notified = False  # the daemon that was started last
        self._woken, self._wake = socket.socketpair()
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind("")  # the kernel chooses an abstract address, which disappears with the socket
        self._address = "@" + self._notified.getsockname()[1:].decode()
        for each in (self._woken, self._wake, self._notified):
            each.setblocking(False)

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler, it would not end a wait
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        for each in (self._woken, self._wake, self._notified):
            each.close()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.is_stopping = True

    def pause(self, for_s: float) -> bool:
        """Wait, and return whether a stop was requested meanwhile."""
        end = time.monotonic() + for_s
        while not self.is_stopping and (left_s := end - time.monotonic()) > 0:
            self._wait(left_s)
        return self.is_stopping

    def run(self, arguments: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> int:
        """Run the daemon until it ends: by itself, because it makes no progress, or because a stop was requested."""
        pid = self._start(arguments, environ, timeout_s)
        _log.info("the daemon runs as process %d", pid)
        deadline, was_stopped, was_killed = time.monotonic() + timeout_s, False, False
        while (code := _reap(pid)) is None:
            now = time.monotonic()
            if self.is_stopping and not was_stopped:
                os.kill(pid, signal.SIGTERM)
                deadline, was_stopped = now + STOP_S, True
            if now >= deadline and not was_killed:
                reason = f"did not stop within {STOP_S:g} s" if was_stopped else f"made no progress for {timeout_s:g} s"
                _log.warning("the daemon (process %d) %s: it is killed", pid, reason)
                os.kill(pid, signal.SIGKILL)
                was_killed = True
            is_alive = self._wait(None if was_killed else deadline - now)
            if is_alive and not was_stopped:
                deadline = time.monotonic() + timeout_s
        self._drain_notified()  # one that it has sent right before its end
        return code

    def _wait(self, timeout_s: float | None) -> bool:
        """Wait for a signal or a notification. Whether the daemon may live: it did notify, or we were paused, too."""
        began = time.monotonic()
        select.select([self._woken, self._notified], [], [], timeout_s)
        is_alive = timeout_s is not None and time.monotonic() - began > timeout_s + PAUSED_S
        _drain(self._woken)
        return self._drain_notified() or is_alive

    def _drain_notified(self) -> bool:
        found = _drain(self._notified)
        self.has_notified = self.has_notified or found
        return found

    def _start(self, arguments: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> int:
        """Start the daemon. It ends with the supervisor, also if that is killed."""
        _drain(self._notified)
        self.has_notified = False
        supervisor = os.getpid()
        watched = {"NOTIFY_SOCKET": self._address, "WATCHDOG_USEC": f"{timeout_s * 1e6:.0f}"}
        pid = os.fork()
        if pid:
            return pid
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() == supervisor:
                watched["WATCHDOG_PID"] = str(os.getpid())  # so that no process of an instance takes it for its own
                command = [sys.executable, "-m", "infrakit", *arguments]
                os.execve(command[0], command, {**environ, **watched})  # noqa: S606 - as intended
        finally:
            os._exit(127)


def _reap(pid: int) -> int | None:
    """Return the exit code of the daemon if it has ended. Also reaps what a first process in a container inherits."""
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended in (0, pid):
            return os.waitstatus_to_exitcode(status) if ended else None


def _drain(received: socket.socket) -> bool:
    """Discard what has arrived, and return whether that was anything."""
    found = False
    while True:
        try:
            found = bool(received.recv(4096)) or found
        except BlockingIOError:
            return found


def _exit_text(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
