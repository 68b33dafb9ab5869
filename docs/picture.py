"""Draws images/quickstart.svg from a real run: `python docs/picture.py` starts the quickstart, kills a pet, and looks.

The commands run in a terminal of their own, so that they print what people see, colours included; rich turns that into
a picture. The quickstart's addresses must be free.
"""

import io
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/images/quickstart.svg"
DECLARATION = "examples/quickstart/infrakit.yaml"
PET = "http://127.0.10.2:7070/"
COLUMNS, ROWS = 116, 60
PATIENCE_S = 30.0


def run(command: str, environment: dict[str, str]) -> str:
    """What a command prints on a terminal."""
    words = ["/bin/sh", "-c", command]
    ours, theirs = pty.openpty()
    subprocess.run(["/bin/sh", "-c", f"stty cols {COLUMNS} rows {ROWS} <&1"], stdout=theirs, check=True)
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        printed = b""
        while True:
            try:
                block = os.read(ours, 65536)
            except OSError:  # the last process that had the terminal has ended
                break
            if not block:
                break
            printed += block
    os.close(ours)
    if process.returncode:
        sys.exit(f"{command}: exit code {process.returncode}\n{printed.decode()}")
    return printed.decode().replace("\r\n", "\n")


def wait_until_converged(daemon: subprocess.Popen[str]) -> None:
    """Read what `infrakit up` prints until each group has converged."""
    waiting = {"counter", "web"}
    for line in daemon.stdout or ():
        if " converged " in line:
            waiting -= {name for name in waiting if f" {name}: " in line}
        if not waiting:
            return
    sys.exit("the daemon ended before the quickstart had converged: are its addresses free?")


def pid(address: str) -> int:
    with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - one of our own
        facts = json.load(answer)
    return int(facts["pid"])


def wait_for_another(than: int) -> None:
    """The pet is back as soon as another process answers at its address."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if pid(PET) != than:
                return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing came back at {PET}")


def session(environment: dict[str, str]) -> list[tuple[str, str]]:
    """The commands of the picture, each with what it printed."""
    lines = []

    def do(command: str) -> None:
        lines.append((command, run(command, environment)))

    for _ in range(42):
        run(f"curl -s -X POST {PET}incr", environment)
    do("infrakit group ls")
    do(f"curl -s {PET}")
    victim = pid(PET)
    newest = json.loads(run("infrakit events -o json", environment).splitlines()[-1])["Seq"]
    do(f"kill -9 {victim}")
    wait_for_another(victim)
    run("infrakit status --wait 20s", environment)
    do(f"curl -s {PET}")
    do(f"infrakit events --since {newest} --group counter")
    do("infrakit instance ls counter")
    return lines


def draw(lines: list[tuple[str, str]]) -> str:
    """The session as SVG that refers to nothing outside itself."""
    console = Console(record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True, color_system="truecolor")
    for command, printed in lines:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        if printed:
            console.print(Text.from_ansi(printed))
    svg = console.export_svg(title="infrakit up examples/quickstart/infrakit.yaml, in another terminal", unique_id="ik")
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, DejaVu Sans Mono, Menlo, Consolas")
    return re.sub(r"\n\s*\n", "\n", re.sub(r"[ \t]+\n", "\n", svg))


def main() -> None:
    beside = Path(sys.executable).parent
    with tempfile.TemporaryDirectory(prefix="ik") as home:
        environment = {
            "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}",
            "INFRAKIT_HOME": home,
            "INFRAKIT_USER": "ann",
            "TERM": "xterm-256color",
        }
        with subprocess.Popen(
            ["infrakit", "up", DECLARATION], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        ) as daemon:
            try:
                wait_until_converged(daemon)
                TARGET.parent.mkdir(exist_ok=True)
                TARGET.write_text(draw(session(environment)))
            finally:
                subprocess.run(["infrakit", "down", "--yes"], env=environment, capture_output=True, check=False)
                daemon.terminate()


if __name__ == "__main__":
    main()
