"""Commands: a real process in a session of its own, with a deadline, whose last line of output is kept.

Whatever ends the wait, the process and all that it started in its group are killed, and the process is reaped.
Output goes through a pipe of our own: a child that it left behind and that still holds the pipe delays nothing.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_TAIL_BYTES = 4096
_NOTE_CHARACTERS = 200
_REAP_S = 5.0  # after SIGKILL; longer only for a process that hangs inside the kernel


class Ended(NamedTuple):
    """How a command ended. No code: it was killed at the deadline."""

    code: int | None  # negative: ended by that signal
    last_line: str


def argv(command: Sequence[str] | str) -> list[str]:
    """A single string is a line for the shell."""
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


async def run(words: Sequence[str], *, environment: Mapping[str, str], timeout_s: float) -> Ended:
    """Raises `OSError` or `ValueError` when it cannot be started."""
    loop = asyncio.get_running_loop()
    read_fd, write_fd = os.pipe()
    tail = _Tail()
    reading = os.fdopen(read_fd, "rb", buffering=0)
    try:
        transport, _ = await loop.connect_read_pipe(lambda: tail, reading)
    except BaseException:
        reading.close()
        os.close(write_fd)
        raise
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_fd,
                stderr=write_fd,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        finally:
            os.close(write_fd)
        code = await _wait(process, timeout_s)
        await tail.settle()
    finally:
        transport.close()
    return Ended(code=code, last_line=tail.last_line())


async def _wait(process: asyncio.subprocess.Process, timeout_s: float) -> int | None:
    try:
        async with asyncio.timeout(timeout_s):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:  # not reaped, so its group is certainly still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REAP_S):
                    await process.wait()


class _Tail(asyncio.Protocol):
    """Keeps the end of what is written, however much it is."""

    def __init__(self) -> None:
        self._kept = b""
        self._ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-_TAIL_BYTES:]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._ended.set()

    async def settle(self) -> None:
        """Everything that the process itself wrote is in the pipe by now; do not wait for those it left behind."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await self._ended.wait()

    def last_line(self) -> str:
        """The last line with something in it, printable and short."""
        written = [line.strip() for line in self._kept.decode(errors="replace").splitlines() if line.strip()]
        line = "".join(each if each.isprintable() else "?" for each in (written[-1] if written else ""))
        return line if len(line) <= _NOTE_CHARACTERS else line[: _NOTE_CHARACTERS - 1] + "…"
