"""Fetching documents: limits, timeouts, and addresses that show no secret."""

import base64
import contextlib
import http.server
import io
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infrakit.spi.errors import NotFound, Refused, Unreachable
from infrakit.template import loaders


class Site(http.server.BaseHTTPRequestHandler):
    """Responses that a real server may send, by path."""

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/good":
                self.answer(200, b"- kind: group\n")
            case "/moved":
                self.answer(302, b"", Location="/good")
            case "/to-file":
                self.answer(302, b"", Location="file:///etc/hostname")
            case "/to-ftp":
                self.answer(302, b"", Location="ftp://127.0.0.1/x")
            case "/loop":
                self.answer(302, b"", Location="/loop")
            case "/broken":
                self.answer(503, b"try later")
            case "/gone":
                self.answer(410, b"")
            case "/secret":
                self.answer(200, (self.headers["Authorization"] or "none").encode())
            case "/big":
                self.answer(200, b"x" * (loaders.BYTES_MAX + 1))
            case "/full":
                self.answer(200, b"x" * loaders.BYTES_MAX)
            case "/short":
                self.answer(200, b"half", Content_Length="100")
            case _:
                self.answer(404, b"")

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_path_a_file_address_and_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "a b.yaml"
    document.write_bytes(b"\xff x")
    assert loaders.load(str(document)) == b"\xff x"
    assert loaders.load(document.as_uri()) == b"\xff x"
    assert loaders.load(f"file://localhost{document.as_uri()[7:]}") == b"\xff x"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from stdin")))
    assert loaders.load("-") == b"from stdin"
    assert loaders.display("-") == "stdin"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/no/such.yaml", "/no/such.yaml: no such file"),
        ("/etc", "/etc: cannot be read: Is a directory"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("/dev/zero", "/dev/zero: has more than 10,000,000 bytes"),
        ("file://elsewhere/x", "file on the host 'elsewhere'"),
        ("ftp://127.0.0.1/x", "unknown kind of address"),
        ("http://ann:hush@[::1", "Refused: malformed address; expected"),
    ],
)
def test_an_unreadable_address_is_refused_with_a_message(address: str, message: str) -> None:
    with pytest.raises((NotFound, Refused, Unreachable)) as caught:
        loaders.load(address, timeout_s=10)
    assert message in f"{caught.type.__name__}: {caught.value}"


def test_a_document_is_fetched_and_a_redirect_is_followed(site: str) -> None:
    assert loaders.load(f"http://{site}/good") == b"- kind: group\n"
    assert loaders.load(f"http://{site}/moved") == b"- kind: group\n"
    assert len(loaders.load(f"http://{site}/full")) == loaders.BYTES_MAX


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("/nothing", NotFound, "the server answered 404"),
        ("/gone", NotFound, "the server answered 410"),
        ("/broken", Refused, "the server answered 503"),
        ("/loop", Refused, "the server answered 302"),
        ("/to-file", Refused, "the server answered 302"),
        ("/to-ftp", Refused, "the server answered 302"),
        ("/big", Refused, "has more than 10,000,000 bytes"),
        ("/short", Unreachable, "the answer lacks its last 96 bytes"),
    ],
)
def test_anything_but_a_complete_document_is_an_error(
    site: str, path: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        loaders.load(f"http://{site}{path}")
    assert str(caught.value).startswith(f"http://{site}{path}: {message}")


def test_user_and_password_reach_the_server_but_no_message(site: str) -> None:
    credentials = base64.b64encode(b"ann:pass word").decode()
    assert loaders.load(f"http://ann:pass%20word@{site}/secret") == f"Basic {credentials}".encode()
    with pytest.raises(NotFound) as caught:
        loaders.load(f"http://ann:hush@{site}/nothing?token=hush#hush")
    assert "hush" not in f"{caught.value!s}{caught.value!r}"
    with pytest.raises(Unreachable) as malformed:
        loaders.load("http://ann:hush@127.0.0.1:hush/")
    assert "hush" not in str(malformed.value).replace("127.0.0.1:hush", "")


def test_a_refused_connection_is_unreachable() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        with pytest.raises(Unreachable, match="Connection refused"):
            loaders.load(f"http://127.0.0.1:{port}/x")


def test_a_server_that_sends_endlessly_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte arrives within the timeout of a read; only the timeout of the whole request ends it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    done = threading.Event()

    def drip(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not done.wait(0.02):
                connection.sendall(b"X-Drip: 1\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        try:
            with pytest.raises(Unreachable, match=r"no complete answer in 0.3s"):
                loaders.load(f"http://127.0.0.1:{listener.getsockname()[1]}/x", timeout_s=0.3)
        finally:
            done.set()
            thread.join()
