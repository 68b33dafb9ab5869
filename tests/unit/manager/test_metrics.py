"""The metrics show the current state and no secrets, on the production replica in virtual time."""

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
from tests.unit.manager.test_replica import ScriptedObserver


class MeteredStage(Stage):
    """A stage whose metrics can be read."""

    def __init__(self, **more: Any) -> None:
        self.counters = Counters(super().on_event)
        super().__init__(**more)

    def on_event(self, event: Event) -> None:
        self.counters.emit(event)

    async def text(self) -> str:
        return render(await metrics.families(self.replica, self.operator, self.counters))

    async def figures(self, *names: str) -> dict[tuple[str, ...], float]:
        """The value of each series, by its name without the prefix and the values of its labels."""
        read = text_string_to_metric_families(await self.text())
        samples = {
            (sample.name.removeprefix("infrakit_"), *sample.labels.values()): sample.value
            for family in read
            for sample in family.samples
        }
        return {key: value for key, value in samples.items() if not names or key[0] in names}


@in_virtual_time
async def test_the_metrics_of_a_converged_group() -> None:
    async with MeteredStage() as stage:
        await stage.commit(cattle("web", 3), pets("db", "a b"))
        await stage.converged()
        figures = await stage.figures()
        assert figures["leader",] == figures["epoch",] == figures["declaration_version",] == 1
        assert figures["halted",] == 0
        for name, figure in {
            "declared": 3,
            "live": 3,
            "healthy": 3,
            "up_to_date": 3,
            "converged": 1,
            "intents": 0,
        }.items():
            assert figures[f"group_{name}", "web"] == figure
        assert 0 <= figures["group_observed_age_seconds", "web"] < 2
        assert figures["leadership_known",] == 1
        assert (figures["creations_total", "web"], figures["creations_total", "db"]) == (3, 2)
        assert figures["destructions_total", "web"] == figures["failures_total", "web", "create_failed"] == 0
        assert figures["cycle_seconds_count", "web"] > 1
        assert figures["provider_call_seconds_count", "simulator", "provision"] == 5
        assert figures["provider_call_seconds_count", "simulator", "describe"] > 1
        assert figures["provider_call_seconds_count", "simulator", "destroy"] == 0
        assert not [key for key in figures if key[0] == "group_holds"]


@in_virtual_time
async def test_the_age_of_a_group_that_was_never_observed_is_infinite() -> None:
    async with MeteredStage(faults=Faults(down=True)) as stage:
        await stage.commit(cattle("web", 1))
        await stage.until(stage.controllers)
        figures = await stage.figures()
        assert (figures["group_observed_age_seconds", "web"], figures["group_declared", "web"]) == (math.inf, 1)


@in_virtual_time
async def test_failures_are_counted_by_kind() -> None:
    async with MeteredStage() as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        stage.kill("web", "1")
        stage.fault(down=True)
        await asyncio.sleep(30)
        figures = await stage.figures()
        assert figures["group_observed_age_seconds", "web"] > 20
        assert figures["failures_total", "web", "observe_failed"] >= 1
        assert figures["group_holds", "web", "unknown-is-not-missing", "wait"] == 1
        stage.fault(down=False)
        await stage.until(lambda: len(stage.alive("web")) == 2)
        figures = await stage.figures()
        assert figures["terminated_total", "web"] == 1
        assert figures["destructions_total", "web"] == 0


@in_virtual_time
async def test_calls_in_progress_and_their_durations() -> None:
    async with MeteredStage(faults=Faults(provision=Spread(low=20.0), lag=Spread(low=60.0))) as stage:
        await stage.commit(cattle("web", 2))
        await stage.until(lambda: stage.controller("web").view.pending)
        figures = await stage.figures()
        assert (figures["group_intents", "web"], figures["group_live", "web"], figures["group_converged", "web"]) == (
            2,
            0,
            0,
        )
        await stage.converged()
        figures = await stage.figures()
        assert 39.9 < figures["provider_call_seconds_sum", "simulator", "provision"] < 50
        assert figures["provider_call_seconds_bucket", "simulator", "provision", "10"] == 0
        assert figures["provider_call_seconds_bucket", "simulator", "provision", "60"] == 2


@in_virtual_time
async def test_destructions_are_counted() -> None:
    async with MeteredStage() as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        await stage.scale("web", 1)
        await stage.until(lambda: len(stage.alive("web")) == 1)
        await stage.converged()
        figures = await stage.figures()
        assert (
            figures["destructions_total", "web"],
            figures["terminated_total", "web"],
            figures["creations_total", "web"],
        ) == (
            2,
            2,
            3,
        )
        assert figures["provider_call_seconds_count", "simulator", "destroy"] == 2


@in_virtual_time
async def test_halts_of_groups_and_of_everything_are_shown() -> None:
    async with MeteredStage() as stage:
        await stage.commit(cattle("web", 1), cattle("api", 1))
        await stage.converged()
        await stage.operator.halt(group=GroupID("web"), who="ann", why="a look")
        figures = await stage.figures("halted", "group_halted")
        assert figures == {("halted",): 0, ("group_halted", "api"): 0, ("group_halted", "web"): 1}
        await stage.operator.halt(who="ann", why="a look")
        assert (await stage.figures("halted")) == {("halted",): 1}


@in_virtual_time
async def test_a_group_that_is_no_longer_declared_has_no_series() -> None:
    async with MeteredStage() as stage:
        await stage.commit(cattle("web", 1), cattle("old", 1))
        await stage.converged()
        await stage.operator.free(group=GroupID("old"), who="ann", why="not ours")
        await asyncio.sleep(1)
        assert not [key for key in await stage.figures() if "old" in key]
        assert not [key for key in stage.counters._counts if key[0] == "old"]


@in_virtual_time
async def test_a_follower_exposes_no_groups_and_keeps_its_counters() -> None:
    leadership = ScriptedObserver()
    async with MeteredStage(leadership=leadership) as stage:
        figures = await stage.figures()
        assert figures["leadership_known",] == 0
        leadership.report(True)
        await stage.commit(cattle("web", 2))
        await stage.converged()
        leadership.report(False, valid_s=30.0)
        await asyncio.sleep(5)
        figures = await stage.figures()
        assert figures["leadership_known",] == 1
        assert (figures["leader",], figures["epoch",], figures["declaration_version",]) == (0, 0, 1)
        assert ("group_live", "web") not in figures
        assert figures["creations_total", "web"] == 2
        await asyncio.sleep(30)
        assert (await stage.figures())["leadership_known",] == 0


@in_virtual_time
async def test_no_secret_and_no_text_of_an_event_is_exposed() -> None:
    async with MeteredStage() as stage:
        await stage.commit(cattle("web", 1, tags={"password": "hunter2"}, Refuse=True))
        await stage.until(lambda: stage.counters.of(GroupID("web"), metrics.FAILURES[0]))
        assert "hunter2" not in await stage.text()
        assert (await stage.figures("failures_total"))["failures_total", "web", "create_failed"] >= 1
