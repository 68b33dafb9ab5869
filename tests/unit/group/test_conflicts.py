"""A conflict created nothing, and is no failed start: the same creation is retried, and the slot earns no back-off."""

from infrakit.instances.simulator import Simulator
from infrakit.spi import errors, values
from infrakit.spi.event import Kind
from infrakit.spi.values import InstanceID, InstanceSpec
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets


class HeldForAWhile(MinimalProvider):
    """The first creations are rejected, because an earlier instance still holds the volume."""

    conflicts = 3

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self.tokens: set[str] = set()
        self.provision = self._provision

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        self.tokens.add((spec.tags or {})[values.TAG_TOKEN])
        self.conflicts -= 1
        if self.conflicts >= 0:
            raise errors.Conflict("an instance that is stopping still holds the volume")
        return await self._simulator.provision(spec=spec)


def provider_of(stage: Stage, group: str) -> HeldForAWhile:
    provider = stage.controller(group).account.instance
    assert isinstance(provider, HeldForAWhile)
    return provider


@in_virtual_time
async def test_a_conflict_is_retried_with_the_same_token_and_is_no_failed_start() -> None:
    async with Stage(provider=HeldForAWhile) as stage:
        await stage.commit(pets("db", "a", healing={"Backoff": "300s", "BackoffMax": "300s"}))
        await stage.converged(within_s=60.0)
        assert len(provider_of(stage, "db").tokens) == 1
        assert stage.controller("db").view.backoffs == {}
        assert all("still holds the volume" in each for each in stage.messages(Kind.CREATE_FAILED))


@in_virtual_time
async def test_conflicts_do_not_stop_a_rolling_update() -> None:
    async with Stage(provider=HeldForAWhile) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        provider_of(stage, "web").conflicts = 4
        await stage.commit(cattle("web", 2, version=1))
        await stage.converged()
        assert stage.versions("web") == {1}
