"""One command on an empty machine: it grows a cluster, and is a member of it like any other from then on.

    python3 examples/seed/seed.py            start it, and show how it stands; Ctrl-C ends it
    python3 examples/seed/seed.py --check    break it by itself, and hold every promise to account

It needs the `infrakit` command and etcd (Debian: etcd-server, etcd-client), works in a temporary directory, and prints
a timeline. With --check, it ends with exit code 1 at the first promise that is not kept.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MACHINES = ("127.0.30.1", "127.0.30.2", "127.0.30.3")
SEED = MACHINES[0]
STORE = "etcd://" + ",".join(f"{machine}:13379" for machine in MACHINES) + "/infrakit"
COMMAND = f"infrakit init infrakit.yaml --store {STORE} | sh"
PATIENCE_S = 90.0

Facts = dict[str, Any]


class Broken(Exception):
    """A promise was not kept, or nothing happened for too long."""


class Machine:
    """The bare machine: a directory that does not exist yet."""

    def __init__(self, home: Path) -> None:
        self.home = home
        beside = Path(sys.executable).parent
        path = f"{beside}:{os.environ['PATH']}" if (beside / "infrakit").exists() else os.environ["PATH"]
        for program in ("infrakit", "etcd", "etcdctl"):
            if shutil.which(program, path=path) is None:
                raise Broken(
                    f"there is no {program}: python -m pip install . in a clone; "
                    "apt-get install etcd-server etcd-client"
                )
        self.environment = {**os.environ, "PATH": path, "INFRAKIT_HOME": str(home), "NO_COLOR": "1"}
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    def promise(self, kept: bool, text: str) -> None:
        self.say(f"{'kept   ' if kept else 'BROKEN '} {text}")
        if not kept:
            raise Broken(text)

    def seed(self) -> None:
        """The one command."""
        self.say(COMMAND)
        done = self._run(["sh", "-c", COMMAND])
        for line in done.stdout.splitlines():
            self.say(f"        {line}")
        if done.returncode or done.stderr:
            raise Broken(f"exit code {done.returncode}: {done.stderr.strip()}")

    def ask(self, *words: str, lines: bool = False) -> Any:
        """The answer of the first replica that answers a command; None: none does. `lines`: one JSON text in each."""
        for machine in MACHINES:
            with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
                done = self._run(["infrakit", *words, "-o", "json"], INFRAKIT_HOST=f"http://{machine}:24864")
                if done.returncode == 0:
                    return [json.loads(line) for line in done.stdout.splitlines()] if lines else json.loads(done.stdout)
        return None

    def complete(self) -> dict[str, Facts]:
        """The members by address, once there are three, all instances match the declaration and are proven healthy."""

        def members() -> dict[str, Facts]:
            status = self.ask("status")
            if not status or not all(group["Converged"] for group in status["Groups"]):
                return {}
            found = {each["LogicalID"]: each for each in self.ask("instance", "ls") or ()}
            return found if set(found) == set(MACHINES) else {}

        found: dict[str, Facts] = self.wait_for("three members", members)
        return found

    def etcd(self) -> dict[str, str]:
        """The members of etcd and their IDs, as etcd lists them."""
        endpoints = ",".join(f"http://{machine}:13379" for machine in MACHINES)
        done = self._run(["etcdctl", f"--endpoints={endpoints}", "member", "list"], ETCDCTL_API="3")
        fields = [line.split(", ") for line in done.stdout.splitlines()]
        return {each[2]: each[0] for each in fields}

    def end_in_order(self) -> None:
        """Nobody ends the machine that he runs on: one command outside halts who is inside, and does it."""
        refused = self._run(["infrakit", "down", "--yes"], INFRAKIT_HOST=f"http://{MACHINES[1]}:24864")
        self.promise(refused.returncode == 2 and "it would end itself" in refused.stderr, "no replica ends itself")
        self.say("infrakit down infrakit.yaml --yes")
        done = self._run(["infrakit", "down", "infrakit.yaml", "--yes"])
        for line in done.stdout.splitlines():
            self.say(f"        {line}")
        if done.returncode:
            raise Broken(f"exit code {done.returncode}: {done.stderr.strip()}")

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[], str]]:
        """Beside a view of the cluster, from outside; answers what that has said so far."""
        self.say("infrakit up infrakit.yaml")
        log = self.home.parent / "view"
        with log.open("w") as file:
            view = subprocess.Popen(
                ["infrakit", "up", "infrakit.yaml"], cwd=HERE, env=self.environment, stdout=file, stderr=file
            )
        try:
            self.wait_for("the view", lambda: "Ctrl-C" in log.read_text())
            yield log.read_text
            lines = log.read_text().splitlines()
            for line in lines:
                self.say(f"        {line[:110]}")
            self.promise(view.poll() is None, "whoever watches goes on watching, through another replica")
        finally:
            view.send_signal(signal.SIGINT)
            view.wait(PATIENCE_S)

    def kill(self, machine: str) -> None:
        """Its power fails: nothing on it runs another instruction."""
        pids = self.processes(f"INFRAKIT_LOGICAL_ID={machine}")
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none sees another die
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def processes(self, mark: str = "") -> list[int]:
        """What runs here as an instance of the provider, with this in its environment."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    words = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
                    ours = any(word.startswith(f"INFRAKIT_DIRECTORY={self.home.resolve()}/") for word in words)
                    if ours and (not mark or mark in words):
                        found.append(int(entry.name))
        return found

    def end(self) -> None:
        """Leave nothing running, whatever happened: what dies is made again while anybody lives."""
        while pids := self.processes():
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
            time.sleep(0.05)

    def wait_for(self, what: str, condition: Callable[[], Any]) -> Any:
        """Look again and again until it is true; answers what the condition did."""
        deadline = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise Broken(f"{what}: not within {PATIENCE_S:.0f} s")
            time.sleep(0.1)
        return value

    def last_words(self) -> str:
        """What the machines have printed last."""
        logs = [log for log in sorted((self.home / "local").rglob("log")) if log.is_file()]
        return "\n".join(
            f"--- {log.relative_to(self.home)}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            for log in logs
        )

    def _run(self, words: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | variables
        return subprocess.run(
            words, cwd=HERE, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )


def check(machine: Machine) -> None:
    machine.seed()
    members = machine.complete()
    made = {name: each["ID"] for name, each in members.items()}
    machine.promise(set(machine.etcd()) == set(MACHINES), f"three members of etcd at {', '.join(MACHINES)}")
    tags = {name: each["Tags"] for name, each in members.items()}
    machine.promise(
        tags[SEED]["infrakit.token"].startswith("bootstrap/")
        and len({each["infrakit.config.hash"] for each in tags.values()}) == 1
        and all(each["UpToDate"] for each in members.values()),
        f"the seed is {made[SEED]} still, adopted and relabelled: it counts as every other member",
    )
    events = machine.ask("events", lines=True)
    destroyed = [each for each in events or () if each["Type"] in ("destroying", "gone")]
    machine.promise(bool(events) and not destroyed, "nothing was destroyed or rolled on the way")

    machine.seed()
    again = {name: each["ID"] for name, each in machine.complete().items()}
    machine.promise(again == made, "a second time, the same command makes nothing")

    before = machine.etcd()
    with machine.watched() as said:
        machine.kill(SEED)
        machine.say(f"kill -9 of everything on {SEED}, the seed")
        machine.wait_for("another machine", lambda: bearer(machine) not in ("", made[SEED]))
        machine.wait_for("the end of it in the view", lambda: f"etcd/{SEED} {bearer(machine)}: follows" in said())
    after = {name: each["ID"] for name, each in machine.complete().items()}
    others = {name: each for name, each in made.items() if name != SEED}
    machine.promise(
        machine.etcd() == before and others.items() <= after.items(),
        f"it came back like any other, as {after[SEED]}: the same member, and nobody else was touched",
    )

    machine.end_in_order()
    machine.promise(not machine.processes(), "halted, and ended from outside: nothing of it is left running")


def bearer(machine: Machine) -> str:
    """The instance that bears the seed's address now; empty: none does, or nobody can tell."""
    listed = machine.ask("instance", "ls") or ()
    return next((each["ID"] or "" for each in listed if each["LogicalID"] == SEED), "")


def stay(machine: Machine) -> None:
    machine.seed()
    machine.complete()
    print(f"\nIn another terminal:\n  export INFRAKIT_HOST=http://{SEED}:24864\n  infrakit leader")
    print("  infrakit status --watch\n\nCtrl-C ends it all.\n", flush=True)
    signal.pause()


def refuse_if_taken() -> None:
    """Somebody's own cluster may be running: leave it alone."""
    for host, port in [(machine, port) for machine in MACHINES for port in (13379, 24864)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise Broken(f"{host}:{port} is taken ({error.strerror}): end what listens there first") from error


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also where the terminal is closed
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ik", dir="/tmp", ignore_cleanup_errors=True) as directory:
        machine = None
        try:
            refuse_if_taken()
            machine = Machine(Path(directory) / "machine")
            (check if "--check" in sys.argv[1:] else stay)(machine)
        except KeyboardInterrupt:
            print("\nending every machine")
        except Broken as error:
            print(f"\nseed: {error}", file=sys.stderr)
            if machine is not None:
                print(machine.last_words(), file=sys.stderr)
            return 1
        finally:
            if machine is not None:
                machine.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
