"""What the store makes of the objects that are in its bucket: its own, damaged ones, and those of others."""

from collections.abc import Callable

import pytest

from infrakit.clients import s3 as client
from infrakit.clients.s3 import Bucket
from infrakit.spi import errors
from infrakit.stores.s3 import BODY_BYTES_MAX, S3Store
from tests.integration.s3.buckets import Server, needs_s3, write

pytestmark = needs_s3

Beside = Callable[..., S3Store]


async def overwrite(bucket: Bucket, key: str, content: bytes) -> None:
    await bucket._ask("put_object", Key=key, Body=content)


@pytest.mark.parametrize("newest", [10, 100, 99_999, 100_000, 9_999_999_998])
async def test_the_newest_is_found_however_long_its_number(bucket: Bucket, store: S3Store, newest: int) -> None:
    for revision in (newest - 1, newest, newest - 9):
        await bucket.create(store._key("doc", revision), store._sealed(b"%d" % revision))
    assert (await store.read(name="doc")).body == b"%d" % newest
    assert await store.replace(name="doc", body=b"on", expected=newest) == newest + 1
    assert [d.revision for d in await store.history(name="doc", limit=9)] == [
        newest + 1,
        newest,
        newest - 1,
        newest - 9,
    ]


async def test_listings_go_on_over_their_pages(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await write(store, 8)
    monkeypatch.setattr(client, "PAGE_KEYS_MAX", 3)
    assert [d.revision for d in await store.history(name="doc", limit=7)] == [8, 7, 6, 5, 4, 3, 2]


async def test_what_was_read_is_not_fetched_again(server: Server, store: S3Store) -> None:
    await write(store, 2)
    for _again in range(3):
        assert (await store.read(name="doc")).body == b"2"
    assert len([asked for asked in server.asked if asked.startswith("GET") and "/doc/" in asked]) == 1


@pytest.mark.parametrize("content", [b"", b"garbage", b"infrakit-s3-1 0000 0000\nbody"])
async def test_damage_is_told_and_no_older_revision_is_taken_instead(
    bucket: Bucket, store: S3Store, content: bytes
) -> None:
    await write(store, 3)
    await overwrite(bucket, store._key("doc", 3), content)
    for question in (store.read(name="doc"), store.history(name="doc", limit=9)):
        with pytest.raises(errors.Refused, match=r"doc/9999999996-3 is damaged: .* revision 2 knowingly, move it away"):
            await question
    await bucket.remove(store._key("doc", 3))
    assert (await store.read(name="doc")).body == b"2"


async def test_an_older_damaged_revision_costs_only_itself(bucket: Bucket, store: S3Store) -> None:
    await write(store, 3)
    await overwrite(bucket, store._key("doc", 2), b"damaged")
    assert [d.revision for d in await store.history(name="doc", limit=9)] == [3, 1]


async def test_a_content_that_was_restored_under_the_same_number_is_read(bucket: Bucket, store: S3Store) -> None:
    await write(store, 1)
    assert (await store.read(name="doc")).body == b"1"
    await overwrite(bucket, store._key("doc", 1), store._sealed(b"restored"))
    assert (await store.read(name="doc")).body == b"restored"


@pytest.mark.parametrize("key", ["0README", "9999999997-3", "9999999997-2/x", "999999999-2"])
async def test_what_is_no_revision_is_not_passed_over(bucket: Bucket, store: S3Store, key: str) -> None:
    await write(store, 1)
    await overwrite(bucket, f"infrakit/doc/{key}", b"by hand")
    with pytest.raises(errors.Refused, match=f"doc/{key} is no revision of doc.*; move it away"):
        await store.read(name="doc")


async def test_the_folder_that_a_console_makes_is_passed_over(bucket: Bucket, store: S3Store) -> None:
    await overwrite(bucket, "infrakit/doc/", b"")
    await write(store, 2)
    assert (await store.read(name="doc")).body == b"2"


async def test_documents_and_prefixes_are_apart(store: S3Store, beside: Beside) -> None:
    other = beside(prefix="infrakit/doc")
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
async def test_names_stay_inside(store: S3Store, name: str) -> None:
    with pytest.raises(errors.Refused, match="is not a valid document name"):
        await store.read(name=name)
