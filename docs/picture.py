"""Draws images/quickstart.svg: a recorded recovery of a killed pet, in the current live view.

`docs/generate.py` draws it from `images/quickstart.json`: the same code gives the same picture, and a test fails if
the committed one differs. `python docs/picture.py` records a new run: it starts the quickstart, whose addresses must
be free, kills a pet, and stores the responses of the daemon.
"""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import msgspec
from rich.console import Console
from rich.text import Text

from infrakit.cli import live, rich_view, screen
from infrakit.spi.event import Event
from infrakit.spi.manager import MemberStatus, Status

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/images/quickstart.svg"
RECORDING = TARGET.with_suffix(".json")
UP = "infrakit up examples/quickstart/infrakit.yaml"
PET = "http://127.0.10.2:7070/"
COLUMNS, ROWS = 80, 24
TIMEOUT_S = 30.0


class Recording(msgspec.Struct, frozen=True):
    """The responses of the pet before and after it was killed, then those of the daemon."""

    before: str
    killed: int
    after: str
    status: Status
    members: tuple[MemberStatus, ...]
    events: tuple[Event, ...]


# -- the picture -----------------------------------------------------------------------------------------------------


def render() -> str:
    """Render the picture of the recording, without external references."""
    return draw(msgspec.json.decode(RECORDING.read_bytes(), type=Recording))


def draw(recording: Recording) -> str:
    console = Console(record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True, color_system="truecolor")
    for command, printed in (
        (f"curl -s {PET}", recording.before),
        (f"kill -9 {recording.killed}", ""),
        (f"curl -s {PET}", recording.after),
    ):
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        if printed:
            console.print(Text(printed, no_wrap=True))
    scene = screen.Scene(UP, live.HERE, recording.status, recording.members, recording.events)
    console.print(Text("\nIn the other terminal:\n", style="italic"))
    console.print(rich_view.styled(screen.frame(scene, COLUMNS, ROWS)))
    svg = console.export_svg(title="a killed server comes back", unique_id="ik")
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, DejaVu Sans Mono, Menlo, Consolas")
    return re.sub(r"\n\s*\n", "\n", re.sub(r"[ \t]+\n", "\n", svg))


# -- the recording ---------------------------------------------------------------------------------------------------


def run(command: str, environment: dict[str, str]) -> str:
    """Run a command and return its output."""
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def wait_until_converged(daemon: subprocess.Popen[str]) -> None:
    """Read what `infrakit up` prints until each group has converged."""
    remaining = {"counter", "web"}
    for line in daemon.stdout or ():
        if " converged " in line:
            remaining -= {name for name in remaining if f" {name}: " in line}
        if not remaining:
            return
    sys.exit("the daemon exited before the quickstart had converged: are its addresses free?")


def pid(address: str) -> int:
    with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - a server of the quickstart
        facts = json.load(answer)
    return int(facts["pid"])


def wait_for_replacement(killed: int) -> None:
    """Wait until another process answers at the address of the pet."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if pid(PET) != killed:
                return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"no replacement at {PET}")


def record(environment: dict[str, str]) -> Recording:
    """Increment the counter of the pet, kill it, and record the recovery."""
    for _ in range(42):
        run(f"curl -s -X POST {PET}incr", environment)
    before, killed = run(f"curl -s {PET}", environment).strip(), pid(PET)
    newest = json.loads(run("infrakit events -o json", environment).splitlines()[-1])["Seq"]
    run(f"kill -9 {killed}", environment)
    wait_for_replacement(killed)
    run("infrakit status --wait 20s", environment)
    events = run(f"infrakit events --since {newest} -o json", environment).splitlines()
    return Recording(
        before=before,
        killed=killed,
        after=run(f"curl -s {PET}", environment).strip(),
        status=msgspec.json.decode(run("infrakit status -o json", environment), type=Status),
        members=msgspec.json.decode(run("infrakit instance ls -o json", environment), type=tuple[MemberStatus, ...]),
        events=tuple(msgspec.json.decode(line, type=Event) for line in events),
    )


def main() -> None:
    bin_directory = Path(sys.executable).parent
    with tempfile.TemporaryDirectory(prefix="ik") as home:
        environment = {
            "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}",
            "INFRAKIT_HOME": home,
            "INFRAKIT_USER": "ann",
        }
        command = [*UP.split(), "--name", "node1"]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as daemon:
            try:
                wait_until_converged(daemon)
                recorded = msgspec.json.encode(record(environment))
                RECORDING.write_bytes(msgspec.json.format(recorded, indent=1) + b"\n")
            finally:
                subprocess.run(["infrakit", "down", "--yes"], env=environment, capture_output=True, check=False)
                daemon.terminate()
    TARGET.write_text(render())


if __name__ == "__main__":
    main()
