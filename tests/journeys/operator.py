"""An operator at a terminal: a daemon of its own in a home of its own, and commands typed one after the other."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

PATIENCE_S = 150.0
LOOK_S = 0.05


class Operator:
    """Ends everything that it has started, whatever happens."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ikj", dir="/tmp"))
        self.environment = {
            "PATH": os.environ["PATH"],
            "INFRAKIT_HOME": str(self.home / "home"),
            "INFRAKIT_USER": "ann",
            "INFRAKIT_GROUP_POLL_INTERVAL": "100ms",
            "MARK": str(self.home),
        }
        self.daemon: subprocess.Popen[str] | None = None
        self._outputs = 0
        self._beside: list[subprocess.Popen[str]] = []

    # -- commands --------------------------------------------------------------------------------------------------

    def start(self, *words: str, **more: Any) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "infrakit", *words]
        return subprocess.Popen(command, env=self.environment, cwd=self.home, text=True, **more)

    def __call__(self, *words: str, exits: int = 0, stdin: str = "") -> str:
        """Run a command to its end; return what it said, errors too."""
        pipe = subprocess.PIPE
        with self.start(*words, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
            try:
                said, _ = process.communicate(stdin, timeout=60)
            finally:
                process.kill()
        assert process.returncode == exits, f"infrakit {' '.join(words)} -> {process.returncode}\n{said}"
        assert "Traceback" not in said, said
        return said

    def ask(self, *words: str, exits: int = 0) -> Any:
        """The same, as a program would."""
        return json.loads(self(*words, "-o", "json", exits=exits))

    def write(self, *groups: dict[str, Any], name: str = "doc.json") -> str:
        """Put a document where commands find it."""
        (self.home / name).write_text(json.dumps(groups, indent=1))
        return name

    def commit(self, *groups: dict[str, Any], wait: bool = True, exits: int = 0) -> str:
        return self("commit", self.write(*groups), "-m", "because", *(["--wait=40s"] if wait else []), exits=exits)

    def beside(self, *words: str) -> "subprocess.Popen[str]":
        """Run a command of ours in the background; it ends with the operator at the latest."""
        return self.beside_program(sys.executable, "-m", "infrakit", *words)

    def beside_program(self, *command: str) -> "subprocess.Popen[str]":
        """The same for any program."""
        with (self.home / "beside.log").open("a") as log:
            process = subprocess.Popen(
                command,
                env=self.environment,
                cwd=self.home,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._beside.append(process)
        return process

    def plugins(self) -> dict[str, str]:
        """The state of every plugin, by name."""
        return {p["Name"]: p["State"] for p in self.ask("plugin", "ls")}

    # -- the daemon ------------------------------------------------------------------------------------------------

    def up(self, *groups: dict[str, Any], options: Sequence[str] = ()) -> None:
        """Start a daemon in the background, and return when it has taken the declaration."""
        document = self.write(*groups)
        self._outputs += 1
        with (self.home / f"up{self._outputs}.log").open("w") as log:
            self.daemon = self.start(
                "up", document, *options, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        names = {g["metadata"]["name"] for g in groups}
        self.until(lambda: names <= {g["Name"] for g in self._groups()}, "the daemon took the declaration")

    def _groups(self) -> list[dict[str, Any]]:
        assert self.daemon is not None
        assert self.daemon.poll() is None, f"the daemon ended:\n{self.said()}"
        answer = subprocess.run(
            [sys.executable, "-m", "infrakit", "status", "-o", "json"],
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return json.loads(answer.stdout)["Groups"] if answer.stdout else []

    def said(self) -> str:
        """What the newest daemon has printed so far."""
        return (self.home / f"up{self._outputs}.log").read_text()

    def end_daemon(self, how: signal.Signals = signal.SIGINT) -> int:
        """Send it a signal and wait for its end."""
        assert self.daemon is not None
        self.daemon.send_signal(how)
        code = self.daemon.wait(60)
        self.daemon = None
        return code

    # -- looking ---------------------------------------------------------------------------------------------------

    def until(self, blocked: Callable[[], object], what: str, *, patience_s: float = PATIENCE_S) -> None:
        """Look again and again, for a while."""
        end = time.monotonic() + patience_s
        while not blocked():
            assert time.monotonic() < end, f"not within {patience_s:.0f} s: {what}\n{self.said()[-3000:]}"
            time.sleep(LOOK_S)

    def converged(self) -> None:
        self("status", "--wait", "40s")

    def group(self, name: str) -> dict[str, Any]:
        return next(g for g in self.ask_status()["Groups"] if g["Name"] == name)

    def ask_status(self) -> Any:
        """The status, converged or not."""
        with self.start("status", "-o", "json", stdout=subprocess.PIPE) as process:
            out, _ = process.communicate(timeout=60)
        return json.loads(out)

    def members(self, group: str) -> dict[str, dict[str, Any]]:
        """The members of a group by slot or logical ID."""
        return {m["Slot"]: m for m in self.ask("instance", "ls", group)}

    def processes(self, instance: str = "") -> list[psutil.Process]:
        """The real processes of an instance, or of all."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except psutil.Error:
                continue
            mine = str(self.home) in environment.get("INFRAKIT_INSTANCE_DIRECTORY", environment.get("PWD", ""))
            given = environment.get("INFRAKIT_INSTANCE_ID", "")
            if given and mine and instance in ("", given) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def kill(self, instance: str) -> None:
        """All of an instance's processes die."""
        for process in self.processes(instance):
            process.kill()

    def close(self) -> None:
        """End the daemon and every instance, and remove the home."""
        for process in (*self._beside, *([self.daemon] if self.daemon is not None else [])):
            if process.poll() is None:
                process.terminate() if process in self._beside else process.kill()
            process.wait(60)
        psutil.wait_procs([p for p in self.processes() if _killed(p)], timeout=60)
        shutil.rmtree(self.home)


def _killed(process: psutil.Process) -> bool:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


SLEEP = "exec sleep 1000"
QUICK = {"BootGrace": "2s", "UnhealthyAfter": "300ms", "Backoff": "200ms"}


def cattle(name: str, size: int, **more: Any) -> dict[str, Any]:
    """A declared group of cattle."""
    return _group(name, {"Size": size}, **more)


def pets(name: str, ids: str, **more: Any) -> dict[str, Any]:
    """A declared group of pets with a volume each: "a b c"."""
    volumes = {i: [{"ID": f"{name}-{i}", "Type": "volume"}] for i in ids.split()}
    return _group(name, {"LogicalIDs": ids.split()}, Attachments=volumes, **more)


def _group(
    name: str,
    allocation: dict[str, Any],
    *,
    init: str = SLEEP,
    version: str = "1",
    plugin: str = "local",
    instance: dict[str, Any] | None = None,
    in_flight: int = 32,
    healing: dict[str, Any] | None = None,
    updating: dict[str, Any] | None = None,
    **flavor: Any,
) -> dict[str, Any]:
    properties = {
        "Allocation": allocation,
        "Instance": {"Plugin": plugin, "Properties": instance or {}, "MaxInFlight": in_flight},
        "Flavor": {"Plugin": "vanilla", "Properties": {"Init": init, "Tags": {"version": version}} | flavor},
        "Healing": QUICK | (healing or {}),
        "Updating": {"Settle": "200ms"} | (updating or {}),
    }
    return {"kind": "group", "metadata": {"name": name}, "properties": properties}
