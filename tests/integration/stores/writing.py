"""A writer that is made to be killed: it writes revisions as fast as it can and says each once it is acknowledged.

Run as a program it reads a directory a line and forks one writer for it; forking saves starting Python hundreds of
times.
"""

import asyncio
import os
import sys
from pathlib import Path

from infrakit.stores.file import FileStore

NAME = "declaration"
KEEP = 1000


def body(revision: int) -> bytes:
    """What revision number `revision` has to hold: of some length, so that a write takes a moment."""
    return b"%d " % revision * 2000


async def work(directory: Path) -> None:
    """For ever."""
    store = FileStore(directory, keep={NAME: KEEP})
    revision = (await store.read(name=NAME)).revision
    os.write(1, b"%d ready\n" % os.getpid())
    while True:
        revision = await store.replace(name=NAME, body=body(revision + 1), expected=revision)
        os.write(1, b"%d\n" % revision)


def main() -> None:
    for line in sys.stdin:
        if os.fork() == 0:
            asyncio.run(work(Path(line.strip())))
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


if __name__ == "__main__":
    main()
