"""Check a built wheel: install it into a new environment outside the clone, and operate a cluster with it.

    python -m build
    python packaging/check_wheel.py PYTHON dist/pyinfrakit-*.whl [-c constraints.txt]

PYTHON is the interpreter to test. Instances listen on 127.0.20.11 and 127.0.20.12, port 7080. Everything is in a
temporary directory; processes and files are removed in any case. The exit code is 1 when a check fails.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ADDRESSES = ("127.0.20.11", "127.0.20.12")
PORT = 7080
DOCUMENT = """\
- kind: group
  metadata: {name: files}
  properties:
    Allocation: {LogicalIDs: [127.0.20.11, 127.0.20.12]}
    Instance: {Plugin: local}
    Flavor:
      Plugin: vanilla
      Properties:
        Attachments:
          127.0.20.11: [{ID: files-1, Type: volume}]
          127.0.20.12: [{ID: files-2, Type: volume}]
        Init: |
          cd "$INFRAKIT_VOLUME"
          echo boot >> boots
          echo $$ > pid
          exec PYTHON -m http.server --bind "$INFRAKIT_LOGICAL_ID" 7080
        Health:
          TCP: {Address: "${LOGICAL_ID}:7080"}
    Healing: {Backoff: 1s}
    Updating: {Settle: 1s}
- kind: group
  metadata: {name: workers}
  properties:
    Allocation: {Size: 2}
    Instance: {Plugin: local}
    Flavor: {Plugin: vanilla, Properties: {Init: exec sleep infinity}}
    Updating: {Settle: 1s}
"""
INSTALL_S = 300
PATIENCE_S = 60
FILES = (
    "share/man/man1/infrakit.1",
    "share/man/man5/infrakit.yaml.5",
    "share/bash-completion/completions/infrakit",
    "share/zsh/site-functions/_infrakit",
    "share/fish/vendor_completions.d/infrakit.fish",
)


class Failed(Exception):
    """A check failed."""


def check(passed: bool, text: str) -> None:
    """Print one line per check; the first failure stops the run."""
    print(f"{'passed' if passed else 'FAILED'}  {text}", flush=True)
    if not passed:
        raise Failed(text)


class Installation:
    """A new environment with the wheel, and the working directory of an operator."""

    def __init__(self, place: Path, python: str, wheel: Path, constraint: Path | None) -> None:
        self.place = place
        self.venv = place / "venv"
        # The clone and the environment of the caller must have no influence.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("INFRAKIT_", "PYTHON"))}
        kept.pop("VIRTUAL_ENV", None)
        path = f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**kept, "PATH": path, "INFRAKIT_HOME": str(place / "h"), "NO_COLOR": "1"}
        self.call(python, "-m", "venv", str(self.venv))
        limited = ["-c", str(constraint)] if constraint else []
        pip = (str(self.venv / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        self.call(*pip, *limited, str(wheel))

    def infrakit(self, *words: str) -> str:
        """Run an `infrakit` command, which must succeed, and return its output."""
        return self.call(str(self.venv / "bin/infrakit"), *words)

    def json(self, *words: str) -> Any:
        return json.loads(self.infrakit(*words, "-o", "json"))

    def call(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def daemon(self, document: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Run `infrakit up`; afterwards, kill everything that it has started, also when a check fails."""
        log = self.place / "daemon.log"
        with log.open("wb") as out:
            daemon = subprocess.Popen(
                [self.venv / "bin/infrakit", "up", str(document)],
                cwd=self.place,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            yield daemon
        except BaseException:
            print(log.read_text(), file=sys.stderr)
            raise
        finally:
            if daemon.poll() is None:
                daemon.kill()
            daemon.wait()
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """Return the processes with the directory in their environment: the daemon and its instances."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if os.fsencode(f"={self.place}/") in path.read_bytes():
                    found.append(int(path.parent.name))
        return found


def eventually(read: Callable[[], Any], accept: Callable[[Any], bool], text: str) -> Any:
    """Poll until the value is accepted."""
    deadline = time.monotonic() + PATIENCE_S
    while not accept(value := read()):
        if time.monotonic() > deadline:
            raise Failed(f"{text}: still {value!r} after {PATIENCE_S} s")
        time.sleep(0.1)
    check(True, text)
    return value


def fetched(address: str, name: str) -> str:
    """Fetch a file from the volume of an instance; empty if it does not respond."""
    try:
        with urllib.request.urlopen(f"http://{address}:{PORT}/{name}", timeout=2) as answer:
            return str(answer.read().decode()).strip()
    except OSError:
        return ""


def check_installation(installation: Installation) -> None:
    """Check versions, help, man pages and completion files."""
    code = "import infrakit, importlib.metadata as m; print(infrakit.__file__, m.version('pyinfrakit'))"
    python = installation.venv / "bin/python"
    file, version = installation.call(str(python), "-c", code).split()
    check(Path(file).is_relative_to(installation.venv), "the package is the wheel's, not the clone's")
    check(installation.infrakit("--version") == f"infrakit {version}\n", f"infrakit --version prints {version}")
    check("Usage: infrakit" in installation.infrakit("--help"), "infrakit --help prints the usage")
    missing = [name for name in FILES if not (installation.venv / name).is_file()]
    check(not missing, f"man pages and completion files are installed {missing or ''}".rstrip())


def operate(installation: Installation) -> None:
    """Check up, status, scale, healing of a killed instance, and down."""
    document = installation.place / "cluster.yaml"
    document.write_text(DOCUMENT.replace("PYTHON", str(installation.venv / "bin/python")))
    installation.infrakit("validate", str(document))
    with installation.daemon(document) as daemon:
        socket = installation.place / "h/plugins/group"
        eventually(lambda: daemon.poll() is None and socket.exists(), bool, "infrakit up: the daemon listens")
        installation.infrakit("status", "--wait", f"{PATIENCE_S}s")
        check(all(fetched(each, "boots") == "boot" for each in ADDRESSES), "status --wait: both members answer")

        installation.infrakit("group", "scale", "workers", "4", "-m", "more", f"--wait={PATIENCE_S}s")
        running = [each for each in installation.json("instance", "ls", "workers") if each["State"] == "running"]
        check(len(running) == 4, "group scale: 4 workers run")

        killed = int(fetched(ADDRESSES[0], "pid"))
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: fetched(ADDRESSES[0], "pid"), lambda pid: pid not in {"", str(killed)}, "kill -9: healed")
        check(fetched(ADDRESSES[0], "boots").split() == ["boot"] * 2, "the replacement has the same address and volume")
        installation.infrakit("status", "--wait", f"{PATIENCE_S}s")
        check("files/127.0.20.11" in installation.infrakit("events", "--group", "files"), "events report it")

        installation.infrakit("down", "--yes")
        check(daemon.wait(PATIENCE_S) == 0, "down --yes: the daemon exits with code 0")
        eventually(installation.processes, lambda left: not left, "no process is left")


def main() -> int:
    """Run all checks."""
    parser = argparse.ArgumentParser(
        description="Install a wheel into a new environment and operate a cluster with it."
    )
    parser.add_argument("python", help="the interpreter")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("-c", "--constraint", type=Path, help="versions of the dependencies, for pip")
    given = parser.parse_args()
    python = shutil.which(given.python) or parser.error(f"{given.python} is not installed")
    with tempfile.TemporaryDirectory(prefix="ikw", ignore_cleanup_errors=True) as place:
        try:
            constraint = given.constraint.resolve() if given.constraint else None
            installation = Installation(
                Path(place), str(Path(python).absolute()), given.wheel.resolve(strict=True), constraint
            )
            check_installation(installation)
            operate(installation)
        except (Failed, subprocess.TimeoutExpired) as error:
            print(f"FAILED  {error}", file=sys.stderr)
            return 1
    print("all checks passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
