"""One command on an empty machine: it creates a cluster of which that machine is an ordinary member.

    python3 examples/seed/seed.py            start it; Ctrl-C stops it
    python3 examples/seed/seed.py --check    inject faults and check every guarantee

It needs the `infrakit` command and etcd (Debian: etcd-server, etcd-client), works in a temporary directory, and prints
a timeline. With --check, it exits with code 1 at the first check that fails.
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

sys.path.insert(0, str(Path(__file__).parents[1]))  # where timeline.py is
from timeline import TIMEOUT_S, CheckFailed, Timeline, wait_for

HERE = Path(__file__).parent
MACHINES = ("127.0.30.1", "127.0.30.2", "127.0.30.3")
SEED = MACHINES[0]
STORE = "etcd://" + ",".join(f"{machine}:13379" for machine in MACHINES) + "/infrakit"
COMMAND = f"infrakit init infrakit.yaml --store {STORE} | sh"

Facts = dict[str, Any]


class Machine:
    """An empty machine: a directory that does not exist yet."""

    def __init__(self, home: Path) -> None:
        self.home = home
        bin_directory = Path(sys.executable).parent
        path = f"{bin_directory}:{os.environ['PATH']}" if (bin_directory / "infrakit").exists() else os.environ["PATH"]
        for program in ("infrakit", "etcd", "etcdctl"):
            if shutil.which(program, path=path) is None:
                raise CheckFailed(
                    f"{program} is not installed: python -m pip install . in a clone; "
                    "apt-get install etcd-server etcd-client"
                )
        self.environment = {**os.environ, "PATH": path, "INFRAKIT_HOME": str(home), "NO_COLOR": "1"}
        self.timeline = Timeline()
        self.log, self.check = self.timeline.log, self.timeline.check

    def seed(self) -> None:
        """Run the one command that creates the cluster."""
        self.log(COMMAND)
        done = self._run(["sh", "-c", COMMAND])
        for line in done.stdout.splitlines():
            self.log(f"        {line}")
        if done.returncode or done.stderr:
            raise CheckFailed(f"exit code {done.returncode}: {done.stderr.strip()}")

    def ask(self, *words: str, lines: bool = False) -> Any:
        """Run a command at the first replica that responds; None: none does. `lines`: one JSON document per line."""
        for machine in MACHINES:
            with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
                done = self._run(["infrakit", *words, "-o", "json"], INFRAKIT_HOST=f"http://{machine}:24864")
                if done.returncode == 0:
                    return [json.loads(line) for line in done.stdout.splitlines()] if lines else json.loads(done.stdout)
        return None

    def complete(self) -> dict[str, Facts]:
        """Wait for three members that match the declaration and are healthy, and return them by address."""

        def members() -> dict[str, Facts]:
            status = self.ask("status")
            if not status or not all(group["Converged"] for group in status["Groups"]):
                return {}
            found = {each["LogicalID"]: each for each in self.ask("instance", "ls") or ()}
            return found if set(found) == set(MACHINES) else {}

        found: dict[str, Facts] = wait_for("three members", members)
        return found

    def etcd(self) -> dict[str, str]:
        """Return the members of etcd and their IDs, as etcd lists them."""
        endpoints = ",".join(f"http://{machine}:13379" for machine in MACHINES)
        done = self._run(["etcdctl", f"--endpoints={endpoints}", "member", "list"], ETCDCTL_API="3")
        fields = [line.split(", ") for line in done.stdout.splitlines()]
        return {each[2]: each[0] for each in fields}

    def tear_down_from_outside(self) -> None:
        """Destroy the cluster from outside with `infrakit down`: no replica may destroy its own machine."""
        refused = self._run(["infrakit", "down", "--yes"], INFRAKIT_HOST=f"http://{MACHINES[1]}:24864")
        self.check(
            refused.returncode == 2 and "it would destroy its own machine" in refused.stderr,
            "no replica destroys its own machine",
        )
        self.log("infrakit down infrakit.yaml --yes")
        done = self._run(["infrakit", "down", "infrakit.yaml", "--yes"])
        for line in done.stdout.splitlines():
            self.log(f"        {line}")
        if done.returncode:
            raise CheckFailed(f"exit code {done.returncode}: {done.stderr.strip()}")

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[], str]]:
        """Run `infrakit up` from outside during the block; yields a function that returns its output so far."""
        self.log("infrakit up infrakit.yaml")
        log = self.home.parent / "view"
        with log.open("w") as file:
            view = subprocess.Popen(
                ["infrakit", "up", "infrakit.yaml"], cwd=HERE, env=self.environment, stdout=file, stderr=file
            )
        try:
            wait_for("the start of the view", lambda: "Ctrl-C" in log.read_text())
            yield log.read_text
            lines = log.read_text().splitlines()
            for line in lines:
                self.log(f"        {line[:110]}")
            self.check(view.poll() is None, "the view continues through another replica")
        finally:
            view.send_signal(signal.SIGINT)
            view.wait(TIMEOUT_S)

    def kill(self, machine: str) -> None:
        """Simulate a power failure: no process on the machine runs another instruction."""
        pids = self.processes(f"INFRAKIT_LOGICAL_ID={machine}")
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that no process sees another exit
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def processes(self, mark: str = "") -> list[int]:
        """Return the processes of the provider's instances that have `mark` in their environment."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    words = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
                    ours = any(word.startswith(f"INFRAKIT_DIRECTORY={self.home.resolve()}/") for word in words)
                    if ours and (not mark or mark in words):
                        found.append(int(entry.name))
        return found

    def stop_everything(self) -> None:
        """Kill every process of this example. Repeats, because replicas that still run recreate what was killed."""
        while pids := self.processes():
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
            time.sleep(0.05)

    def recent_logs(self) -> str:
        """Return the last lines that the machines have logged."""
        logs = [log for log in sorted((self.home / "local").rglob("log")) if log.is_file()]
        return "\n".join(
            f"--- {log.relative_to(self.home)}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            for log in logs
        )

    def _run(self, words: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | variables
        return subprocess.run(
            words, cwd=HERE, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )


def check(machine: Machine) -> None:
    machine.seed()
    members = machine.complete()
    first_ids = {name: each["ID"] for name, each in members.items()}
    machine.check(set(machine.etcd()) == set(MACHINES), f"three members of etcd at {', '.join(MACHINES)}")
    tags = {name: each["Tags"] for name, each in members.items()}
    machine.check(
        tags[SEED]["infrakit.token"].startswith("bootstrap-")
        and len({each["infrakit.config.hash"] for each in tags.values()}) == 1
        and all(each["UpToDate"] for each in members.values()),
        f"the seed is still {first_ids[SEED]}, adopted and relabelled like every other member",
    )
    events = machine.ask("events", lines=True)
    destroyed = [each for each in events or () if each["Type"] in ("destroying", "terminated")]
    machine.check(bool(events) and not destroyed, "no instance was destroyed or replaced")

    machine.seed()
    second_ids = {name: each["ID"] for name, each in machine.complete().items()}
    machine.check(second_ids == first_ids, "the same command is idempotent: a second run creates nothing")

    before = machine.etcd()
    with machine.watched() as printed:
        machine.kill(SEED)
        machine.log(f"kill -9 of all processes on {SEED}, the seed")
        wait_for("a replacement of the seed", lambda: seed_instance(machine) not in ("", first_ids[SEED]))
        wait_for("its recovery in the view", lambda: f"etcd/{SEED} {seed_instance(machine)}: follows" in printed())
    after = {name: each["ID"] for name, each in machine.complete().items()}
    others = {name: each for name, each in first_ids.items() if name != SEED}
    machine.check(
        machine.etcd() == before and others.items() <= after.items(),
        f"the seed was recreated as {after[SEED]}: the same member of etcd, no other instance touched",
    )

    machine.tear_down_from_outside()
    machine.check(not machine.processes(), "destroyed from outside: no process is left")


def seed_instance(machine: Machine) -> str:
    """Return the current instance at the address of the seed; empty if there is none or it is unknown."""
    listed = machine.ask("instance", "ls") or ()
    return next((each["ID"] or "" for each in listed if each["LogicalID"] == SEED), "")


def run_until_interrupted(machine: Machine) -> None:
    machine.seed()
    machine.complete()
    print(f"\nIn another terminal:\n  export INFRAKIT_HOST=http://{SEED}:24864\n  infrakit leader")
    print("  infrakit status --watch\n\nCtrl-C stops everything.\n", flush=True)
    signal.pause()


def refuse_if_in_use() -> None:
    """Refuse to start if an address is in use: another cluster may be running."""
    for host, port in [(machine, port) for machine in MACHINES for port in (13379, 24864)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise CheckFailed(
                    f"{host}:{port} is in use ({error.strerror}): stop the process that listens there"
                ) from error


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also when the terminal is closed
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ik", dir="/tmp", ignore_cleanup_errors=True) as directory:
        machine = None
        try:
            refuse_if_in_use()
            machine = Machine(Path(directory) / "machine")
            (check if "--check" in sys.argv[1:] else run_until_interrupted)(machine)
        except KeyboardInterrupt:
            print("\nstopping every machine")
        except CheckFailed as error:
            print(f"\nseed: {error}", file=sys.stderr)
            if machine is not None:
                print(machine.recent_logs(), file=sys.stderr)
            return 1
        finally:
            if machine is not None:
                machine.stop_everything()
    return 0


if __name__ == "__main__":
    sys.exit(main())
