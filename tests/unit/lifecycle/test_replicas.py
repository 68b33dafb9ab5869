"""A client of several replica addresses: it uses any that answers; behind each is a canned daemon or none."""

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
def short_path() -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def places(short_path: Path) -> list[str]:
    return [f"unix://{short_path}/{name}/group" for name in "abc"]


@pytest.fixture
def opened() -> Open:
    """Runs a canned daemon at an address."""

    @contextlib.asynccontextmanager
    async def daemon(place: str) -> AsyncIterator[CannedManager]:
        manager = CannedManager()
        async with Server(Path(place.removeprefix("unix://")), {".": manager}, events=manager.journal):
            yield manager

    return daemon


async def test_the_client_switches_to_another_replica_when_one_stops_and_reports_it_once(
    places: list[str], opened: Open
) -> None:
    switches: list[tuple[str, str, str]] = []
    async with (
        Replicas(places, lambda *switch: switches.append(switch)) as replicas,
        contextlib.AsyncExitStack() as later,
    ):
        async with opened(places[0]):
            await replicas.ask("status")
            await later.enter_async_context(opened(places[1]))
            await replicas.ask("status")
            assert (replicas.at, switches) == (places[0], [])
        for _ in range(3):
            await replicas.ask("status")
        assert replicas.at == places[1]
        assert [(after, before) for after, before, _ in switches] == [(places[1], places[0])]


async def test_a_replica_that_does_not_answer_is_skipped_after_a_timeout(
    places: list[str], opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.3)
    path = Path(places[0].removeprefix("unix://"))
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as stuck:  # the kernel accepts connections, and no process answers
        stuck.bind(str(path))
        stuck.listen()
        async with Replicas(places) as replicas:
            with pytest.raises(errors.Unreachable) as error:
                await replicas.ask("status")
            assert "no replica answers" in str(error.value)
            assert f"{places[0]}: no answer within 0.3 s" in str(error.value)
            assert f"{places[2]}: it cannot be reached" in str(error.value)
            async with opened(places[1]):
                assert (await replicas.ask("status")).replica == "box"


async def test_a_slow_replica_is_skipped_without_being_reported_as_stopped(places: list[str], opened: Open) -> None:
    switches: list[tuple[str, str, str]] = []
    async with (
        Replicas(places, lambda *switch: switches.append(switch)) as replicas,
        opened(places[0]) as slow,
        contextlib.AsyncExitStack() as later,
    ):
        await replicas.ask("status")

        async def status() -> None:  # the status of a leader that hangs
            await asyncio.sleep(60.0)

        slow.status = status  # type: ignore[method-assign, assignment]
        await later.enter_async_context(opened(places[1]))
        assert (await replicas.ask("status", within_s=0.3)).replica == "box"
        assert (replicas.at, switches) == (places[1], [])


async def test_a_command_without_a_response_is_sent_to_the_next_replica(places: list[str], opened: Open) -> None:
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


async def test_the_client_can_turn_to_another_replica(places: list[str], opened: Open) -> None:
    async with opened(places[0]), Replicas(places) as replicas:
        await replicas.ask("status")
        async with opened(places[1]):
            await replicas.switch()
            assert replicas.at == places[1]


async def test_an_unauthorized_response_does_not_count_as_no_replica(places: list[str], short_path: Path) -> None:
    async def deny(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        writer.close()

    (short_path / "a").mkdir()
    async with await asyncio.start_unix_server(deny, short_path / "a" / "group"), Replicas(places) as replicas:
        with pytest.raises(errors.Refused, match="it answers 401"):
            await ViaReplica(replicas).answers()


async def test_a_replica_that_cannot_read_its_store_does_not_count_as_an_answer(
    places: list[str], opened: Open
) -> None:
    async with opened(places[0]) as manager, Replicas(places) as replicas:
        access = ViaReplica(replicas)
        assert await access.answers()
        assert await access.version() == 7

        async def history(*, limit: int = 50) -> None:
            raise errors.Unreachable("no quorum", where="store")

        manager.history = history  # type: ignore[method-assign, assignment]
        assert not await access.answers()
        assert "no quorum" in access.where


async def test_the_client_leaves_a_replica_whose_store_refuses_it(places: list[str], opened: Open) -> None:
    """Its machine is not, or not yet, a member of the cluster: another replica may answer."""
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


async def test_the_flavor_reports_where_replicas_run() -> None:
    declared = [group("one", "hosts", at="http://x:1/"), group("two", "none"), group("three", "hosts")]
    found = await self_hosted(document.parse(json.dumps(declared), source="doc"), Plugins())  # type: ignore[arg-type]
    assert found is not None
    assert (found.groups, found.places) == (("one",), ("http://x:1/a", "http://x:1/b"))
    assert found.first == "one"
    rest = document.parse(json.dumps(declared[1:]), source="doc")
    assert await self_hosted(rest, Plugins()) is None  # type: ignore[arg-type]
