"""A daemon notifies systemd's watchdog, and stops doing so when it is stopped."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

DEADLINE_S = 60
QUIET_S = 1.0


def receive_for_ever(systemd: socket.socket) -> None:
    while True:
        systemd.recv(100)


def test_a_daemon_notifies_the_watchdog_unless_it_is_stopped(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(DEADLINE_S)
        environment = {
            "PATH": os.environ["PATH"],
            "INFRAKIT_HOME": str(tmp_path / "home"),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "200000",
        }
        daemon = subprocess.Popen([sys.executable, "-m", "infrakit", "up"], env=environment, cwd=tmp_path)
        try:
            assert systemd.recv(100) == b"WATCHDOG=1"
            assert systemd.recv(100) == b"WATCHDOG=1"
            daemon.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, daemon.pid, os.WSTOPPED)
            systemd.settimeout(QUIET_S)
            with pytest.raises(TimeoutError):
                receive_for_ever(systemd)  # those that were sent before
        finally:
            daemon.kill()
            daemon.wait(DEADLINE_S)
