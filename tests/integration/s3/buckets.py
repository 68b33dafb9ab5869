"""An S3 server (moto) in this process, and middleware that simulates faults between it and a client.

moto checks and writes in two steps, so one request is served at a time; Amazon's S3 is atomic.
"""

import contextlib
import email.utils
import importlib.util
import itertools
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from infrakit.clients.s3 import Bucket
from infrakit.spi.store import Store

Request = WSGIEnvironment
Middleware = Callable[[Request, StartResponse, WSGIApplication], Iterable[bytes]]

_numbers = itertools.count(1)
_MISSING = [name for name in ("aiobotocore", "moto", "flask", "flask_cors") if importlib.util.find_spec(name) is None]

needs_s3 = pytest.mark.skipif(
    bool(_MISSING), reason="needs the extra s3 and moto (make sets them up; pip install -e '.[s3]' --group test)"
)


class Server:
    """Serves at `endpoint`; each request passes through `middleware`, if there is one."""

    def __init__(self) -> None:
        from moto.moto_server import werkzeug_app as moto
        from werkzeug.serving import make_server

        class Quiet(moto.MotoRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
                pass

        self.middleware: Middleware | None = None
        self.requests: list[str] = []  # methods and paths
        self._moto: WSGIApplication = moto.DomainDispatcherApplication(moto.create_backend_app)
        self._lock = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def _serve(self, request: Request, start: StartResponse) -> Iterable[bytes]:
        self.requests.append(f"{request['REQUEST_METHOD']} {request['PATH_INFO']}")
        if self.middleware is not None:
            return self.middleware(request, start, self._answer)
        return self._answer(request, start)

    def _answer(self, request: Request, start: StartResponse) -> Iterable[bytes]:
        with self._lock:
            return list(self._moto(request, start))

    @contextlib.contextmanager
    def running(self) -> Iterator["Server"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set these variables of AWS and no others, so that no file and no role of this machine is used."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)


CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "key-of-the-tests",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class Closes(Protocol):
    async def close(self) -> None: ...


T = TypeVar("T", bound=Closes)


@contextlib.asynccontextmanager
async def closing(resource: T) -> AsyncIterator[T]:
    try:
        yield resource
    finally:
        await resource.close()


@contextlib.asynccontextmanager
async def new_bucket(server: Server) -> AsyncIterator[Bucket]:
    """A client of a new bucket, with the credentials of the tests."""
    name = f"tests-{os.getpid()}-{next(_numbers)}"
    with environment(CREDENTIALS):
        async with closing(Bucket(name, endpoint=server.endpoint)) as bucket:
            await bucket._ask("create_bucket")
            yield bucket


def later(by: timedelta) -> Middleware:
    """Dates responses as if the clock of the server were ahead."""
    return dated(email.utils.format_datetime(datetime.now(UTC) + by, usegmt=True))


def dated(date: str) -> Middleware:
    """Sets the date of responses."""

    def middleware(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        def changed(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start(status, [*(each for each in headers if each[0].lower() != "date"), ("Date", date)], *more)

        return serve(request, changed)

    return middleware


def answering(status: str, code: str, *, method: str = "", headers: Mapping[str, str] | None = None) -> Middleware:
    """Responds with an error, to requests of one method, or to all."""

    def middleware(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        if method and request["REQUEST_METHOD"] != method:
            return serve(request, start)
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as {CREDENTIALS}</Message></Error>".encode()
        listed = {"Content-Type": "application/xml", "Content-Length": str(len(body)), **(headers or {})}
        start(status, list(listed.items()))
        return [body]

    return middleware


async def write(store: Store, count: int, *, start: int = 0) -> None:
    """Write revisions of the document `doc`, each with its number as its body."""
    for number in range(start, start + count):
        assert await store.replace(name="doc", body=b"%d" % (number + 1), expected=number) == number + 1
