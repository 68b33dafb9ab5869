"""Conformance of spec stores: the stores of this package satisfy every rule; the check of each broken rule fails."""

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from infrakit.cli.main import main
from infrakit.conformance import stores
from infrakit.conformance.check import Outcome, Verdict
from infrakit.runtime import sources
from infrakit.spi import errors
from infrakit.spi.store import Document, Store
from infrakit.stores.memory import MemoryStore
from tests.integration.conformance.checking import capabilities, failed, skipped
from tests.integration.etcd.members import needs_etcd, running
from tests.integration.s3.buckets import Server, needs_s3, new_bucket
from tests.integration.swarm import engines
from tests.integration.swarm.engines import needs_swarm

WRITING = {rule.name for rule in stores.RULES if rule.writes}


@pytest.fixture(
    params=[
        "file",
        "memory",
        pytest.param("etcd", marks=needs_etcd),
        pytest.param("s3", marks=needs_s3),
        pytest.param("swarm", marks=needs_swarm),
    ]
)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a running store of this package."""
    match request.param:
        case "etcd":
            async with running(1, tmp_path) as cluster:
                yield f"etcd://{cluster.members[0].client_url.removeprefix('http://')}/check"
        case "s3":
            with Server().running() as server:
                async with new_bucket(server) as bucket:
                    yield f"s3://{bucket._name}/check?endpoint={server.endpoint}&region=eu-central-1"
        case "swarm":
            with engines.running(1) as nodes:
                yield f"swarm://{nodes.nodes[0].host.removeprefix('unix://')}"
        case "file":
            yield f"file://{tmp_path}/store"
        case memory:
            yield f"{memory}:"


async def checked(open_: stores.Open, *, writes: bool = True) -> list[Outcome]:
    return [each async for each in stores.run(open_, writes=writes)]


async def test_the_stores_of_this_package_satisfy_every_rule(url: str, tmp_path: Path) -> None:
    found = await checked(lambda keep: sources.store(url, tmp_path, keep=keep))
    assert failed(found) == set(), [each for each in found if each.verdict is Verdict.FAILED]
    shares = not url.startswith("memory")
    assert capabilities(found) == ({"shared"} if shares else set())
    assert skipped(found) == (set() if shares else {"store/fresh"})
    assert [each.name for each in found] == [rule.name for rule in stores.RULES]


async def test_nothing_is_written_without_permission(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    found = await checked(lambda keep: sources.store(url, tmp_path, keep=keep), writes=False)
    assert skipped(found) == WRITING
    assert failed(found) == set()
    assert not (tmp_path / "store").exists()


class Shared(MemoryStore):
    """A store in memory that shares its documents between openings, like a remote store."""

    def __init__(self, other: MemoryStore | None, keep: Mapping[str, int]) -> None:
        super().__init__(keep=keep)
        if other is not None:
            self._revisions = other._revisions


def opening(kind: type[Shared]) -> stores.Open:
    opened: list[Shared] = []

    def open_(keep: Mapping[str, int]) -> Store:
        opened.append(kind(opened[0] if opened else None, keep))
        return opened[-1]

    return open_


class AnyConflict(Shared):
    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        try:
            return await super().replace(name=name, body=body, expected=expected)
        except errors.Conflict as error:
            raise errors.Refused(error.what) from None


class Overwrites(Shared):
    """The last writer wins."""

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        newest = (await self.read(name=name)).revision
        return await super().replace(name=name, body=body, expected=newest)


class OldestFirst(Shared):
    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        return list(reversed(await super().history(name=name, limit=limit)))


class NoLimit(Shared):
    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        return await super().history(name=name, limit=100)


class KeepsOne(Shared):
    def __init__(self, other: MemoryStore | None, keep: Mapping[str, int]) -> None:
        super().__init__(other, dict.fromkeys(keep, 1))


class StripsSpace(Shared):
    """Strips white space."""

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        return await super().replace(name=name, body=body.strip(), expected=expected)


class Small(Shared):
    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if len(body) > 100_000:
            raise errors.Refused("too large")
        return await super().replace(name=name, body=body, expected=expected)


class OneCounter(Shared):
    """Numbers the revisions of all documents with one counter."""

    counter = itertools.count(1)

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        await super().replace(name=name, body=body, expected=expected)
        return next(self.counter)


class Missing(Shared):
    async def read(self, *, name: str) -> Document:
        if name not in self._revisions:
            raise KeyError(name)
        return await super().read(name=name)


class StopsWatching(Shared):
    async def watch(self, *, name: str) -> AsyncIterator[int]:
        async for revision in super().watch(name=name):
            yield revision
            return


class Stale(Shared):
    """Returns the result of the previous read."""

    def __init__(self, other: MemoryStore | None, keep: Mapping[str, int]) -> None:
        super().__init__(other, keep)
        self._seen: dict[str, Document] = {}

    async def read(self, *, name: str) -> Document:
        found = await super().read(name=name)
        stale = self._seen.get(name, found)
        self._seen[name] = found
        return stale if "fresh" in name else found


class OwnHead(Shared):
    """Returns the head of the document that it reads, instead of the other one's."""

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        return await super().read_with(name=name, head=name)


class Broken(Shared):
    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        if "keep" in name:
            raise ConnectionError("it hung up")
        return await super().history(name=name, limit=limit)


@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        (Shared, set()),
        (AnyConflict, {"conflict", "concurrent"}),
        (Overwrites, {"conflict", "concurrent"}),
        (OldestFirst, {"conflict", "history", "keep", "concurrent"}),
        (NoLimit, {"history"}),
        (KeepsOne, {"keep"}),
        (StripsSpace, {"read-after-write"}),
        (Small, {"large"}),
        (StopsWatching, {"watch"}),
        (Stale, {"fresh"}),
        (OwnHead, {"revisions"}),
        (Broken, {"keep"}),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else "",
)
async def test_the_check_of_a_broken_rule_fails(
    kind: type[Shared], rules: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "WATCH_S", 0.2)
    assert failed(await checked(opening(kind))) == {f"store/{rule}" for rule in rules}


async def test_revision_numbers_shared_by_all_documents_are_found() -> None:
    assert "store/revisions" in failed(await checked(opening(OneCounter)))


async def test_an_unreadable_store_raises_an_error_instead_of_a_report() -> None:
    with pytest.raises(KeyError):
        await checked(opening(Missing))


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["--kind", "store", "--write", "memory:"], 0, "passed   store/conflict: a write that expects"),
        (["--kind", "store", "memory:"], 0, "skipped  store/conflict: "),
        (["--kind", "store", "nonsense"], 1, "'nonsense' is not understood (write it as"),
        (["--kind", "store", "--kind", "flavor", "memory:"], 1, "--kind store takes no other --kind"),
        (["--kind", "store", "etcd://127.0.0.1:1"], 3, "127.0.0.1:1: cannot connect"),
    ],
)
def test_the_check_command(
    arguments: list[str], code: int, output: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["plugin", "check", *arguments]) == code
    captured = capsys.readouterr()
    assert output in captured.out + captured.err
