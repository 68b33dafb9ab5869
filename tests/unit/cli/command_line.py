"""The real command line, run as a subprocess."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple


class Completed(NamedTuple):
    """The exit code and the output of a command line."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs the real program as a subprocess, with a minimal environment."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.python = [sys.executable]
        self.environment = {
            "PATH": os.environ["PATH"],
            "INFRAKIT_HOME": str(home),
            "INFRAKIT_USER": "ann",
            # of the code that is tested, also where another checkout is installed
            **{name: os.environ[name] for name in ("PYTHONPATH", "PYTHONPYCACHEPREFIX") if name in os.environ},
        }

    async def start(self, *arguments: str, **streams: Any) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        streams = {"stdin": asyncio.subprocess.DEVNULL, "stdout": pipe, "stderr": pipe} | streams
        command = [*self.python, "-m", "infrakit", *arguments]
        return await asyncio.create_subprocess_exec(*command, env=self.environment, cwd=self.home, **streams)

    async def __call__(self, *arguments: str, stdin: bytes | None = None) -> Completed:
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
        return Completed(process.returncode, out.decode(), err.decode())
