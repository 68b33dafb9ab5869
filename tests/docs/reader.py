"""A reader that runs the commands of a page in a separate directory and compares their output with the page.

The lines after a command must occur in its output, in their order; other lines may come between them. Numbers, times,
instance IDs and version names differ in each run, so only their kind is compared; but if the real value of `4711` on
a page is 8812, it is 8812 in the following commands. Every command must succeed unless `# exit code 2` follows it.

`infrakit up` and `make demo` run in the background, and `^C` stops the newest of them; the reader waits until
everything is converged, or, with `# acts on nothing` behind the command, until the daemon answers. The addresses and
ports of the quickstart and of etcd, and the sockets of the Swarm's replicas, are replaced in files and commands, so
that pages can be tested concurrently.
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
HOME = "/home/ann"  # the reader's home on the pages
DEMO = "INFRAKIT_HOME=.demo infrakit up examples/quickstart/infrakit.yaml"  # what `make demo` runs
_ENDLESS = re.compile(r"infrakit .*(--follow|--watch|-f\b|-w\b)|infrakit metadata watch ")
_INSTALLS = re.compile(r"python -m pip install (?:-e )?(\./\S+)")
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
# Keeps the variables of one command for the next, as a terminal does.
_FOUND = "set -a; [ -f .env ] && . ./.env; set +a"
_KEEP = "export -p | grep -E 'INFRAKIT_|PATH=' | sed 's/^declare -x //' > .env"


def kind_of(line: str) -> str:
    """A line without the values that differ from run to run."""
    for pattern, kind in _KINDS:
        line = pattern.sub(kind, line)
    return line.strip()


class Disappointed(AssertionError):
    """The behaviour differs from the page."""


class Reader:
    """A context manager; `place` must be a short path, because the paths of unix sockets are limited."""

    def __init__(self, place: Path, *, patience_s: float = PATIENCE_S, **environment: str) -> None:
        self.place = place
        self._patience_s = patience_s
        self.met: dict[str, str] = {}  # value on the page -> real value
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._net = f"127.{os.getpid() >> 7 & 127 | 128}.{os.getpid() & 127 | 128}."
        self._ports = 20_000 + os.getpid() % 1000 * 10
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(place),
            "INFRAKIT_USER": "ann",
            "NO_COLOR": "1",
            "COLUMNS": "200",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(place / "site"), os.environ.get("PYTHONPATH", "")))),
            "PYTHONPYCACHEPREFIX": os.environ.get("PYTHONPYCACHEPREFIX", ""),
            **environment,
        }
        shutil.copytree(ROOT / "examples", place / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        for document in (*place.rglob("*.yaml"), *place.rglob("*.yaml.j2")):
            document.write_text(self.moved(document.read_text()))

    def moved(self, text: str) -> str:
        """The text with the addresses, ports and sockets of this reader."""
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
        for process in Path("/proc").glob("[0-9]*"):  # instances outlive their daemon
            try:
                ours = mark in (process / "environ").read_bytes()
            except OSError:
                continue
            if ours:
                os.kill(int(process.name), signal.SIGKILL)

    # -- running commands ------------------------------------------------------------------------------------------

    def console(self, text: str) -> None:
        """Run a block of `$ commands`, and compare their output."""
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
        if project := _INSTALLS.match(command):
            self._install(self.place / project[1])
        elif re.search(r"\binfrakit up\b", command) and not expected:
            self._up(command, acts=note != "acts on nothing")
        elif _SERVES.search(command) and not expected:
            self._serve(command)
        elif _ENDLESS.search(command):
            self._run_endless(command, shown)
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
                    self._learn(line, each)
                    break
            else:
                raise Disappointed(f"$ {command}\ndid not print:\n{line}\nbut:\n{printed}")

    def _learn(self, line: str, real: str) -> None:
        """Record the values in this line of the page whose real values differ."""
        words, found = re.findall(r"[\w.-]+", line), re.findall(r"[\w.-]+", real)
        if len(words) == len(found):
            pairs = zip(words, found, strict=True)
            self.met |= {a: b for a, b in pairs if a != b and re.fullmatch(r"\d{4,}|[a-z]+-[0-9a-f]{12}", a)}

    # -- special commands ------------------------------------------------------------------------------------------

    def _make(self, target: str) -> str:
        """Only the demo is run: the other targets belong to continuous integration, and must only exist."""
        command = ["make", "--dry-run", target]
        alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        dry_run = subprocess.run(
            command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=self._patience_s, check=False
        )
        if dry_run.returncode:
            raise Disappointed(f"make {target}: {dry_run.stderr}")
        if target != "demo":
            return "true"
        if dry_run.stdout.splitlines()[-1].replace(".venv/bin/", "") != DEMO:
            raise Disappointed(f"make demo runs {dry_run.stdout.splitlines()[-1]}, not {DEMO}")
        return DEMO

    def _install(self, project: Path) -> None:
        """Like an editable install of pip: the package on the path, and its entry points as metadata."""
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
        """Start a program in the background; return it and the file of its output."""
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
        """Start a plugin, and wait until it reports that it listens."""
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
        status = subprocess.run(
            ["/bin/bash", "-c", f"{_FOUND}\n{question} 2>/dev/null"],
            cwd=self.place,
            env=self._environment,
            capture_output=True,
            check=False,
        )
        if not acts:
            return bool(status.stdout.strip())
        groups = json.loads(status.stdout)["Groups"] if status.stdout.strip() else []
        return bool(groups) and all(group["Converged"] for group in groups)

    def _interrupt(self) -> None:
        self._daemons[-1].send_signal(signal.SIGINT)
        self._daemons[-1].wait(self._patience_s)

    def _run_endless(self, command: str, shown: list[str]) -> None:
        """Run a command that does not exit, until it has printed its first line."""
        with subprocess.Popen(
            ["/bin/bash", "-c", f"{_FOUND}\nexec env {command}"],
            cwd=self.place,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdout is not None
            printed = program.stdout.readline() if shown or "status" in command else ""
            program.kill()
        self._compare(command, shown[:1], printed)
