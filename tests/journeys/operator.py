"""An operator at a terminal: a separate daemon in a separate home, and commands that run one after another."""

import contextlib
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

TIMEOUT_S = 150.0
CONVERGED = "120s"  # a busy machine founds a quorum of etcd in half a minute
COMMAND_S = 150.0
POLL_INTERVAL_S = 0.05


class Operator:
    """Stops everything that it has started, also after a failure."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ikj", dir="/tmp"))
        self.environment = {
            "PATH": os.environ["PATH"],
            "INFRAKIT_HOME": str(self.home / "home"),
            "INFRAKIT_USER": "ann",
            "INFRAKIT_GROUP_POLL_INTERVAL": "100ms",
            "MARK": str(self.home),
            # The code that the tests themselves run, also where it is not the installed one.
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        }
        self.daemon: subprocess.Popen[str] | None = None
        self._outputs = 0
        self._background: list[subprocess.Popen[str]] = []

    # -- commands --------------------------------------------------------------------------------------------------

    def start(self, *words: str, **more: Any) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "infrakit", *words]
        return subprocess.Popen(command, env=self.environment, cwd=self.home, text=True, **more)

    def __call__(self, *words: str, exits: int = 0, stdin: str = "") -> str:
        """Run a command and return its output, standard error included."""
        pipe = subprocess.PIPE
        with self.start(*words, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
            try:
                output, _ = process.communicate(stdin, timeout=COMMAND_S)
            finally:
                process.kill()
        assert process.returncode == exits, f"infrakit {' '.join(words)} -> {process.returncode}\n{output}"
        assert "Traceback" not in output, output
        return output

    def ask(self, *words: str, exits: int = 0) -> Any:
        """Run a command with JSON output and return the parsed value."""
        return json.loads(self(*words, "-o", "json", exits=exits))

    def write(self, *groups: dict[str, Any], name: str = "doc.json") -> str:
        """Write a document to the working directory of the commands."""
        (self.home / name).write_text(json.dumps(groups, indent=1))
        return name

    def commit(self, *groups: dict[str, Any], wait: bool = True, exits: int = 0) -> str:
        return self(
            "commit", self.write(*groups), "-m", "because", *([f"--wait={CONVERGED}"] if wait else []), exits=exits
        )

    def run_in_background(self, *words: str) -> "subprocess.Popen[str]":
        """Run an `infrakit` command in the background; `close` stops it at the latest."""
        return self.run_program_in_background(sys.executable, "-m", "infrakit", *words)

    def run_program_in_background(self, *command: str) -> "subprocess.Popen[str]":
        """Run any program in the background; `close` stops it at the latest."""
        with (self.home / "background.log").open("a") as log:
            process = subprocess.Popen(
                command,
                env=self.environment,
                cwd=self.home,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._background.append(process)
        return process

    def plugins(self) -> dict[str, str]:
        """The state of every plugin, by name."""
        return {p["Name"]: p["State"] for p in self.ask("plugin", "ls")}

    # -- the daemon ------------------------------------------------------------------------------------------------

    def up(self, *groups: dict[str, Any], options: Sequence[str] = ()) -> None:
        """Start a daemon in the background, and return when it has committed the declaration."""
        document = self.write(*groups)
        self._outputs += 1
        with (self.home / f"up{self._outputs}.log").open("w") as log:
            self.daemon = self.start(
                "up", document, *options, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        names = {g["metadata"]["name"] for g in groups}
        self.until(lambda: names <= {g["Name"] for g in self._groups()}, "the daemon has committed the declaration")

    def up_supervised(self, timeout: str) -> None:
        """Start a supervised daemon without a declaration, and return when it answers."""
        self._outputs += 1
        with (self.home / f"up{self._outputs}.log").open("w") as log:
            self.daemon = self.start(
                "up", "--supervise", timeout, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self.until(self.answers, "the daemon answers")

    def answers(self) -> bool:
        """Whether the daemon answers."""
        assert self.daemon is not None
        assert self.daemon.poll() is None, f"the daemon exited:\n{self.daemon_output()}"
        with self.start("status", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            return process.wait(60) != 3

    def _groups(self) -> list[dict[str, Any]]:
        assert self.daemon is not None
        assert self.daemon.poll() is None, f"the daemon exited:\n{self.daemon_output()}"
        answer = subprocess.run(
            [sys.executable, "-m", "infrakit", "status", "-o", "json"],
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return json.loads(answer.stdout)["Groups"] if answer.stdout else []

    def daemon_output(self) -> str:
        """The output of the newest daemon so far."""
        return (self.home / f"up{self._outputs}.log").read_text() if self._outputs else ""

    def end_daemon(self, how: signal.Signals = signal.SIGINT) -> int:
        """Send the daemon a signal and wait for its exit."""
        assert self.daemon is not None
        self.daemon.send_signal(how)
        code = self.daemon.wait(60)
        self.daemon = None
        return code

    # -- observing -------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], object], what: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Poll until the condition holds; fail after the timeout."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"not within {timeout_s:.0f} s: {what}\n{self.daemon_output()[-3000:]}"
            time.sleep(POLL_INTERVAL_S)

    def converged(self) -> None:
        try:
            self("status", "--wait", CONVERGED)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self('events')[-5000:]}") from None

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
        """Kill all processes of an instance."""
        processes = self.processes(instance)
        assert processes, f"no process of {instance} has this home"
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def kill_running(self) -> None:
        """Kill the processes of whatever instances run at this moment: perhaps none, between two."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def close(self) -> None:
        """Stop the daemon and every instance, and remove the home."""
        supervised: list[psutil.Process] = []  # a daemon that ends soon after its supervisor
        for process in (*self._background, *([self.daemon] if self.daemon is not None else [])):
            if process.poll() is None:
                supervised += psutil.Process(process.pid).children()
                process.terminate() if process in self._background else process.kill()
            process.wait(60)
        psutil.wait_procs([p for p in self.processes() if _killed(p)], timeout=60)
        psutil.wait_procs(supervised, timeout=60)
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
