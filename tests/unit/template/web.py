"""A web server of templates, on its own address in 127.x, over HTTP, HTTPS or a unix socket."""

import contextlib
import http.server
import socketserver
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """The response for a path."""

    body: bytes = b""
    code: int = 200
    headers: Mapping[str, str] = MappingProxyType({})


class Site(http.server.ThreadingHTTPServer):
    """Pages by path; `asked` records each requested path with the entity tag of the request."""

    daemon_threads = True

    def __init__(self, address: Any) -> None:
        self.pages: dict[str, Answer | list[Answer]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.authorized: list[str | None] = []
        super().__init__(address, _Handler)

    def page(self, path: str, text: str, **headers: str) -> None:
        """Answer `path` with a text."""
        self.pages[path] = Answer(text.encode(), headers={k.replace("_", "-"): v for k, v in headers.items()})


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["If-None-Match"]))
        self.server.authorized.append(self.headers["Authorization"])
        found = self.server.pages.get(self.path, Answer(code=404))
        answer = found.pop(0) if isinstance(found, list) else found
        if answer.headers.get("ETag") and answer.headers["ETag"] == self.headers["If-None-Match"]:
            answer = Answer(code=304)
        self.send_response(answer.code)
        for name, value in ({"Content-Length": str(len(answer.body)), **answer.headers}).items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(answer.body)

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


class _Socket(Site):
    address_family = 1  # AF_UNIX

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)


@contextlib.contextmanager
def serving(host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, Site]]:
    """A site, and its address without a path."""
    with _running(Site((host, 0)), tls) as site:
        yield f"{'https' if tls else 'http'}://{host}:{site.server_address[1]}", site


@contextlib.contextmanager
def serving_socket(path: Path) -> Iterator[Site]:
    """A site on a unix socket."""
    with _running(_Socket(str(path)), None) as site:
        yield site


@contextlib.contextmanager
def _running(site: Site, tls: ssl.SSLContext | None) -> Iterator[Site]:
    if tls is not None:
        site.socket = tls.wrap_socket(site.socket, server_side=True)
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()
        thread.join()
