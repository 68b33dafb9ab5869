"""A writer that is made to be killed: it writes revisions as fast as it can and says each once it is acknowledged.

Run as a program it reads a directory a line, forks one writer for it and says its pid; forking saves starting Python
hundreds of times. A writer ends by itself when this program has ended.
"""

import asyncio
import os
import sys
from pathlib import Path

from infrakit.stores.file import FileStore

NAME = "declaration"
KEEP = 40  # few, so that revisions are removed all the time too


def body(revision: int) -> bytes:
    """What revision number `revision` has to hold: of some length, so that a write takes a moment."""
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
