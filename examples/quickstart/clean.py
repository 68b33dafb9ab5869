"""End what the quickstart has left in a home, and prove that nothing of it runs, before `make clean` deletes it.

    python3 examples/quickstart/clean.py .demo

`infrakit down` destroys what is declared there, with a daemon or without one. Processes that no declaration names any
more, because a group was freed say, are named, and the exit code is 1: delete nothing then.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

MARK = "INFRAKIT_DIRECTORY="  # in the environment of every process of an instance: its directory


def left(home: Path) -> dict[int, str]:
    """The processes of instances in this home, by pid."""
    ours = f"{MARK}{home.resolve()}/".encode()
    found = {}
    for each in Path("/proc").glob("[0-9]*"):
        try:
            words = (each / "environ").read_bytes().split(b"\0")
            command = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended, or is another user's
            continue
        if any(word.startswith(ours) for word in words):
            found[int(each.name)] = " ".join(command.split())
    return found


def down(home: Path) -> int:
    beside = Path(sys.executable).with_name("infrakit")
    program = str(beside) if beside.exists() else shutil.which("infrakit")
    if program is None:
        return 0
    environment = {**os.environ, "INFRAKIT_HOME": str(home)}
    return subprocess.run([program, "down", "--yes"], env=environment, check=False).returncode


def main() -> int:
    home = Path(sys.argv[1] if len(sys.argv) > 1 else ".demo")
    code = down(home) if (home / "store").is_dir() else 0
    processes = left(home)
    for pid, command in sorted(processes.items()):
        print(f"clean: {pid} of {home} still runs: {command[:100]}", file=sys.stderr)
    if processes:
        print(f"clean: nothing is deleted; end them first: kill {' '.join(map(str, processes))}", file=sys.stderr)
    return 1 if code or processes else 0


if __name__ == "__main__":
    sys.exit(main())
