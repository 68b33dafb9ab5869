"""Several addresses of which any one that answers will do; behind them are canned daemons, or nobody."""

import asyncio
import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest

from infrakit.lifecycle import replicas as module
from infrakit.lifecycle.access import ViaReplica
from infrakit.lifecycle.replicas import Replicas, self_hosted
from infrakit.rpc.server import Server
from infrakit.spec import document
from infrakit.spi import errors
from infrakit.spi.values import Allocation
from tests.stage import pets
from tests.unit.cli.canned import CannedManager

Open = Callable[[str], AbstractAsyncContextManager[CannedManager]]


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def places(short: Path) -> list[str]:
    return [f"unix://{short}/{name}/group" for name in "abc"]


@pytest.fixture
def opened() -> Open:
    """A daemon at a place."""

    @contextlib.asynccontextmanager
    async def daemon(place: str) -> AsyncIterator[CannedManager]:
        manager = CannedManager()
        async with Server(Path(place.removeprefix("unix://")), {".": manager}, events=manager.journal):
            yield manager

    return daemon


async def test_another_one_is_asked_when_one_dies_and_that_is_told_once(places: list[str], opened: Open) -> None:
    told: list[tuple[str, str, str]] = []
    async with Replicas(places, lambda *words: told.append(words)) as replicas, contextlib.AsyncExitStack() as later:
        async with opened(places[0]):
            await replicas.ask("status")
            await later.enter_async_context(opened(places[1]))
            await replicas.ask("status")
            assert (replicas.at, told) == (places[0], [])
        for _ in range(3):
            await replicas.ask("status")
        assert replicas.at == places[1]
        assert [(after, before) for after, before, _ in told] == [(places[1], places[0])]


async def test_one_that_stands_still_is_left_after_a_moment(
    places: list[str], opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.3)
    path = Path(places[0].removeprefix("unix://"))
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as still:  # connections are accepted by the kernel, and nobody answers
        still.bind(str(path))
        still.listen()
        async with Replicas(places) as replicas:
            with pytest.raises(errors.Unreachable) as error:
                await replicas.ask("status")
            assert "no replica answers" in str(error.value)
            assert f"{places[0]}: no answer within 0.3 s" in str(error.value)
            assert f"{places[2]}: it cannot be reached" in str(error.value)
            async with opened(places[1]):
                assert (await replicas.ask("status")).replica == "box"


async def test_one_that_is_slow_is_left_and_nobody_says_that_it_is_dead(places: list[str], opened: Open) -> None:
    told: list[tuple[str, str, str]] = []
    async with (
        Replicas(places, lambda *words: told.append(words)) as replicas,
        opened(places[0]) as slow,
        contextlib.AsyncExitStack() as later,
    ):
        await replicas.ask("status")

        async def status() -> None:  # of a leader that stands still
            await asyncio.sleep(60.0)

        slow.status = status  # type: ignore[method-assign, assignment]
        await later.enter_async_context(opened(places[1]))
        assert (await replicas.ask("status", within_s=0.3)).replica == "box"
        assert (replicas.at, told) == (places[1], [])


async def test_an_order_that_is_lost_goes_to_the_next(places: list[str], opened: Open) -> None:
    async with opened(places[0]) as one, opened(places[1]) as other, Replicas(places) as replicas:
        one.failures["halt"] = other.failures["halt"] = errors.OutcomeUnknown("the connection broke")
        with pytest.raises(errors.Unreachable):
            await replicas.ask("halt", who="ann", why="a test")
        del other.failures["halt"]
        await replicas.ask("halt", who="ann", why="a test")
        assert [name for name, _ in other.orders] == ["halt"]
        one.failures["halt"] = other.failures["halt"] = errors.Conflict("somebody was first")
        with pytest.raises(errors.Conflict):
            await replicas.ask("halt", who="ann", why="a test")


async def test_one_that_cannot_tell_is_left_for_one_that_may(places: list[str], opened: Open) -> None:
    async with opened(places[0]), Replicas(places) as replicas:
        await replicas.ask("status")
        async with opened(places[1]):
            await replicas.turn()
            assert replicas.at == places[1]


async def test_a_place_where_we_may_not_ask_is_no_proof_that_nobody_lives(places: list[str], short: Path) -> None:
    async def deny(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        writer.close()

    (short / "a").mkdir()
    async with await asyncio.start_unix_server(deny, short / "a" / "group"), Replicas(places) as replicas:
        with pytest.raises(errors.Refused, match="it answers 401"):
            await ViaReplica(replicas).answers()


async def test_a_replica_that_cannot_read_its_store_proves_nothing(places: list[str], opened: Open) -> None:
    async with opened(places[0]) as manager, Replicas(places) as replicas:
        access = ViaReplica(replicas)
        assert await access.answers()
        assert await access.version() == 7

        async def history(*, limit: int = 50) -> None:
            raise errors.Unreachable("no quorum", where="store")

        manager.history = history  # type: ignore[method-assign, assignment]
        assert not await access.answers()
        assert "no quorum" in access.where


async def test_a_replica_whose_store_refuses_it_is_left_for_another(places: list[str], opened: Open) -> None:
    """Its machine is no member of the cluster, or not yet: another one may know more."""
    async with opened(places[0]) as manager, Replicas(places) as replicas:
        access = ViaReplica(replicas)

        async def history(*, limit: int = 50) -> None:
            raise errors.Refused("this node is no manager", where="store")

        manager.history = history  # type: ignore[method-assign, assignment]
        assert not await access.answers()
        assert "this node is no manager" in access.where
        async with opened(places[1]):
            while not await access.answers():
                assert "this node is no manager" in access.where


class HostingFlavor:
    """Replicas run on all of its members."""

    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None: ...

    async def replicas(self, *, properties: msgspec.Raw, allocation: Allocation) -> Sequence[str]:
        pattern = msgspec.json.decode(properties).get("at", "")
        return [pattern + each for each in allocation.logical_ids or () if pattern]


class Plugins:
    async def flavor(self, name: str) -> object:
        return HostingFlavor() if name == "hosts" else object()


def group(name: str, flavor: str, **properties: str) -> dict[str, object]:
    declared = pets(name, "a b")
    declared["properties"]["Flavor"] = {"Plugin": flavor, "Properties": properties}
    return declared


async def test_where_replicas_run_is_told_by_the_flavor() -> None:
    declared = [group("one", "hosts", at="http://x:1/"), group("two", "none"), group("three", "hosts")]
    found = await self_hosted(document.parse(json.dumps(declared), source="doc"), Plugins())  # type: ignore[arg-type]
    assert found is not None
    assert (found.groups, found.places) == (("one",), ("http://x:1/a", "http://x:1/b"))
    assert found.first == "one"
    rest = document.parse(json.dumps(declared[1:]), source="doc")
    assert await self_hosted(rest, Plugins()) is None  # type: ignore[arg-type]
