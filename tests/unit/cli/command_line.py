"""The real command line, in processes of its own."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple


class Done(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs the real program in a process of its own, in an environment without surprises."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.python = [sys.executable]
        self.environment = {
            "PATH": os.environ["PATH"],
            "INFRAKIT_HOME": str(home),
            "INFRAKIT_USER": "ann",
            "PYTHONPYCACHEPREFIX": os.environ.get("PYTHONPYCACHEPREFIX", ""),
        }

    async def start(self, *arguments: str, **streams: Any) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        streams = {"stdin": asyncio.subprocess.DEVNULL, "stdout": pipe, "stderr": pipe} | streams
        command = [*self.python, "-m", "infrakit", *arguments]
        return await asyncio.create_subprocess_exec(*command, env=self.environment, cwd=self.home, **streams)

    async def __call__(self, *arguments: str, stdin: bytes | None = None) -> Done:
        streams = {} if stdin is None else {"stdin": asyncio.subprocess.PIPE}
        process = await self.start(*arguments, **streams)
        try:
            async with asyncio.timeout(150):
                out, err = await process.communicate(stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())
