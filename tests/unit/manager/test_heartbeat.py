"""The leadership moves away from a replica that hangs, by agreement of most followers, and never from a healthy one."""

import contextlib
from collections.abc import Collection, Sequence

import msgspec
import pytest

from infrakit.manager.lead.heartbeat import MISSED_MAX, NAME, Heartbeat, HeartbeatDocument
from infrakit.spi import errors
from infrakit.spi.leadership import Observation
from infrakit.stores.memory import MemoryStore

LONG = 10 * MISSED_MAX
SOON = MISSED_MAX + 3  # the first read, those that miss the beat, and one more because of a conflict


class World:
    """Nodes that observe one leader, each with a replica unless it is in `without`; time passes in rounds."""

    def __init__(self, names: Sequence[str], *, without: Collection[str] = (), older: bool = False) -> None:
        self.leader = names[0]
        self.hung: set[str] = set()
        self.stalled: set[str] = set()
        self.moves: list[tuple[str, str]] = []
        self.store = MemoryStore()
        self._older = older
        self._replicas = {name: self._replica(name) for name in names if name not in without}

    def _replica(self, name: str) -> Heartbeat:
        async def take_over(leader: str) -> None:
            if self.leader == leader:
                self.moves.append((leader, name))
                self.leader = name

        return Heartbeat(
            self.store,
            name,
            observed=lambda: Observation(leader=self.leader == name, begun_at=0, valid_s=1, who=self.leader),
            progresses=lambda: name not in self.stalled,
            replicas=self._names,
            take_over=take_over,
        )

    async def _names(self) -> Collection[str]:
        return () if self._older else self._replicas.keys()

    async def rounds(self, count: int) -> None:
        for _round in range(count):
            for name, replica in self._replicas.items():
                if name not in self.hung:
                    with contextlib.suppress(errors.Conflict):
                        await replica.step()

    async def document(self) -> HeartbeatDocument:
        return msgspec.json.decode((await self.store.read(name=NAME)).body, type=HeartbeatDocument)


async def test_a_leader_that_beats_keeps_leading() -> None:
    world = World("abc")
    await world.rounds(LONG)
    assert world.moves == []
    assert await world.document() == HeartbeatDocument(leader="a", replica="a", beat=LONG)


@pytest.mark.parametrize("names", ["abc", "abcde"])
async def test_the_leadership_moves_away_from_a_replica_that_hangs(names: str) -> None:
    world = World(names)
    await world.rounds(3)
    world.hung = {"a"}
    await world.rounds(MISSED_MAX - 1)
    assert world.moves == []
    await world.rounds(SOON)
    await world.rounds(LONG)
    assert len(world.moves) == 1
    assert world.moves[0][0] == "a"
    world.hung = set()  # it continues, and finds another leader
    await world.rounds(LONG)
    assert len(world.moves) == 1
    assert (await world.document()).silent == {}


async def test_missed_beats_do_not_add_up_over_one_that_was_read() -> None:
    world = World("abc")
    await world.rounds(3)
    for _gap in range(3):
        world.hung = {"a"}
        await world.rounds(MISSED_MAX - 1)
        world.hung = set()
        await world.rounds(1)
    assert world.moves == []


async def test_the_leadership_moves_from_a_node_without_a_replica() -> None:
    world = World("abcd", without="a")
    await world.rounds(SOON + 1)
    assert len(world.moves) == 1


async def test_a_replica_whose_controllers_are_stalled_does_not_beat() -> None:
    world = World("abc")
    await world.rounds(3)
    world.stalled = {"a"}
    await world.rounds(SOON)
    assert len(world.moves) == 1


@pytest.mark.parametrize(
    ("names", "hung"),
    [
        pytest.param("ab", "a", id="the only follower"),
        pytest.param("abc", "ac", id="one follower of two"),
        pytest.param("abcde", "ade", id="two followers of four"),
    ],
)
async def test_without_most_followers_nothing_moves(names: str, hung: str) -> None:
    world = World(names)
    await world.rounds(3)
    world.hung = set(hung)
    await world.rounds(LONG)
    assert world.moves == []


async def test_most_followers_are_enough() -> None:
    world = World("abcd")
    await world.rounds(3)
    world.hung = {"a", "d"}
    await world.rounds(SOON)
    assert len(world.moves) == 1


async def test_a_follower_that_was_stopped_has_missed_nothing() -> None:
    world = World("abc")
    await world.rounds(3)
    for _time in range(LONG):
        world.hung = {"b", "c"}
        await world.rounds(MISSED_MAX)
        world.hung = set()
        await world.rounds(1)
    assert world.moves == []
    assert (await world.document()).silent == {}


async def test_the_record_of_a_missed_beat_ends_with_the_next_beat() -> None:
    world = World("abc")
    await world.rounds(3)
    world.hung = {"a", "c"}
    await world.rounds(SOON)
    assert (await world.document()).silent == {"b": "a"}
    world.hung = {"b"}
    await world.rounds(1)
    assert (await world.document()).silent == {}
    world.hung = {"a", "b"}
    await world.rounds(LONG)
    assert world.moves == []


async def test_a_missed_beat_of_another_leader_does_not_count() -> None:
    world = World("abcde", without="a")
    await world.rounds(1)
    world.hung = {"c", "d", "e"}
    await world.rounds(SOON)
    assert (await world.document()).silent == {"b": "a"}
    world.leader, world.hung = "e", {"b", "d", "e"}
    await world.rounds(SOON)
    assert (await world.document()).silent == {"c": "e"}
    assert world.moves == []


async def test_nothing_moves_while_a_replica_of_an_older_release_has_no_heartbeat() -> None:
    world = World("abc", older=True)
    await world.rounds(1)
    world.hung = {"a"}
    await world.rounds(LONG)
    assert world.moves == []


async def test_without_an_observation_nothing_is_counted_or_written() -> None:
    store = MemoryStore()
    seen: list[Observation | None] = [None, Observation(leader=False, begun_at=0, valid_s=1)]

    async def replicas() -> Collection[str]:
        raise AssertionError

    async def take_over(leader: str) -> None:
        raise AssertionError(leader)

    for observation in seen:
        silent = Heartbeat(
            store,
            "b",
            observed=lambda observation=observation: observation,  # type: ignore[misc]
            progresses=lambda: True,
            replicas=replicas,
            take_over=take_over,
        )
        for _round in range(LONG):
            await silent.step()
    assert await store.newest(name=NAME) == 0
