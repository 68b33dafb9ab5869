"""Pages beside the calls, at the socket of their owner and on TCP, where they are guarded like everything else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infrakit.rpc import tokens
from infrakit.rpc.listen import Listen
from infrakit.rpc.page import Page
from infrakit.rpc.server import Server
from tests.integration.rpc.authority import HOST
from tests.integration.rpc.daemons import Answer, Connection, connect, post, rpc


async def figures() -> Page:
    return Page("a 1\n", media="text/plain; version=0.0.4; charset=utf-8")


async def trouble() -> Page:
    return Page("not ready: ä\n", 503)


PAGES = {"/metrics": figures, "/readyz": trouble, "/": trouble}


@pytest.fixture
async def server(path: Path, tmp_path: Path) -> AsyncIterator[Server]:
    (tmp_path / "token").write_text(tokens.issue(tmp_path / "tokens", "prometheus"))
    listen = Listen(host=HOST, port=0, token_file=str(tmp_path / "tokens"))
    async with Server(path, {}, pages=PAGES, listen=listen) as served:
        yield served


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: h", *headers, "", ""]).encode()


async def at_the_socket(path: Path, request: bytes) -> Answer:
    async with connect(path) as connection:
        return await connection.exchange(request)


async def over_tcp(server: Server, request: bytes) -> Answer:
    reader, writer = await asyncio.open_connection(HOST, int(server.urls[0].rpartition(":")[2]))
    try:
        return await Connection(reader, writer).exchange(request)
    finally:
        writer.close()


async def test_what_a_page_says_is_what_comes(server: Server, path: Path) -> None:
    answer = await at_the_socket(path, get("/metrics"))
    assert (answer.status, answer.body) == (200, b"a 1\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    answer = await at_the_socket(path, get("/readyz?verbose"))
    assert (answer.status, answer.body.decode()) == (503, "not ready: ä\n")


async def test_a_page_is_only_read(server: Server, path: Path) -> None:
    answer = await at_the_socket(path, get("/metrics", "Content-Length: 0", method="POST"))
    assert answer.status == 405
    async with connect(path) as connection:
        await connection.send(get("/metrics", "Connection: close", method="HEAD"))
        told = await connection.closed_by_peer()
    assert told.startswith(b"HTTP/1.1 200")
    assert told.endswith(b"\r\n\r\n")


async def test_calls_go_on_beside_them(server: Server, path: Path) -> None:
    answer = await at_the_socket(path, post(rpc("Handshake.Hello")))
    assert answer.status == 200
    assert "result" in answer.json


async def test_on_tcp_a_page_asks_for_what_everything_asks_for(server: Server, tmp_path: Path) -> None:
    token = (tmp_path / "token").read_text()
    assert (await over_tcp(server, get("/metrics"))).status == 401
    assert (await over_tcp(server, get("/metrics", "Authorization: Bearer guess"))).status == 401
    assert (await over_tcp(server, get("/metrics", f"Authorization: Bearer {token}", "Origin: http://x"))).status == 403
    answer = await over_tcp(server, get("/metrics", f"Authorization: Bearer {token}"))
    assert (answer.status, answer.body) == (200, b"a 1\n")


async def test_who_serves_none_has_none(path: Path) -> None:
    async with Server(path, {}):
        assert (await at_the_socket(path, get("/metrics"))).status == 404
