"""A writer for crash tests: it writes revisions as fast as it can, and prints each one when it is acknowledged.

Run as a program, it reads one directory per line, forks a writer for it and prints its PID; forking saves the time of
starting Python hundreds of times. A writer exits when this program has exited.
"""

import asyncio
import os
import sys
from pathlib import Path

from infrakit.stores.file import FileStore

NAME = "declaration"
KEEP = 40  # few, so that revisions are also pruned all the time


def body(revision: int) -> bytes:
    """The body of that revision: so long that a write takes a measurable time."""
    return b"%d " % revision * 2000


async def work(directory: Path, parent: int) -> None:
    store = FileStore(directory, keep={NAME: KEEP})
    revision = (await store.read(name=NAME)).revision
    while os.getppid() == parent:
        revision = await store.replace(name=NAME, body=body(revision + 1), expected=revision)
        os.write(1, b"%d\n" % revision)


def main() -> None:
    parent = os.getpid()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            asyncio.run(work(Path(line.strip()), parent))
            return
        os.write(1, b"pid %d\n" % pid)
        os.waitpid(pid, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main()
