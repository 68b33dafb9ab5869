"""Destroy what the quickstart left in a home and check that none of it runs, before `make clean` deletes the home.

    python3 examples/quickstart/clean.py .demo

`infrakit down` destroys what is declared there, with or without a daemon. If processes remain that no declaration
covers, for example those of a freed group, they are printed and the exit code is 1: then nothing must be deleted.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

MARK = "INFRAKIT_DIRECTORY="  # environment variable of every process of an instance: its directory


def left(home: Path) -> dict[int, str]:
    """Return the processes of instances in this home, by pid."""
    ours = f"{MARK}{home.resolve()}/".encode()
    found = {}
    for each in Path("/proc").glob("[0-9]*"):
        try:
            words = (each / "environ").read_bytes().split(b"\0")
            command = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has exited, or belongs to another user
            continue
        if any(word.startswith(ours) for word in words):
            found[int(each.name)] = " ".join(command.split())
    return found


def down(home: Path) -> int:
    sibling = Path(sys.executable).with_name("infrakit")
    program = str(sibling) if sibling.exists() else shutil.which("infrakit")
    if program is None:
        return 0
    environment = {**os.environ, "INFRAKIT_HOME": str(home)}
    return subprocess.run([program, "down", "--yes"], env=environment, check=False).returncode


def main() -> int:
    home = Path(sys.argv[1] if len(sys.argv) > 1 else ".demo")
    code = down(home) if (home / "store").is_dir() else 0
    processes = left(home)
    for pid, command in sorted(processes.items()):
        print(f"clean: process {pid} of {home} is still running: {command[:100]}", file=sys.stderr)
    if processes:
        print(
            f"clean: nothing was deleted; stop them first: kill {' '.join(map(str, processes))}",
            file=sys.stderr,
        )
    return 1 if code or processes else 0


if __name__ == "__main__":
    sys.exit(main())
