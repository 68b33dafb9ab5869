"""A reader who types what a page says, in a directory of their own, and compares what they see.

The lines after a command must occur in its output, in their order; others may stand between. Numbers, times, instance
IDs and version names are another's every time, so only their kind is compared; but what a page calls `4711` and really
is 8812 is 8812 in the commands that follow. Every command must succeed unless `# exit code 2` stands behind it.

`infrakit up` and `make demo` go on in the background, and `^C` ends the newest of them; they are waited for until
everything is converged, or with `# acts on nothing` behind them until they answer. The quickstart's addresses and
ports, those of etcd, and where the replicas of the Swarm listen, are moved aside, files and commands alike, so that
pages can be read at the same time.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Self

from tests.docs import nodes
from tests.docs.pages import ROOT

PATIENCE_S = 150.0
HOME = "/home/ann"  # what pages call the reader's home
DEMO = "INFRAKIT_HOME=.demo infrakit up examples/quickstart/infrakit.yaml"  # what `make demo` runs
_ENDLESS = re.compile(r"infrakit .*(--follow|--watch|-f\b|-w\b)|infrakit metadata watch ")
_SERVES = re.compile(r"^infrakit plugin start |^node .*plugin\.js ")
_KINDS = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z"), "MOMENT"),
    (re.compile(r"\b(\d+h)?(\d+m)?\d+(\.\d+)?m?s\b"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? s\b"), "TIME"),
    (re.compile(r"\b[a-z]+-[0-9a-f]{12}\b"), "INSTANCE"),
    (re.compile(r"\b(version|declared is) [a-z2-7]{8}\b"), "VERSION"),
    (re.compile(r"^\S+ \(pid"), "HOST (pid"),
    (re.compile(r"(pid \d+) on [^\s,]+"), r"\1 on HOST"),
    (re.compile(r"\d+"), "0"),
    (re.compile(r"\s+"), " "),
)
# What a terminal keeps from one command to the next.
_FOUND = "set -a; [ -f .env ] && . ./.env; set +a"
_KEEP = "export -p | grep -E 'INFRAKIT_|PATH=' | sed 's/^declare -x //' > .env"


def kind_of(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, kind in _KINDS:
        line = pattern.sub(kind, line)
    return line.strip()


class Disappointed(AssertionError):
    """A page has promised something else."""


class Reader:
    """A context manager; `place` must have a short path, because unix sockets must."""

    def __init__(self, place: Path, *, patience_s: float = PATIENCE_S, **environment: str) -> None:
        self.place = place
        self._patience_s = patience_s
        self.met: dict[str, str] = {}  # what a page calls something -> what it really is
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._net = f"127.{os.getpid() >> 7 & 127 | 128}.{os.getpid() & 127 | 128}."
        self._ports = 20_000 + os.getpid() % 1000 * 10
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(place),
            "INFRAKIT_USER": "ann",
            "NO_COLOR": "1",
            "COLUMNS": "200",
            "PYTHONPATH": str(place / "site"),
            "PYTHONPYCACHEPREFIX": os.environ.get("PYTHONPYCACHEPREFIX", ""),
            **environment,
        }
        shutil.copytree(ROOT / "examples", place / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        for document in (*place.rglob("*.yaml"), *place.rglob("*.yaml.j2")):
            document.write_text(self.moved(document.read_text()))

    def moved(self, text: str) -> str:
        """With everything moved aside that only one reader can have."""
        text = re.sub(r"\b23(?:79|80)\b", lambda m: str(self._ports + (7 if m[0] == "2379" else 8)), text)
        text = re.sub(r"\b810(\d)\b", lambda m: str(self._ports + int(m[1])), text)
        return text.replace("127.0.10.", self._net).replace("/run/infrakit-swarm", str(nodes.run(self.place)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self._daemons:
            daemon.kill()
            daemon.wait()
        mark = str(self.place).encode()
        for process in Path("/proc").glob("[0-9]*"):  # instances outlive their daemon: that is their point
            try:
                ours = mark in (process / "environ").read_bytes()
            except OSError:
                continue
            if ours:
                os.kill(int(process.name), signal.SIGKILL)

    # -- reading ---------------------------------------------------------------------------------------------------

    def console(self, text: str) -> None:
        """A block of `$ commands` with what they print."""
        command, shown = "", list[str]()
        for line in [*text.splitlines(), "$ true"]:
            if line.startswith("$ "):
                if command:
                    self._type(command, shown)
                command, shown = line[2:], []
            elif command.endswith("\\"):
                command = f"{command[:-1]}{line.strip()}"
            elif line == "^C":
                self._type(command, shown)
                self._interrupt()
                command, shown = "", []
            else:
                shown.append(line)

    def _type(self, command: str, shown: list[str]) -> None:
        command, _, note = command.partition("  # ")
        expected = re.match(r"exit code (\d+)", note)
        code = int(expected[1]) if expected else 0
        command = self.moved(re.sub(r"[\w.-]+", lambda m: self.met.get(m[0], m[0]), command.strip()))
        if command.startswith("make "):
            command = self._make(command.split()[1])
        if command.startswith("python -m pip install ./"):
            self._install(self.place / command.removeprefix("python -m pip install "))
        elif re.search(r"\binfrakit up\b", command) and not expected:
            self._up(command, acts=note != "acts on nothing")
        elif _SERVES.search(command) and not expected:
            self._serve(command)
        elif _ENDLESS.search(command):
            self._glance(command, shown)
        else:
            self._run(command, code, shown)

    def _run(self, command: str, code: int, shown: list[str]) -> None:
        done = subprocess.run(
            ["/bin/bash", "-c", f"{_FOUND}\n{command}\ncode=$?\n{_KEEP}\nexit $code"],
            cwd=self.place,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self._patience_s,
            check=False,
        )
        if done.returncode != code:
            raise Disappointed(f"$ {command}\nexit code {done.returncode}, not {code}\n{done.stdout}")
        self._compare(command, shown, done.stdout)

    def _compare(self, command: str, shown: list[str], printed: str) -> None:
        real = iter(printed.replace(str(self.place), HOME).splitlines())
        for line in shown:
            if not line.strip() or line.strip() == "...":
                continue
            for each in real:
                if kind_of(self.moved(line)) == kind_of(each):
                    self._meet(line, each)
                    break
            else:
                raise Disappointed(f"$ {command}\ndid not print:\n{line}\nbut:\n{printed}")

    def _meet(self, line: str, real: str) -> None:
        """Names in this line of the page that are other names in reality."""
        words, found = re.findall(r"[\w.-]+", line), re.findall(r"[\w.-]+", real)
        if len(words) == len(found):
            pairs = zip(words, found, strict=True)
            self.met |= {a: b for a, b in pairs if a != b and re.fullmatch(r"\d{4,}|[a-z]+-[0-9a-f]{12}", a)}

    # -- what is special -------------------------------------------------------------------------------------------

    def _make(self, target: str) -> str:
        """Only the demo is run: the other targets are continuous integration's, and must exist here."""
        command = ["make", "--dry-run", target]
        alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        told = subprocess.run(
            command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=self._patience_s, check=False
        )
        if told.returncode:
            raise Disappointed(f"make {target}: {told.stderr}")
        if target != "demo":
            return "true"
        if told.stdout.splitlines()[-1].replace(".venv/bin/", "") != DEMO:
            raise Disappointed(f"make demo runs {told.stdout.splitlines()[-1]}, not {DEMO}")
        return DEMO

    def _install(self, project: Path) -> None:
        """As pip would in an editable way: the package on the path, and its entry points as metadata."""
        declared = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        site = self.place / "site"
        metadata = site / f"{declared['name'].replace('-', '_')}-{declared['version']}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Name: {declared['name']}\nVersion: {declared['version']}\n")
        lines = []
        for group, entries in declared["entry-points"].items():
            lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        for module in project.glob("*.py"):
            shutil.copy(module, site)

    def _start(self, command: str) -> tuple[subprocess.Popen[bytes], Path]:
        """A program that goes on in the background, and where it prints."""
        log = self.place / f"background-{len(self._daemons)}.log"
        with log.open("wb") as out:
            program = subprocess.Popen(
                ["/bin/bash", "-c", f"{_FOUND}\nexec env {command}"],
                cwd=self.place,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self._daemons.append(program)
        return program, log

    def _serve(self, command: str) -> None:
        """A plugin; it says so once it listens."""
        program, log = self._start(command)
        deadline = time.monotonic() + self._patience_s
        while not re.search("serv(es|ing) ", log.read_text()):
            if program.poll() is not None or time.monotonic() > deadline:
                raise Disappointed(f"$ {command}\n{log.read_text()}")
            time.sleep(0.05)

    def _up(self, command: str, *, acts: bool) -> None:
        daemon, log = self._start(command)
        home = next((f"{word} " for word in command.split() if word.startswith("INFRAKIT_HOME=")), "")
        deadline = time.monotonic() + self._patience_s
        while not self._converged(f"{home}infrakit status -o json", acts=acts):
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise Disappointed(f"$ {command}\n{log.read_text()}")
            time.sleep(0.05)

    def _converged(self, question: str, *, acts: bool) -> bool:
        asked = subprocess.run(
            ["/bin/bash", "-c", f"{_FOUND}\n{question} 2>/dev/null"],
            cwd=self.place,
            env=self._environment,
            capture_output=True,
            check=False,
        )
        if not acts:
            return bool(asked.stdout.strip())
        groups = json.loads(asked.stdout)["Groups"] if asked.stdout.strip() else []
        return bool(groups) and all(group["Converged"] for group in groups)

    def _interrupt(self) -> None:
        self._daemons[-1].send_signal(signal.SIGINT)
        self._daemons[-1].wait(self._patience_s)

    def _glance(self, command: str, shown: list[str]) -> None:
        """Look at what never ends, until everything shown was seen."""
        with subprocess.Popen(
            ["/bin/bash", "-c", f"{_FOUND}\nexec env {command}"],
            cwd=self.place,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as looking:
            assert looking.stdout is not None
            printed = looking.stdout.readline() if shown or "status" in command else ""
            looking.kill()
        self._compare(command, shown[:1], printed)
