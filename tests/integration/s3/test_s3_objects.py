"""How the store handles the objects in its bucket: its own, damaged ones, and those of other programs."""

from collections.abc import Callable

import pytest

from infrakit.clients import s3 as client
from infrakit.clients.s3 import Bucket
from infrakit.spi import errors
from infrakit.stores.s3 import BODY_BYTES_MAX, S3Store
from tests.integration.s3.buckets import Server, needs_s3, write

pytestmark = needs_s3

OpenStore = Callable[..., S3Store]


async def overwrite(bucket: Bucket, key: str, content: bytes) -> None:
    await bucket._ask("put_object", Key=key, Body=content)


@pytest.mark.parametrize("newest", [10, 100, 99_999, 100_000, 9_999_999_998])
async def test_the_newest_revision_is_found_whatever_the_length_of_its_number(
    bucket: Bucket, store: S3Store, newest: int
) -> None:
    for revision in (newest - 1, newest, newest - 9):
        await bucket.create(store._key("doc", revision), store._encode(b"%d" % revision))
    assert (await store.read(name="doc")).body == b"%d" % newest
    assert await store.replace(name="doc", body=b"on", expected=newest) == newest + 1
    assert [d.revision for d in await store.history(name="doc", limit=9)] == [
        newest + 1,
        newest,
        newest - 1,
        newest - 9,
    ]


async def test_listings_continue_over_several_pages(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await write(store, 8)
    monkeypatch.setattr(client, "PAGE_KEYS_MAX", 3)
    assert [d.revision for d in await store.history(name="doc", limit=7)] == [8, 7, 6, 5, 4, 3, 2]


async def test_an_unchanged_revision_is_not_fetched_again(server: Server, store: S3Store) -> None:
    await write(store, 2)
    for _again in range(3):
        assert (await store.read(name="doc")).body == b"2"
    assert len([each for each in server.requests if each.startswith("GET") and "/doc/" in each]) == 1


@pytest.mark.parametrize("content", [b"", b"garbage", b"infrakit-s3-1 0000 0000\nbody"])
async def test_a_damaged_newest_revision_is_refused_instead_of_using_an_older_one(
    bucket: Bucket, store: S3Store, content: bytes
) -> None:
    await write(store, 3)
    await overwrite(bucket, store._key("doc", 3), content)
    for call in (store.read(name="doc"), store.history(name="doc", limit=9)):
        with pytest.raises(errors.Refused, match=r"doc/9999999996-3 is damaged: .* revision 2 knowingly, move it away"):
            await call
    await bucket.remove(store._key("doc", 3))
    assert (await store.read(name="doc")).body == b"2"


async def test_an_older_damaged_revision_is_left_out_of_the_history(bucket: Bucket, store: S3Store) -> None:
    await write(store, 3)
    await overwrite(bucket, store._key("doc", 2), b"damaged")
    assert [d.revision for d in await store.history(name="doc", limit=9)] == [3, 1]


async def test_restored_content_of_the_same_revision_is_read(bucket: Bucket, store: S3Store) -> None:
    await write(store, 1)
    assert (await store.read(name="doc")).body == b"1"
    await overwrite(bucket, store._key("doc", 1), store._encode(b"restored"))
    assert (await store.read(name="doc")).body == b"restored"


@pytest.mark.parametrize("key", ["0README", "9999999997-3", "9999999997-2/x", "999999999-2"])
async def test_an_object_that_is_not_a_revision_is_refused(bucket: Bucket, store: S3Store, key: str) -> None:
    await write(store, 1)
    await overwrite(bucket, f"infrakit/doc/{key}", b"by hand")
    with pytest.raises(errors.Refused, match=f"doc/{key} is no revision of doc.*; move it away"):
        await store.read(name="doc")


async def test_a_folder_object_of_a_console_is_ignored(bucket: Bucket, store: S3Store) -> None:
    await overwrite(bucket, "infrakit/doc/", b"")
    await write(store, 2)
    assert (await store.read(name="doc")).body == b"2"


async def test_documents_and_prefixes_are_separate(store: S3Store, open_store: OpenStore) -> None:
    other = open_store(prefix="infrakit/doc")
    await write(store, 1)
    await other.replace(name="doc", body=b"other", expected=0)
    await store.replace(name="doc2", body=b"second", expected=0)
    assert await other.read(name="doc") != await store.read(name="doc2")
    assert (await store.read(name="doc2")).body == b"second"


async def test_a_body_that_is_too_large_is_refused(store: S3Store) -> None:
    with pytest.raises(errors.Refused, match="the limit"):
        await store.replace(name="doc", body=bytes(BODY_BYTES_MAX + 1), expected=0)
    assert await store.replace(name="doc", body=bytes(BODY_BYTES_MAX), expected=0) == 1


@pytest.mark.parametrize("name", ["../doc", "a/b", ".", "", "/etc/passwd"])
async def test_an_invalid_document_name_is_refused(store: S3Store, name: str) -> None:
    with pytest.raises(errors.Refused, match="is not a valid document name"):
        await store.read(name=name)
