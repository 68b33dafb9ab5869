"""The quickstart by itself: start, count, kill, scale, roll, end, and hold every promise to account.

    python3 examples/quickstart/check.py

It needs the `infrakit` command, on PATH or beside this interpreter, and the quickstart's own addresses to be free.
It works in a temporary home, prints a timeline, and ends with exit code 1 at the first promise that is not kept.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DECLARATION = Path(__file__).parent / "infrakit.yaml"
WORKERS = [("127.0.0.1", 8100 + worker) for worker in range(1, 6)]
PETS = [(f"127.0.10.{pet}", 7070) for pet in range(1, 4)]
PATIENCE_S = 90.0

Address = tuple[str, int]
Facts = dict[str, Any]


class Broken(Exception):
    """A promise was not kept."""


class Timeline:
    """Lines with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        print(f"{self.seconds():6.1f} s  {text}", flush=True)

    def promise(self, kept: bool, text: str) -> None:
        self.say(f"{'kept   ' if kept else 'BROKEN '} {text}")
        if not kept:
            raise Broken(text)


def ask(address: Address, method: str = "GET", path: str = "/") -> Facts | None:
    """What the server there tells of itself; None if it does not answer."""
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
    """All of them must answer."""
    answers = {address: ask(address) for address in addresses}
    silent = [f"{host}:{port}" for (host, port), facts in answers.items() if facts is None]
    if silent:
        raise Broken(f"no answer from {', '.join(silent)}")
    return [facts for facts in answers.values() if facts is not None]


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    """Look again and again until it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Broken(f"{what}: not within {PATIENCE_S:.0f} s")
        time.sleep(0.02)
    return value


class Infrakit:
    """The command line in a home of its own, and the daemon that it started."""

    def __init__(self, home: Path) -> None:
        beside = Path(sys.executable).with_name("infrakit")
        program = str(beside) if beside.exists() else shutil.which("infrakit")
        if program is None:
            raise Broken("there is no command `infrakit` on PATH: `make demo-check` sees to it")
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

    def run(self, *words: str, timeout_s: float = PATIENCE_S + 10) -> subprocess.CompletedProcess[str]:
        command = [self._program, *words]
        try:
            return subprocess.run(
                command, env=self._environment, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Broken(f"infrakit {' '.join(words)}: no end after {timeout_s:.0f} s") from error

    def do(self, *words: str) -> str:
        """A command that must succeed."""
        done = self.run(*words)
        if done.returncode:
            raise Broken(f"infrakit {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def groups(self) -> dict[str, Facts]:
        """Every group by name; none while there is no daemon yet."""
        if self.daemon.poll() is not None:
            raise Broken(f"`infrakit up` ended with exit code {self.daemon.returncode}")
        answer = self.run("status", "--output", "json").stdout
        return {each["Name"]: each for each in json.loads(answer)["Groups"]} if answer.strip() else {}

    def converged(self) -> bool:
        groups = self.groups()
        return len(groups) == 2 and all(each["Converged"] for each in groups.values())

    def stop(self) -> None:
        """Whatever happened: leave nothing behind."""
        if self.daemon.poll() is None:
            with contextlib.suppress(Broken):
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

    def last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])


@dataclasses.dataclass
class Watch:
    """Looks at the workers all the time: who was replaced when, and how many were away at once."""

    timeline: Timeline
    pids: dict[Address, int]
    away_max: int = 0
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
            self.away_max = max(self.away_max, sum(each is None for each in answers.values()))
            for address, facts in answers.items():
                if facts is not None and facts["pid"] != self.pids[address]:
                    self.pids[address] = facts["pid"]
                    self.replaced += 1
                    self.timeline.say(f"        worker {facts['worker']} is back with version {facts['version']}")
            done.wait(0.01)


def start(infrakit: Infrakit, timeline: Timeline) -> None:
    wait_for("both groups converged", infrakit.converged)
    workers, pets = ask_all(WORKERS[:3]), ask_all(PETS)
    timeline.promise({each["version"] for each in workers} == {"1"}, "3 web workers answer with version 1")
    addresses = [each["address"] for each in pets]
    timeline.promise(addresses == [host for host, _ in PETS], f"3 counters answer at {', '.join(addresses)}")


def count(timeline: Timeline) -> None:
    for number, address in enumerate(PETS, 1):
        for _ in range(10 * number):
            ask(address, "POST", "/incr")
    values = [each["value"] for each in ask_all(PETS)]
    timeline.promise(values == [10, 20, 30], f"the counters have counted to {values}")


def kill(infrakit: Infrakit, timeline: Timeline) -> None:
    before = ask_all(PETS)
    victim, address = before[1], PETS[1]
    os.kill(victim["pid"], signal.SIGKILL)
    timeline.say(f"kill -9 {victim['pid']}, the counter at {victim['address']}")
    began = time.monotonic()

    def returned() -> Facts | None:
        facts = ask(address)
        return facts if facts is not None and facts["pid"] != victim["pid"] else None

    after = wait_for("the counter returns", returned)
    took_s = time.monotonic() - began
    same = (after["address"], after["value"], after["boots"]) == (victim["address"], victim["value"], 2)
    timeline.promise(same, f"{after['address']} is back after {took_s:.1f} s, still at {after['value']}")
    wait_for("both groups converged", infrakit.converged)
    others = [each["pid"] for each in ask_all(PETS)]
    untouched = others[0] == before[0]["pid"] and others[2] == before[2]["pid"]
    timeline.promise(untouched, "the other two counters were left alone")


def scale(infrakit: Infrakit, timeline: Timeline) -> None:
    before = [each["pid"] for each in ask_all(WORKERS[:3])]
    infrakit.do("group", "scale", "web", "5", "-m", "more visitors")
    wait_for("5 workers answer", lambda: all(ask(address) for address in WORKERS))
    wait_for("both groups converged", infrakit.converged)
    after = [each["pid"] for each in ask_all(WORKERS)]
    timeline.promise(after[:3] == before, "web has 5 workers, the first 3 were left alone")


def roll(infrakit: Infrakit, timeline: Timeline, directory: Path) -> None:
    edited = directory / "edited.yaml"
    text = DECLARATION.read_text()
    edited.write_text(text.replace('version: "1"', 'version: "2"', 1).replace("Size: 3", "Size: 5", 1))
    counters = [each["pid"] for each in ask_all(PETS)]
    watch = Watch(timeline, {address: each["pid"] for address, each in zip(WORKERS, ask_all(WORKERS), strict=True)})
    with watch.watching():
        infrakit.do("commit", str(edited), "-m", "version 2")
        timeline.say("version 2 of web is committed")
        wait_for("every worker replaced", lambda: watch.replaced >= len(WORKERS))
        wait_for("both groups converged", infrakit.converged)
    versions = {each["version"] for each in ask_all(WORKERS)}
    timeline.promise(versions == {"2"}, "all 5 workers answer with version 2")
    timeline.promise(watch.replaced == len(WORKERS), "each was replaced once")
    timeline.promise(watch.away_max == 1, "never more than one of them was away")
    timeline.promise([each["pid"] for each in ask_all(PETS)] == counters, "the counters were left alone")


def end(infrakit: Infrakit, timeline: Timeline) -> None:
    infrakit.do("down", "--yes")
    code = infrakit.daemon.wait(10)
    left = [f"{host}:{port}" for host, port in (*WORKERS, *PETS) if ask((host, port)) is not None]
    timeline.promise(not left, f"nothing is left running {' '.join(left)}".rstrip())
    timeline.promise(code == 0, "the daemon ended with exit code 0")


def refuse_if_taken() -> None:
    """Somebody's own quickstart may be running: leave it alone."""
    for host, port in (*WORKERS, *PETS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise Broken(
                    f"{host}:{port} is taken ({error.strerror}): end what listens there first; if it is the demo: "
                    "INFRAKIT_HOME=.demo .venv/bin/infrakit down"
                ) from error


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also where the terminal is closed
        signal.signal(number, signal.default_int_handler)
    timeline = Timeline()
    infrakit = None
    with tempfile.TemporaryDirectory(prefix="ik") as directory:  # short: the path of a socket has at most 107 bytes
        try:
            refuse_if_taken()
            infrakit = Infrakit(Path(directory) / "home")
            timeline.say(f"infrakit up {DECLARATION.name}")
            start(infrakit, timeline)
            count(timeline)
            kill(infrakit, timeline)
            scale(infrakit, timeline)
            roll(infrakit, timeline, Path(directory))
            end(infrakit, timeline)
            timeline.say("that was all of it")
        except KeyboardInterrupt:
            print("\nending what it has started", file=sys.stderr)
            return 130
        except Broken as error:
            print(f"\ncheck: {error}", file=sys.stderr)
            if infrakit is not None:
                print(f"what `infrakit up` printed last:\n{infrakit.last_words()}", file=sys.stderr)
            return 1
        finally:
            if infrakit is not None:
                infrakit.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
