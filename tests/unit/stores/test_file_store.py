"""The file store: its files on the disk, and its errors when they are damaged or not accessible."""

import asyncio
import errno
import fcntl
import multiprocessing
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from infrakit.spi import errors
from infrakit.stores import file
from infrakit.stores.file import BODY_BYTES_MAX, FileStore

PROCESSES, EACH = 4, 25


def written(directory: Path, count: int = 3) -> FileStore:
    store = FileStore(directory)

    async def write() -> None:
        for number in range(count):
            await store.replace(name="doc", body=b"body %d" % (number + 1), expected=number)

    asyncio.run(write())
    return store


def newest(directory: Path) -> Path:
    return max(p for p in (directory / "doc").iterdir() if p.name.isdigit())


def test_only_the_owner_can_read_the_store(tmp_path: Path) -> None:
    written(tmp_path / "store")
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "store" / "doc").stat().st_mode) == 0o700
    assert stat.S_IMODE(newest(tmp_path / "store").stat().st_mode) == 0o600


def _flip(content: bytes) -> bytes:
    return content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]


def _wrong_sum(content: bytes) -> bytes:
    return content.replace(content[20:24], b"ffff", 1)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda content: content[:-1],
    "longer": lambda content: content + b"x",
    "a flipped bit": _flip,
    "another checksum": _wrong_sum,
    "garbage": lambda _: b"\x00\xff" * 40,
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_newest_revision_is_refused_instead_of_using_an_older_one(tmp_path: Path, damage: str) -> None:
    store = await asyncio.to_thread(written, tmp_path)
    path = newest(tmp_path)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(errors.Refused, match="is damaged: its content does not match its checksum") as refused:
        await store.read(name="doc")
    assert str(path) in str(refused.value)
    assert "restore it from a backup" in refused.value.remedy
    assert "revision 2 knowingly" in refused.value.remedy


async def test_an_older_damaged_revision_is_left_out_of_the_history(tmp_path: Path) -> None:
    store = await asyncio.to_thread(written, tmp_path)
    (tmp_path / "doc" / "0000000002").write_bytes(b"damaged")
    assert [d.revision for d in await store.history(name="doc", limit=9)] == [3, 1]
    newest(tmp_path).write_bytes(b"damaged")
    with pytest.raises(errors.Refused, match="is damaged"):
        await store.history(name="doc", limit=9)


async def test_a_lock_that_another_process_holds_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await asyncio.to_thread(written, tmp_path)
    monkeypatch.setattr(file, "LOCK_TIMEOUT_S", 0.02)
    with (tmp_path / "doc" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(errors.Unreachable, match=r"another process has held .*/doc/\.lock"):
            await store.replace(name="doc", body=b"x", expected=3)
    assert await store.replace(name="doc", body=b"x", expected=3) == 4


async def test_removing_a_damaged_revision_restores_the_previous_one(tmp_path: Path) -> None:
    store = await asyncio.to_thread(written, tmp_path)
    newest(tmp_path).unlink()
    assert (await store.read(name="doc")).body == b"body 2"
    assert await store.replace(name="doc", body=b"again", expected=2) == 3


async def test_an_unreadable_revision_is_not_treated_as_missing(tmp_path: Path) -> None:
    store = await asyncio.to_thread(written, tmp_path)
    newest(tmp_path).unlink()
    (tmp_path / "doc" / "0000000003").mkdir()
    for call in (store.read(name="doc"), store.history(name="doc", limit=9)):
        with pytest.raises(errors.Unreachable, match="0000000003 cannot be read: Is a directory"):
            await call


async def test_an_unreadable_directory_is_not_treated_as_empty(tmp_path: Path) -> None:
    (tmp_path / "doc").write_text("a file is in the way")
    store = FileStore(tmp_path)
    for call in (store.read(name="doc"), store.history(name="doc", limit=9), anext(store.watch(name="doc"))):
        with pytest.raises(errors.Unreachable, match="doc cannot be read: Not a directory"):
            await call


async def test_a_disk_that_fails_after_the_link_leaves_the_outcome_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await asyncio.to_thread(written, tmp_path)
    fsync = os.fsync

    def fails_for_directories(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fails_for_directories)
    with pytest.raises(errors.OutcomeUnknown, match="revision 4 may be lost in a power failure"):
        await store.replace(name="doc", body=b"x", expected=3)
    assert (await store.read(name="doc")).body == b"x"


async def test_a_removed_directory_is_recreated(tmp_path: Path) -> None:
    store = await asyncio.to_thread(written, tmp_path / "store")
    for path in sorted((tmp_path / "store").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert (await store.read(name="doc")).revision == 0
    assert await store.replace(name="doc", body=b"new", expected=0) == 1


async def test_an_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file is in the way")
    store = FileStore(tmp_path / "store")
    with pytest.raises(errors.Unreachable, match="store/doc cannot be written"):
        await store.replace(name="doc", body=b"x", expected=0)


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.Refused, match="the limit"):
        await FileStore(tmp_path).replace(name="doc", body=bytes(BODY_BYTES_MAX + 1), expected=0)


@pytest.mark.parametrize("name", ["../doc", "a/b", ".", "", "/etc/passwd"])
async def test_an_invalid_document_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.Refused, match="is not a valid document name"):
        await FileStore(tmp_path).read(name=name)


def _fill(directory: str) -> None:
    """Run in a process that may not write large files, which simulates a full disk."""
    store = FileStore(Path(directory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    async def attempt() -> None:
        with pytest.raises(errors.Unreachable, match="cannot be written"):
            await store.replace(name="doc", body=bytes(10_000), expected=3)
        assert (await store.read(name="doc")).revision == 3
        assert await store.replace(name="doc", body=b"small", expected=3) == 4

    asyncio.run(attempt())


def test_a_full_disk_leaves_the_existing_revisions(tmp_path: Path) -> None:
    written(tmp_path)
    process = multiprocessing.get_context("fork").Process(target=_fill, args=(str(tmp_path),))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert sorted(p.name for p in (tmp_path / "doc").iterdir()) == [
        ".lock",
        *(f"{number:010}" for number in (1, 2, 3, 4)),
    ]


def _append(directory: str, name: int) -> None:
    """Append the name to the document repeatedly, with a retry after each conflict."""
    store = FileStore(Path(directory), keep={"doc": 2})

    async def work() -> None:
        left = EACH
        while left:
            seen = await store.read(name="doc")
            try:
                await store.replace(name="doc", body=seen.body + b"%d" % name, expected=seen.revision)
            except errors.Conflict:
                continue
            left -= 1

    asyncio.run(work())


def test_writers_in_several_processes_lose_nothing(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_append, args=(str(tmp_path), name)) for name in range(PROCESSES)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [w.exitcode for w in writers] == [0] * PROCESSES
    document = asyncio.run(FileStore(tmp_path).read(name="doc"))
    assert document.revision == PROCESSES * EACH
    assert sorted(document.body) == sorted(b"".join(b"%d" % n for n in range(PROCESSES)) * EACH)


async def test_temporary_files_of_terminated_writers_are_removed(tmp_path: Path) -> None:
    store = await asyncio.to_thread(written, tmp_path)
    for left in (".new-7-4", f".new-{os.getpid()}-4", ".new-by hand"):
        (tmp_path / "doc" / left).write_bytes(b"half")
    assert await store.replace(name="doc", body=b"x", expected=3) == 4
    assert not list((tmp_path / "doc").glob(".new-*"))


async def test_a_write_does_not_follow_the_link_of_a_terminated_writer(tmp_path: Path) -> None:
    store = await asyncio.to_thread(written, tmp_path)
    os.link(
        newest(tmp_path), tmp_path / "doc" / f".new-{os.getpid()}-3"
    )  # the writer terminated between the link and its removal
    await store.replace(name="doc", body=b"x", expected=3)
    assert [d.body for d in await store.history(name="doc", limit=2)] == [b"x", b"body 3"]


async def test_a_cancelled_write_is_atomic(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    for number in range(20):
        before = await store.read(name="doc")
        write = asyncio.create_task(store.replace(name="doc", body=b"%d" % number * 1000, expected=before.revision))
        await asyncio.sleep(0)
        write.cancel()
        await asyncio.wait({write})
    async with asyncio.timeout(20):
        await anext(revision async for revision in store.watch(name="doc") if revision)
    assert len((await store.read(name="doc")).body) >= 1000
