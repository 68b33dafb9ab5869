"""A server for each test, and a bucket in it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from infrakit.clients.s3 import Bucket
from infrakit.stores.s3 import S3Store
from tests.integration.s3.buckets import Server, new_bucket


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as server:
        yield server


@pytest.fixture
async def bucket(server: Server) -> AsyncIterator[Bucket]:
    async with new_bucket(server) as bucket:
        yield bucket


@pytest.fixture
async def store(bucket: Bucket) -> AsyncIterator[S3Store]:
    store = S3Store(bucket, watch_interval_s=0.05)
    yield store
    await store.close()
