"""Processes seen from outside: their CPU and peak memory as the kernel counts them, and calls at their sockets."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TIMEOUT_S = 180.0
STEP_S = 0.005


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition. Raises `TimeoutError` after `TIMEOUT_S`."""
    deadline = time.perf_counter() + TIMEOUT_S
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{what}: not within {TIMEOUT_S:g} s")
        time.sleep(STEP_S)


class Processes:
    """Processes that share a home, from their start until the end of the context."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self._home = home
        self._environment = {**environment, "INFRAKIT_HOME": str(home), "INFRAKIT_PLUGINS_DIR": str(home / "plugins")}
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._running):
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    @property
    def output(self) -> bytes:
        """What the processes have printed."""
        return (self._home / "output").read_bytes()

    def start(self, command: Sequence[str]) -> None:
        with (self._home / "output").open("ab") as output:
            process = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._running.append(process)

    def cpu_s(self) -> float:
        """The CPU time of all processes so far, with that of their children that have ended, in seconds."""
        return sum(sum(map(int, _stat(each.pid)[11:15])) for each in self._running) / TICKS_PER_S

    def peak_mb(self) -> float:
        """The sum of the peaks of resident memory, in MB."""
        return sum(_peak_kb(each.pid) for each in self._running) / 1024

    def until_serving(self, name: str) -> Path:
        """Wait until a process accepts connections at the socket of that name."""
        path = self._home / "plugins" / name
        until(lambda: _accepts(path), f"no process serves {path}:\n{self.output[-500:].decode()}")
        return path


def call(path: Path, method: str, **params: Any) -> Any:
    """Call a method at a socket, in the protocol of the original InfraKit. Raises `RuntimeError` for its error."""
    connection = http.client.HTTPConnection("infrakit", timeout=TIMEOUT_S)
    connection.sock = _connected(path)
    request = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
    connection.request("POST", "/", json.dumps(request), {"Content-Type": "application/json"})
    reply = json.loads(connection.getresponse().read())
    connection.close()
    if reply.get("error"):
        raise RuntimeError(f"{method}: {reply['error']}")
    return reply["result"]


def measured(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Run a command; return its wall and CPU time in seconds. Raises `RuntimeError` if it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    assert process.stderr is not None
    if status:
        raise RuntimeError(f"{' '.join(command)}: {process.stderr.read().decode()}")
    process.stderr.close()
    return wall_s, usage.ru_utime + usage.ru_stime


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) stat after the name: number 3 is the first."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _peak_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _accepts(path: Path) -> bool:
    try:
        _connected(path).close()
    except OSError:
        return False
    return True


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT_S)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection
