"""Runs the quickstart unattended: start, count, kill, scale, rolling update, down; checks every guarantee.

    python3 examples/quickstart/check.py

It needs the `infrakit` command, on PATH or in the directory of this interpreter, and the addresses of the quickstart.
It works in a temporary home, prints a timeline, and exits with code 1 at the first check that fails.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # where timeline.py is
from timeline import TIMEOUT_S, CheckFailed, Timeline, wait_for

DECLARATION = Path(__file__).parent / "infrakit.yaml"
WORKERS = [("127.0.0.1", 8100 + worker) for worker in range(1, 6)]
PETS = [(f"127.0.10.{pet}", 7070) for pet in range(1, 4)]

Address = tuple[str, int]
Facts = dict[str, Any]


def ask(address: Address, method: str = "GET", path: str = "/") -> Facts | None:
    """Request a server's facts about itself; None if it does not respond."""
    connection = http.client.HTTPConnection(*address, timeout=2)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        facts: Facts = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return facts if response.status == http.HTTPStatus.OK else None


def ask_all(addresses: list[Address]) -> list[Facts]:
    """Request the facts of all servers; every one must respond."""
    answers = {address: ask(address) for address in addresses}
    silent = [f"{host}:{port}" for (host, port), facts in answers.items() if facts is None]
    if silent:
        raise CheckFailed(f"no response from {', '.join(silent)}")
    return [facts for facts in answers.values() if facts is not None]


class Infrakit:
    """The command line with its own home, and the daemon that it starts."""

    def __init__(self, home: Path) -> None:
        sibling = Path(sys.executable).with_name("infrakit")
        program = str(sibling) if sibling.exists() else shutil.which("infrakit")
        if program is None:
            raise CheckFailed("`infrakit` is not on PATH: run `make demo-check`, which installs it")
        self._program = program
        self._environment = {**os.environ, "INFRAKIT_HOME": str(home), "NO_COLOR": "1"}
        self._log = home.with_suffix(".log")
        with self._log.open("wb") as log:
            self.daemon = subprocess.Popen(
                [program, "up", str(DECLARATION)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *words: str, timeout_s: float = TIMEOUT_S + 10) -> subprocess.CompletedProcess[str]:
        command = [self._program, *words]
        try:
            return subprocess.run(
                command, env=self._environment, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise CheckFailed(f"infrakit {' '.join(words)}: timeout after {timeout_s:.0f} s") from error

    def do(self, *words: str) -> str:
        """Run a command, which must succeed."""
        done = self.run(*words)
        if done.returncode:
            raise CheckFailed(f"infrakit {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def groups(self) -> dict[str, Facts]:
        """Return every group by name; none until the daemon listens."""
        if self.daemon.poll() is not None:
            raise CheckFailed(f"`infrakit up` exited with code {self.daemon.returncode}")
        answer = self.run("status", "--output", "json").stdout
        return {each["Name"]: each for each in json.loads(answer)["Groups"]} if answer.strip() else {}

    def converged(self) -> bool:
        groups = self.groups()
        return len(groups) == 2 and all(each["Converged"] for each in groups.values())

    def stop(self) -> None:
        """Stop the daemon and every server, after success and after failure."""
        if self.daemon.poll() is None:
            with contextlib.suppress(CheckFailed):
                self.run("down", "--yes", "--timeout", "15s", timeout_s=20)
            self.daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.daemon.wait(5)
            self.daemon.kill()
            self.daemon.wait()
        for address in (*WORKERS, *PETS):
            facts = ask(address)
            if facts is not None:
                os.kill(facts["pid"], signal.SIGKILL)

    def recent_logs(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])


@dataclasses.dataclass
class Watch:
    """Polls the workers continuously: records replacements, and how many were unavailable at once."""

    timeline: Timeline
    pids: dict[Address, int]
    unavailable_max: int = 0
    replaced: int = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _watch(self, done: threading.Event) -> None:
        while not done.is_set():
            answers = {address: ask(address) for address in self.pids}
            self.unavailable_max = max(self.unavailable_max, sum(each is None for each in answers.values()))
            for address, facts in answers.items():
                if facts is not None and facts["pid"] != self.pids[address]:
                    self.pids[address] = facts["pid"]
                    self.replaced += 1
                    self.timeline.log(f"        worker {facts['worker']} is back with version {facts['version']}")
            done.wait(0.01)


def start(infrakit: Infrakit, timeline: Timeline) -> None:
    wait_for("both groups to converge", infrakit.converged)
    workers, pets = ask_all(WORKERS[:3]), ask_all(PETS)
    timeline.check({each["version"] for each in workers} == {"1"}, "3 web workers respond with version 1")
    addresses = [each["address"] for each in pets]
    timeline.check(addresses == [host for host, _ in PETS], f"3 counters respond at {', '.join(addresses)}")


def count(timeline: Timeline) -> None:
    for number, address in enumerate(PETS, 1):
        for _ in range(10 * number):
            ask(address, "POST", "/incr")
    values = [each["value"] for each in ask_all(PETS)]
    timeline.check(values == [10, 20, 30], f"the values of the counters are {values}")


def kill(infrakit: Infrakit, timeline: Timeline) -> None:
    before = ask_all(PETS)
    victim, address = before[1], PETS[1]
    os.kill(victim["pid"], signal.SIGKILL)
    timeline.log(f"kill -9 {victim['pid']}, the counter at {victim['address']}")
    began = time.monotonic()

    def returned() -> Facts | None:
        facts = ask(address)
        return facts if facts is not None and facts["pid"] != victim["pid"] else None

    after = wait_for("a replacement of the counter", returned)
    took_s = time.monotonic() - began
    same = (after["address"], after["value"], after["boots"]) == (victim["address"], victim["value"], 2)
    timeline.check(same, f"{after['address']} is back after {took_s:.1f} s, its value is still {after['value']}")
    wait_for("both groups to converge", infrakit.converged)
    others = [each["pid"] for each in ask_all(PETS)]
    untouched = others[0] == before[0]["pid"] and others[2] == before[2]["pid"]
    timeline.check(untouched, "the other two counters were not touched")


def scale(infrakit: Infrakit, timeline: Timeline) -> None:
    before = [each["pid"] for each in ask_all(WORKERS[:3])]
    infrakit.do("group", "scale", "web", "5", "-m", "more visitors")
    wait_for("5 workers", lambda: all(ask(address) for address in WORKERS))
    wait_for("both groups to converge", infrakit.converged)
    after = [each["pid"] for each in ask_all(WORKERS)]
    timeline.check(after[:3] == before, "web has 5 workers, the first 3 were not touched")


def rolling_update(infrakit: Infrakit, timeline: Timeline, directory: Path) -> None:
    edited = directory / "edited.yaml"
    text = DECLARATION.read_text()
    edited.write_text(text.replace('version: "1"', 'version: "2"', 1).replace("Size: 3", "Size: 5", 1))
    counters = [each["pid"] for each in ask_all(PETS)]
    watch = Watch(timeline, {address: each["pid"] for address, each in zip(WORKERS, ask_all(WORKERS), strict=True)})
    with watch.watching():
        infrakit.do("commit", str(edited), "-m", "version 2")
        timeline.log("version 2 of web is committed")
        wait_for("a replacement of every worker", lambda: watch.replaced >= len(WORKERS))
        wait_for("both groups to converge", infrakit.converged)
    versions = {each["version"] for each in ask_all(WORKERS)}
    timeline.check(versions == {"2"}, "all 5 workers respond with version 2")
    timeline.check(watch.replaced == len(WORKERS), "each was replaced exactly once")
    timeline.check(watch.unavailable_max == 1, "at most one of them was unavailable at any time")
    timeline.check([each["pid"] for each in ask_all(PETS)] == counters, "the counters were not touched")


def tear_down(infrakit: Infrakit, timeline: Timeline) -> None:
    infrakit.do("down", "--yes")
    code = infrakit.daemon.wait(10)
    left = [f"{host}:{port}" for host, port in (*WORKERS, *PETS) if ask((host, port)) is not None]
    timeline.check(not left, f"no server is left running {' '.join(left)}".rstrip())
    timeline.check(code == 0, "the daemon exited with code 0")


def refuse_if_in_use() -> None:
    """Refuse to start if an address is in use: another quickstart may be running."""
    for host, port in (*WORKERS, *PETS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise CheckFailed(
                    f"{host}:{port} is in use ({error.strerror}): stop what listens there; if it is the demo: "
                    "INFRAKIT_HOME=.demo .venv/bin/infrakit down"
                ) from error


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also when the terminal is closed
        signal.signal(number, signal.default_int_handler)
    timeline = Timeline()
    infrakit = None
    with tempfile.TemporaryDirectory(prefix="ik") as directory:  # short, as the path of a socket has at most 107 bytes
        try:
            refuse_if_in_use()
            infrakit = Infrakit(Path(directory) / "home")
            timeline.log(f"infrakit up {DECLARATION.name}")
            start(infrakit, timeline)
            count(timeline)
            kill(infrakit, timeline)
            scale(infrakit, timeline)
            rolling_update(infrakit, timeline, Path(directory))
            tear_down(infrakit, timeline)
            timeline.log("every check has passed")
        except KeyboardInterrupt:
            print("\nstopping everything", file=sys.stderr)
            return 130
        except CheckFailed as error:
            print(f"\ncheck: {error}", file=sys.stderr)
            if infrakit is not None:
                print(f"the last lines of `infrakit up`:\n{infrakit.recent_logs()}", file=sys.stderr)
            return 1
        finally:
            if infrakit is not None:
                infrakit.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
