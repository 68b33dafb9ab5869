"""A proxy socket in front of the Engine's, which can lose the response to one request."""

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Self

from tests.integration.docker.engines import DEADLINE_S


class Lossy:
    """A context manager; `lose` is a pattern of the request whose response is lost, once."""

    def __init__(self, path: Path, engine: Path) -> None:
        self.host = f"unix://{path}"
        self.lose = b""
        self.lost = 0
        self._path = path
        self._engine = engine
        self._serving: list[asyncio.Future[None]] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.wait_for(asyncio.gather(*self._serving), DEADLINE_S)  # all clients have disconnected

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection. It is closed when the response is lost, after the Engine has sent it."""
        done = asyncio.get_running_loop().create_future()
        self._serving.append(done)
        try:
            await self._carry(reader, writer)
        finally:
            done.set_result(None)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_unix_connection(self._engine)
        losing = asyncio.Event()

        async def requests() -> None:
            while data := await reader.read(2**16):
                if self.lose and re.match(self.lose, data):
                    self.lose = b""
                    losing.set()
                before.write(data)
                await before.drain()

        async def answers() -> None:
            while data := await behind.read(2**16):
                if losing.is_set():
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()

        both = [asyncio.create_task(requests()), asyncio.create_task(answers())]
        with contextlib.suppress(ConnectionError):
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for each in both:
            each.cancel()
        await asyncio.gather(*both, return_exceptions=True)
        for end in (writer, before):
            end.close()
            with contextlib.suppress(ConnectionError):
                await end.wait_closed()
