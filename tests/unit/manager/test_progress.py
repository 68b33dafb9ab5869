"""What the watchdog observes: a replica progresses while its controllers begin cycles, whatever does not answer."""

import asyncio
import math
import random

import pytest

from infrakit.instances.simulator import Faults, Simulator
from infrakit.runtime.watchdog import STALLED_S
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.store import Document
from infrakit.spi.values import Attachment, Description, GroupID, InstanceID
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time, pets


async def longest_stall_s(stage: Stage, within_s: float) -> float:
    loop, longest = asyncio.get_running_loop(), 0.0
    end = loop.time() + within_s
    while loop.time() < end:
        await asyncio.sleep(5.0)
        longest = max(longest, loop.time() - stage.replica.progressed_at)
    return longest


class HangsInspecting(Simulator):
    """A provider that lists nothing and never answers an inspection while it is blind."""

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        if self.faults.blind:
            await asyncio.get_running_loop().create_future()
        return await super().inspect(instance=instance)


@in_virtual_time
async def test_a_provider_that_hangs_for_a_thousand_members_is_no_stalled_controller() -> None:
    provider = HangsInspecting(Faults(), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(cattle("web", 1000, in_flight=200))
        await stage.converged()
        stage.fault(blind=True)
        assert await longest_stall_s(stage, 3600.0) < STALLED_S / 2


class Silent(MemoryStore):
    """A store that has lost its quorum while `silent` is set: `hangs`, or refuses connections."""

    silent = hangs = False

    async def _answers(self) -> None:
        if self.silent and self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.silent:
            raise errors.Unreachable("no quorum", where="store")

    async def read(self, *, name: str) -> Document:
        await self._answers()
        return await super().read(name=name)

    async def newest(self, *, name: str) -> int:
        await self._answers()
        return await super().newest(name=name)

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        await self._answers()
        return await super().replace(name=name, body=body, expected=expected)


@pytest.mark.parametrize("hangs", [False, True])
@in_virtual_time
async def test_a_replica_without_a_quorum_is_not_restarted(*, hangs: bool) -> None:
    store = Silent()
    store.hangs = hangs
    async with Stage(store=store) as stage:
        assert stage.replica.progressed_at == math.inf or stage.replica.term is not None
        await stage.commit(cattle("web", 3))
        await stage.converged()
        assert asyncio.get_running_loop().time() - stage.replica.progressed_at < 10.0
        store.silent = True
        assert await longest_stall_s(stage, 3600.0) < STALLED_S / 2
        assert stage.replica.term is None
        assert stage.replica.progressed_at == math.inf
        store.silent = False
        stage.simulator.kill(stage.simulator.live()[0].id)
        await stage.until(lambda: len(stage.simulator.live()) == 3)


@in_virtual_time
async def test_a_controller_that_begins_no_cycle_is_noticed() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1), cattle("api", 1))
        await stage.converged()
        loop = asyncio.get_running_loop()
        stage.controller("web").began_at = loop.time() - 1000.0
        assert loop.time() - stage.replica.progressed_at >= 1000.0, "the one that is furthest behind counts"


class DeletesSlowly(Simulator):
    """Each deletion of a volume takes a minute and a half."""

    async def delete_attachment(self, *, attachment: Attachment) -> None:
        await asyncio.sleep(90.0)
        await super().delete_attachment(attachment=attachment)


@in_virtual_time
async def test_the_slow_deletion_of_many_volumes_is_no_stalled_controller() -> None:
    provider = DeletesSlowly(Faults(), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b c d e f", volumes=True))
        await stage.converged()
        await stage.operator.destroy(group=GroupID("db"), who="ann", why="retired", volumes=True)
        assert await longest_stall_s(stage, 900.0) < STALLED_S / 2
        assert len(stage.messages(Kind.DELETED)) == 6
        assert not stage.controllers()


@in_virtual_time
async def test_a_provider_that_wants_to_be_left_alone_for_long_is_no_stalled_controller() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        stage.controller("web").account.throttle(900.0)
        listed = stage.simulator.calls["describe"]
        assert await longest_stall_s(stage, 800.0) < STALLED_S / 2
        assert stage.simulator.calls["describe"] == listed
        assert len(stage.messages(Kind.THROTTLED)) == 1
        assert (await stage.status("web")).waiting
        await stage.until(stage.is_converged, within_s=900.0)
