"""Runs commands: each process has its own session and a timeout, and the last line of its output is kept.

After success, timeout or cancellation, the process and its process group are killed, and the process is reaped.
Output goes through a separate pipe, so that a remaining child that holds it open causes no delay.
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


class Result(NamedTuple):
    """The result of a command. Without a code, it was killed at the timeout."""

    code: int | None  # negative: terminated by that signal
    last_line: str


def argv(command: Sequence[str] | str) -> list[str]:
    """Return the argument list of a command; a single string is a shell command line."""
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


async def run(words: Sequence[str], *, environment: Mapping[str, str], timeout_s: float) -> Result:
    """Run a command until it exits. Raises `OSError` or `ValueError` when it cannot be started."""
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
        await tail.read_rest()
    finally:
        transport.close()
    return Result(code=code, last_line=tail.last_line())


async def _wait(process: asyncio.subprocess.Process, timeout_s: float) -> int | None:
    try:
        async with asyncio.timeout(timeout_s):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:  # not reaped yet, so its process group cannot have been reused
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REAP_S):
                    await process.wait()


class _Tail(asyncio.Protocol):
    """Keeps the last bytes of an output of any length."""

    def __init__(self) -> None:
        self._last_bytes = b""
        self._closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._last_bytes = (self._last_bytes + data)[-_TAIL_BYTES:]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._closed.set()

    async def read_rest(self) -> None:
        """Read the rest of the pipe, but do not wait for children that still hold it open."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await self._closed.wait()

    def last_line(self) -> str:
        """Return the last line that is not blank, made printable and cut to 200 characters."""
        written = [line.strip() for line in self._last_bytes.decode(errors="replace").splitlines() if line.strip()]
        line = "".join(each if each.isprintable() else "?" for each in (written[-1] if written else ""))
        return line if len(line) <= _NOTE_CHARACTERS else line[: _NOTE_CHARACTERS - 1] + "…"
