"""The client of a bucket: the error for each failure, its remedy, and that it shows no secret."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication

import pytest

from infrakit.clients.s3 import Bucket
from infrakit.runtime import sources
from infrakit.spi import errors
from infrakit.spi.store import Store
from infrakit.stores.s3 import S3Store
from tests.integration.s3.buckets import CREDENTIALS, Request, Server, answering, closing, dated, environment, needs_s3

pytestmark = needs_s3

READ, WRITE = "read", "write"
FAILURES = {
    "SlowDown": ("503 Slow Down", errors.Throttled, errors.Throttled, ""),
    "TooMany": ("429 Too Many Requests", errors.Throttled, errors.Throttled, ""),
    "ServiceUnavailable": ("503 Service Unavailable", errors.Unreachable, errors.OutcomeUnknown, ""),
    "InternalError": ("500 Internal Server Error", errors.Unreachable, errors.OutcomeUnknown, ""),
    "RequestTimeout": ("400 Bad Request", errors.Unreachable, errors.OutcomeUnknown, ""),
    "AccessDenied": ("403 Forbidden", errors.Refused, errors.Refused, "allow s3:ListBucket"),
    "InvalidAccessKeyId": ("403 Forbidden", errors.Refused, errors.Refused, "check the credentials"),
    "ExpiredToken": ("400 Bad Request", errors.Refused, errors.Refused, "check the credentials"),
    "RequestTimeTooSkewed": ("403 Forbidden", errors.Refused, errors.Refused, "set the clock"),
    "NoSuchBucket": ("404 Not Found", errors.Refused, errors.Refused, "create the bucket"),
    "AuthorizationHeaderMalformed": ("400 Bad Request", errors.Refused, errors.Refused, "?region="),
    "NotImplemented": ("501 Not Implemented", errors.Refused, errors.Refused, "If-None-Match"),
    "StorageFull": ("507 Insufficient Storage", errors.Refused, errors.Refused, "free space"),
    "Unheard": ("418 Teapot", errors.Refused, errors.Refused, "check that the endpoint speaks S3"),
}


def store_at(url: str) -> Store:
    return sources.store(url, Path("/nowhere"))


async def send(bucket: Bucket, kind: str) -> None:
    if kind == WRITE:
        await bucket.create("key", b"content")
    else:
        await bucket.list("", after="", limit=1)


@pytest.mark.parametrize("kind", [READ, WRITE])
@pytest.mark.parametrize("code", FAILURES)
async def test_each_failure_raises_its_error_with_a_remedy_and_no_secret(
    server: Server, bucket: Bucket, code: str, kind: str
) -> None:
    status, reading, writing, remedy = FAILURES[code]
    server.middleware = answering(status, code)
    with pytest.raises(errors.InfraKitError) as failure:
        await send(bucket, kind)
    assert type(failure.value) is (writing if kind == WRITE else reading)
    assert code in failure.value.what
    assert remedy in failure.value.remedy
    assert bucket.where in failure.value.where
    assert not [secret for name, secret in CREDENTIALS.items() if "KEY" in name and secret in repr(failure.value)]
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__


async def test_throttling_reports_the_delay_that_the_server_requests(server: Server, bucket: Bucket) -> None:
    server.middleware = answering("503 Slow Down", "SlowDown", headers={"Retry-After": "7"})
    with pytest.raises(errors.Throttled) as throttled:
        await send(bucket, READ)
    assert throttled.value.after_s == 7.0


async def test_failed_requests_are_not_retried(server: Server, bucket: Bucket) -> None:
    await send(bucket, READ)
    before = len(server.requests)
    server.middleware = answering("503 Slow Down", "SlowDown")
    for kind in (READ, WRITE):
        with pytest.raises(errors.Throttled):
            await send(bucket, kind)
    assert len(server.requests) == before + 2


@pytest.mark.parametrize(("kind", "expected"), [(READ, errors.Unreachable), (WRITE, errors.OutcomeUnknown)])
async def test_a_server_that_does_not_respond_times_out(
    server: Server, bucket: Bucket, kind: str, expected: type[errors.InfraKitError]
) -> None:
    await send(bucket, READ)  # the library is imported
    released = threading.Event()

    def hanging(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        assert released.wait(30)
        return serve(request, start)

    server.middleware = hanging
    bucket._deadline_s = 0.05
    try:
        with pytest.raises(expected, match=r"no answer within 0\.05 s"):
            await send(bucket, kind)
    finally:
        released.set()


@pytest.mark.parametrize("kind", [READ, WRITE])
async def test_a_server_that_does_not_listen_is_unreachable(kind: str) -> None:
    async with closing(Bucket("tests", endpoint="http://127.0.0.1:1")) as bucket:
        with (
            environment(CREDENTIALS),
            pytest.raises(errors.Unreachable, match=r"127\.0\.0\.1:1: cannot connect: Connection refused$"),
        ):
            await send(bucket, kind)


async def test_a_server_that_does_not_speak_s3_is_reported(server: Server, bucket: Bucket) -> None:
    def serve_html(request: Request, start: StartResponse, serve: WSGIApplication) -> Iterable[bytes]:
        start("404 Not Found", [("Content-Type", "text/html"), ("Content-Length", "11")])
        return [b"<html>hello"]

    server.middleware = serve_html
    with pytest.raises(errors.Refused, match=r"404 .*check that the endpoint speaks S3"):
        await send(bucket, READ)


async def test_responses_without_a_valid_date_are_refused(server: Server, bucket: Bucket) -> None:
    server.middleware = dated("yesterday")
    for kind in (READ, WRITE):
        with pytest.raises(errors.Refused, match="have no date"):
            await send(bucket, kind)


async def test_a_missing_bucket_is_named(server: Server) -> None:
    async with closing(Bucket("nowhere", endpoint=server.endpoint)) as bucket:
        with environment(CREDENTIALS), pytest.raises(errors.Refused, match=r"s3://nowhere at http.*create the bucket"):
            await send(bucket, READ)


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no credentials"), ({"AWS_PROFILE": "mine"}, "Profile")],
)
async def test_missing_credentials_are_reported_with_a_remedy(
    server: Server, change: dict[str, str], expected: str
) -> None:
    async with closing(Bucket("tests", endpoint=server.endpoint)) as bucket:
        with environment(CREDENTIALS | change), pytest.raises(errors.Refused, match=f"{expected}.*AWS_"):
            await send(bucket, WRITE)
    assert server.requests == []


def test_a_missing_extra_is_reported_with_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiobotocore", None)
    with pytest.raises(errors.Refused, match=r"not installed; install .*\[s3\]' in the clone"):
        store_at("s3://bucket/prefix")


def test_the_library_is_imported_on_first_use() -> None:
    program = (
        "import sys, urllib.parse, infrakit.stores.s3 as s3\n"
        "s3.S3Store.from_url(urllib.parse.urlsplit('s3://bucket/prefix'), keep={})\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('aiobotocore', 'botocore', 'aiohttp')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, env=dict(os.environ)
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("url", "prefix", "where"),
    [
        ("s3://bucket", "infrakit", "s3://bucket"),
        ("s3://my.bucket/a/b/", "a/b", "s3://my.bucket"),
        ("s3://bucket/a?endpoint=http://[::1]:9000/&region=eu-1", "a", "s3://bucket at http://[::1]:9000"),
    ],
)
def test_a_store_is_named_by_its_url(url: str, prefix: str, where: str) -> None:
    store = store_at(url)
    assert isinstance(store, S3Store)
    assert store._prefix == prefix
    assert store._bucket.where == where


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///prefix",
        "s3://b",
        "s3://bucket?endpont=http://host",
        "s3://bucket?endpoint=host:9000",
        "s3://bucket?endpoint=http://me:secret@host",
        "s3://me:secret@bucket",
        "http://bucket",
        "s3://zone--x-s3/prefix",
    ],
)
def test_an_invalid_url_is_refused_without_showing_its_secrets(url: str) -> None:
    with pytest.raises(
        (errors.InvalidSpec, errors.Refused), match=r"write it as|use a general purpose bucket"
    ) as refused:
        store_at(url)
    assert "secret" not in str(refused.value)


async def test_a_store_that_is_opened_by_its_url_works(server: Server, bucket: Bucket) -> None:
    url = f"s3://{bucket._name}/here?endpoint={server.endpoint}&region=eu-central-1"
    async with closing(store_at(url)) as store:
        assert await store.replace(name="doc", body=b"x", expected=0) == 1
    assert server.requests[-1].endswith("/here/doc/9999999998-1")
