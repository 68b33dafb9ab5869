"""The figures tell what is, and nothing that should not be told, on the production replica in virtual time."""

import asyncio
import math
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from infrakit.instances.simulator import Faults, Spread
from infrakit.manager.monitoring import metrics
from infrakit.manager.monitoring.metrics import Counters
from infrakit.manager.monitoring.prometheus import render
from infrakit.spi.event import Event
from infrakit.spi.values import GroupID
from tests.stage import Stage, cattle, in_virtual_time, pets
from tests.unit.manager.test_replica import Told


class Watched(Stage):
    """A stage whose figures can be read."""

    def __init__(self, **more: Any) -> None:
        self.counters = Counters(super()._emit)
        super().__init__(**more)

    def _emit(self, event: Event) -> None:
        self.counters.emit(event)

    async def text(self) -> str:
        return render(await metrics.families(self.replica, self.operator, self.counters))

    async def figures(self, *names: str) -> dict[tuple[str, ...], float]:
        """Of series: the name without its prefix, then the values of its labels, to their number."""
        read = text_string_to_metric_families(await self.text())
        samples = {
            (sample.name.removeprefix("infrakit_"), *sample.labels.values()): sample.value
            for family in read
            for sample in family.samples
        }
        return {key: value for key, value in samples.items() if not names or key[0] in names}


@in_virtual_time
async def test_a_converged_group() -> None:
    async with Watched() as stage:
        await stage.commit(cattle("web", 3), pets("db", "a b"))
        await stage.converged()
        told = await stage.figures()
        assert told["leader",] == told["epoch",] == told["declaration_version",] == 1
        assert told["halted",] == 0
        for name, figure in {
            "declared": 3,
            "live": 3,
            "healthy": 3,
            "up_to_date": 3,
            "converged": 1,
            "intents": 0,
        }.items():
            assert told[f"group_{name}", "web"] == figure
        assert 0 <= told["group_observed_age_seconds", "web"] < 2
        assert told["leadership_known",] == 1
        assert (told["creations_total", "web"], told["creations_total", "db"]) == (3, 2)
        assert told["destructions_total", "web"] == told["failures_total", "web", "create_failed"] == 0
        assert told["cycle_seconds_count", "web"] > 1
        assert told["provider_call_seconds_count", "simulator", "provision"] == 5
        assert told["provider_call_seconds_count", "simulator", "describe"] > 1
        assert told["provider_call_seconds_count", "simulator", "destroy"] == 0
        assert not [key for key in told if key[0] == "group_holds"]


@in_virtual_time
async def test_a_group_that_was_never_observed_is_infinitely_old() -> None:
    async with Watched(faults=Faults(down=True)) as stage:
        await stage.commit(cattle("web", 1))
        await stage.until(stage.controllers)
        told = await stage.figures()
        assert (told["group_observed_age_seconds", "web"], told["group_declared", "web"]) == (math.inf, 1)


@in_virtual_time
async def test_what_goes_wrong_is_counted_by_kind() -> None:
    async with Watched() as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        stage.kill("web", "1")
        stage.fault(down=True)
        await asyncio.sleep(30)
        told = await stage.figures()
        assert told["group_observed_age_seconds", "web"] > 20
        assert told["failures_total", "web", "observe_failed"] >= 1
        assert told["group_holds", "web", "unknown-is-not-missing", "wait"] == 1
        stage.fault(down=False)
        await stage.until(lambda: len(stage.alive("web")) == 2)
        told = await stage.figures()
        assert told["terminated_total", "web"] == 1
        assert told["destructions_total", "web"] == 0


@in_virtual_time
async def test_calls_under_way_and_how_long_they_took() -> None:
    async with Watched(faults=Faults(provision=Spread(low=20.0), lag=Spread(low=60.0))) as stage:
        await stage.commit(cattle("web", 2))
        await stage.until(lambda: stage.controller("web").view.pending)
        told = await stage.figures()
        assert (told["group_intents", "web"], told["group_live", "web"], told["group_converged", "web"]) == (2, 0, 0)
        await stage.converged()
        told = await stage.figures()
        assert 39.9 < told["provider_call_seconds_sum", "simulator", "provision"] < 50
        assert told["provider_call_seconds_bucket", "simulator", "provision", "10"] == 0
        assert told["provider_call_seconds_bucket", "simulator", "provision", "60"] == 2


@in_virtual_time
async def test_destructions() -> None:
    async with Watched() as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        await stage.scale("web", 1)
        await stage.until(lambda: len(stage.alive("web")) == 1)
        await stage.converged()
        told = await stage.figures()
        assert (told["destructions_total", "web"], told["terminated_total", "web"], told["creations_total", "web"]) == (
            2,
            2,
            3,
        )
        assert told["provider_call_seconds_count", "simulator", "destroy"] == 2


@in_virtual_time
async def test_halts() -> None:
    async with Watched() as stage:
        await stage.commit(cattle("web", 1), cattle("api", 1))
        await stage.converged()
        await stage.operator.halt(group=GroupID("web"), who="ann", why="a look")
        told = await stage.figures("halted", "group_halted")
        assert told == {("halted",): 0, ("group_halted", "api"): 0, ("group_halted", "web"): 1}
        await stage.operator.halt(who="ann", why="a look")
        assert (await stage.figures("halted")) == {("halted",): 1}


@in_virtual_time
async def test_a_group_that_is_not_declared_any_more_leaves_no_series() -> None:
    async with Watched() as stage:
        await stage.commit(cattle("web", 1), cattle("old", 1))
        await stage.converged()
        await stage.operator.free(group=GroupID("old"), who="ann", why="not ours")
        await asyncio.sleep(1)
        assert not [key for key in await stage.figures() if "old" in key]
        assert not [key for key in stage.counters._counts if key[0] == "old"]


@in_virtual_time
async def test_a_follower_tells_no_groups_and_keeps_what_it_has_counted() -> None:
    leadership = Told()
    async with Watched(leadership=leadership) as stage:
        told = await stage.figures()
        assert told["leadership_known",] == 0
        leadership.say(True)
        await stage.commit(cattle("web", 2))
        await stage.converged()
        leadership.say(False, valid_s=30.0)
        await asyncio.sleep(5)
        told = await stage.figures()
        assert told["leadership_known",] == 1
        assert (told["leader",], told["epoch",], told["declaration_version",]) == (0, 0, 1)
        assert ("group_live", "web") not in told
        assert told["creations_total", "web"] == 2
        await asyncio.sleep(30)
        assert (await stage.figures())["leadership_known",] == 0


@in_virtual_time
async def test_no_secret_and_no_text_of_an_event_is_told() -> None:
    async with Watched() as stage:
        await stage.commit(cattle("web", 1, tags={"password": "hunter2"}, Refuse=True))
        await stage.until(lambda: stage.counters.of(GroupID("web"), metrics.FAILURES[0]))
        assert "hunter2" not in await stage.text()
        assert (await stage.figures("failures_total"))["failures_total", "web", "create_failed"] >= 1
