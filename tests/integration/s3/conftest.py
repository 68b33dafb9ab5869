"""A server for each test, and a bucket in it."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from infrakit.clients.s3 import Bucket
from infrakit.stores.s3 import S3Store
from tests.integration.s3.buckets import Server, closing, new_bucket


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as server:
        yield server


@pytest.fixture
async def bucket(server: Server) -> AsyncIterator[Bucket]:
    async with new_bucket(server) as bucket:
        yield bucket


@pytest.fixture
async def open_store(bucket: Bucket) -> AsyncIterator[Callable[..., S3Store]]:
    """Opens the stores of other replicas in the same bucket; options are those of `S3Store`."""
    async with contextlib.AsyncExitStack() as stores:

        def open_(**options: Any) -> S3Store:
            store = S3Store(Bucket(bucket._name, endpoint=bucket._endpoint), **options)
            stores.push_async_callback(store.close)
            return store

        yield open_


@pytest.fixture
async def store(bucket: Bucket) -> AsyncIterator[S3Store]:
    async with closing(S3Store(bucket, watch_interval_s=0.05)) as store:
        yield store
