"""Observations: nothing is concluded from what a provider does not report."""

import asyncio
import functools
from collections.abc import AsyncIterator, Mapping, Sequence

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.spi import errors, values
from infrakit.spi.event import Kind
from infrakit.spi.values import Description, InstanceID
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets


@in_virtual_time
async def test_no_more_than_the_declared_size_is_created_if_the_provider_lists_nothing() -> None:
    async with Stage(faults=Faults(blind=True), provider=MinimalProvider) as stage:
        await stage.commit(cattle("web", 6))
        await asyncio.sleep(3600)
        assert len(stage.simulator.live()) == 6
        assert stage.simulator.calls["provision"] == 6
        status = await stage.status("web")
        assert not status.converged
        refusals = [w for w in status.waiting if w.verb == "refuse"]
        assert len(refusals) == 6
        assert "does not list it" in refusals[0].reason
        assert "infrakit group resume web" in refusals[0].remedy


@in_virtual_time
async def test_a_partial_listing_destroys_no_instance() -> None:
    async with Stage(faults=Faults()) as stage:
        await stage.commit(cattle("web", 5), pets("db", "a b c"))
        await stage.converged()
        stage.fault(partial_rate=1.0)
        await asyncio.sleep(120)
        stage.fault(partial_rate=0.0)
        await stage.converged()
        assert stage.simulator.calls["provision"] == 8
        assert "destroy" not in stage.simulator.calls
        assert any("the listing failed" in m for m in stage.messages(Kind.OBSERVE_FAILED))


@in_virtual_time
async def test_instances_that_a_listing_silently_omits_are_not_created_twice() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 8))
        await stage.converged()
        stage.fault(silent_partial_rate=0.5)
        await asyncio.sleep(600)
        assert stage.simulator.calls["provision"] == 8
        assert stage.messages(Kind.MISSING)


@in_virtual_time
async def test_without_inspect_a_termination_is_confirmed_after_the_listing_lag() -> None:
    faults = Faults(termination_lag=Spread(low=20.0), lag_max=30.0)
    async with Stage(faults=faults, provider=MinimalProvider) as stage:
        await stage.commit(pets("db", "a b c"))
        await stage.converged()
        loop = asyncio.get_running_loop()
        stage.kill("db", "a")
        terminated_at = loop.time()
        await stage.until(lambda: "a" in stage.alive("db"))
        assert loop.time() - terminated_at >= 30.0
        await stage.converged()


@in_virtual_time
async def test_a_provider_that_was_unreachable_is_used_again() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 4))
        await stage.converged()
        stage.fault(down=True)
        stage.kill("web", "2")
        await asyncio.sleep(200)
        status = await stage.status("web")
        assert not status.converged
        assert "connection refused" in " ".join(w.reason for w in status.waiting)
        stage.fault(down=False)
        await stage.converged()
        assert len(stage.alive("web")) == 4


class RefusesLabels(MinimalProvider):
    """Refuses to label."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.label = self._refuse

    async def _refuse(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        del instance, labels
        raise errors.Refused("labels are read-only here")


@in_virtual_time
async def test_a_refused_label_is_retried_later_and_reported() -> None:
    async with Stage(provider=RefusesLabels) as stage:
        stage.simulator.adopt(tags={values.TAG_GROUP: "web", values.TAG_HASH: values.BOOTSTRAP})
        await stage.commit(cattle("web", 1))
        await asyncio.sleep(60)
        assert "labels are read-only here" in stage.messages(Kind.ERROR)[0]
        assert not (await stage.status("web")).converged
        assert len(stage.simulator.live()) == 1


class HintsAndFails(MinimalProvider):
    """Its watch yields a hint for every change, and fails after every fourth."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._hints: asyncio.Queue[str] = asyncio.Queue()
        self.watches = 0
        simulator.watchers.append(lambda what, machine: self._hints.put_nowait(f"{what} {machine.id}"))

    async def watch(self) -> AsyncIterator[str]:
        self.watches += 1
        for _ in range(4):
            yield await self._hints.get()
        raise errors.Unreachable("the watch broke")


def _is_live(stage: Stage, slot: str) -> bool:
    return slot in stage.alive("web")


@in_virtual_time
async def test_a_hint_of_the_provider_triggers_a_cycle_immediately() -> None:
    async with Stage(provider=HintsAndFails, poll_s=3600.0) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged(within_s=60)
        loop = asyncio.get_running_loop()
        for slot in ("1", "2", "1"):
            stage.kill("web", slot)
            terminated_at = loop.time()
            await stage.until(functools.partial(_is_live, stage, slot), within_s=60)
            assert loop.time() - terminated_at < 5
            await stage.converged(within_s=60)


class HangingListing(Simulator):
    """Its listings never return while `hangs` is set."""

    hangs = False

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        return await super().describe_instances(tags=tags, properties=properties)


@in_virtual_time
async def test_a_listing_without_a_response_times_out_and_no_termination_is_concluded() -> None:
    simulator = HangingListing()
    async with Stage(simulator=simulator) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        simulator.hangs = True
        stage.kill("web", "1")
        await asyncio.sleep(130)
        assert "did not list its instances within 60 s" in stage.messages(Kind.OBSERVE_FAILED)[0]
        assert "1" not in stage.alive("web")
        simulator.hangs = False
        await stage.converged()
        assert "1" in stage.alive("web")


@in_virtual_time
async def test_an_invalid_listing_is_reported_and_nothing_is_concluded_from_it() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        stage.simulator.describe_instances = _invalid_listing  # type: ignore[method-assign, assignment]
        await stage.until(lambda: stage.messages(Kind.OBSERVE_FAILED))
        assert "no sequence of descriptions, but int" in stage.messages(Kind.OBSERVE_FAILED)[0]
        assert (await stage.operator.status()).groups[0].phase == "unknown"
        assert len(stage.simulator.live()) == 2


async def _invalid_listing(**_arguments: object) -> object:
    return 42
