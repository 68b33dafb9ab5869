"""HTTP pages beside the calls: at the unix socket, and on TCP, where they require the same authentication as calls."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infrakit.rpc import tokens
from infrakit.rpc.listen import Listen
from infrakit.rpc.page import Page
from infrakit.rpc.server import Server
from tests.integration.rpc.authority import HOST
from tests.integration.rpc.daemons import Connection, Response, connect, post, rpc


async def figures() -> Page:
    return Page("a 1\n", media="text/plain; version=0.0.4; charset=utf-8")


async def not_ready() -> Page:
    return Page("not ready: ä\n", 503)


PAGES = {"/metrics": figures, "/readyz": not_ready, "/": not_ready}


@pytest.fixture
async def server(path: Path, tmp_path: Path) -> AsyncIterator[Server]:
    (tmp_path / "token").write_text(tokens.issue(tmp_path / "tokens", "prometheus"))
    listen = Listen(host=HOST, port=0, token_file=str(tmp_path / "tokens"))
    async with Server(path, {}, pages=PAGES, listen=listen) as running:
        yield running


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: h", *headers, "", ""]).encode()


async def over_socket(path: Path, request: bytes) -> Response:
    async with connect(path) as connection:
        return await connection.exchange(request)


async def over_tcp(server: Server, request: bytes) -> Response:
    reader, writer = await asyncio.open_connection(HOST, int(server.urls[0].rpartition(":")[2]))
    try:
        return await Connection(reader, writer).exchange(request)
    finally:
        writer.close()


async def test_a_page_is_served_with_its_status_and_media_type(server: Server, path: Path) -> None:
    answer = await over_socket(path, get("/metrics"))
    assert (answer.status, answer.body) == (200, b"a 1\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    answer = await over_socket(path, get("/readyz?verbose"))
    assert (answer.status, answer.body.decode()) == (503, "not ready: ä\n")


async def test_a_page_allows_only_get_and_head(server: Server, path: Path) -> None:
    answer = await over_socket(path, get("/metrics", "Content-Length: 0", method="POST"))
    assert answer.status == 405
    async with connect(path) as connection:
        await connection.send(get("/metrics", "Connection: close", method="HEAD"))
        response = await connection.closed_by_peer()
    assert response.startswith(b"HTTP/1.1 200")
    assert response.endswith(b"\r\n\r\n")


async def test_calls_are_served_beside_pages(server: Server, path: Path) -> None:
    answer = await over_socket(path, post(rpc("Handshake.Hello")))
    assert answer.status == 200
    assert "result" in answer.json


async def test_a_page_on_tcp_requires_a_token(server: Server, tmp_path: Path) -> None:
    token = (tmp_path / "token").read_text()
    assert (await over_tcp(server, get("/metrics"))).status == 401
    assert (await over_tcp(server, get("/metrics", "Authorization: Bearer guess"))).status == 401
    assert (await over_tcp(server, get("/metrics", f"Authorization: Bearer {token}", "Origin: http://x"))).status == 403
    answer = await over_tcp(server, get("/metrics", f"Authorization: Bearer {token}"))
    assert (answer.status, answer.body) == (200, b"a 1\n")


async def test_without_pages_their_paths_are_not_found(path: Path) -> None:
    async with Server(path, {}):
        assert (await over_socket(path, get("/metrics"))).status == 404
