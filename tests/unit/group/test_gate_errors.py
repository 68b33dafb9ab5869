"""The errors of the gate, of the store and of the provider are not confused with each other."""

import asyncio
import random

import pytest

from infrakit.instances.simulator import Faults, Simulator
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.instance import DestroyContext
from infrakit.spi.store import Document
from infrakit.spi.values import InstanceID
from infrakit.stores.memory import MemoryStore
from tests.stage import Stage, cattle, in_virtual_time, pets


class RefusingProvider(Simulator):
    """A provider whose destructions fail with an error."""

    error: errors.InfraKitError | None = None
    refused = 0

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        if self.error is not None:
            self.refused += 1
            raise self.error
        await super().destroy(instance=instance, context=context)


class FailingStore(MemoryStore):
    """A store that cannot return the version of the declaration while `error` is set."""

    error: errors.InfraKitError | None = None
    requests = 0

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        self.requests += 1
        if self.error is not None:
            raise self.error
        return await super().read_with(name=name, head=head)


STORE_ERRORS = [
    errors.Refused("this node is not a swarm manager", where="store"),
    errors.PluginError("status 502", where="store"),
    errors.NotFound("no such bucket", where="store"),
    errors.Unreachable("connection refused", where="store"),
]


@pytest.mark.parametrize("error", [errors.NotLeader("node 1 does not lead the region"), errors.Halted("suspended")])
@in_virtual_time
async def test_a_refusal_of_the_provider_is_a_failure_with_back_off(error: errors.InfraKitError) -> None:
    provider = RefusingProvider(Faults(), random=random.Random(3))
    async with Stage(simulator=provider) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        provider.error = error
        await stage.scale("web", 2)
        await asyncio.sleep(60)
        assert 1 <= provider.refused < 20
        assert error.what in stage.messages(Kind.DESTROY_FAILED)[0]


@pytest.mark.parametrize("error", STORE_ERRORS)
@in_virtual_time
async def test_an_error_of_the_store_is_no_failure_of_a_destruction_and_no_hot_loop(
    error: errors.InfraKitError,
) -> None:
    store = FailingStore()
    async with Stage(store=store) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        await asyncio.sleep(8)
        store.error, before = error, store.requests
        await stage.operator.scale(group=stage.controller("web").name, size=1, who="ann", why="a test")
        await asyncio.sleep(60)
        assert len(stage.alive("web")) == 3
        assert not stage.messages(Kind.DESTROY_FAILED)
        assert not stage.messages(Kind.DRAIN_FAILED)
        assert store.requests - before < 1000
        store.error = None
        await stage.converged()
        assert len(stage.alive("web")) == 1
        assert stage.controller("web").account.in_flight == 0


@in_virtual_time
async def test_a_group_that_becomes_cattle_settles_the_creations_of_its_pets() -> None:
    async with Stage() as stage:
        stage.fault(hang_rate=1.0)
        await stage.commit(pets("db", "n1 n2 n3"))
        await asyncio.sleep(2)
        stage.fault(hang_rate=0.0)
        await stage.commit(cattle("db", 1))
        await stage.converged()
        assert len(stage.alive("db")) == 1
