"""The leadership observer of a single replica, on a virtual clock."""

import asyncio
import contextlib
import itertools

from infrakit.leadership.static import Static
from infrakit.simulation import loop as virtual
from infrakit.spi.leadership import Leadership, Observation


async def observed(count: int) -> list[tuple[float, Observation]]:
    """The first observations, each with the time at which it arrived."""
    leadership: Leadership = Static()
    found = []
    async with contextlib.aclosing(leadership.observe()) as observations:  # type: ignore[type-var]
        async for observation in observations:
            found.append((asyncio.get_running_loop().time(), observation))
            if len(found) == count:
                break
    return found


def test_a_single_replica_leads_at_once_and_no_observation_expires_before_the_next() -> None:
    found = virtual.run(observed(5))
    assert found[0][0] == 0.0
    for (came_at, observation), (next_at, _) in itertools.pairwise(found):
        assert observation.leader is True
        assert observation.begun_at == came_at
        assert next_at < observation.begun_at + observation.valid_s
