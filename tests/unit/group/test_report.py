"""The facts about a member that `infrakit why` shows: an outdated verdict is not reported as the present health."""

import asyncio

from infrakit.group import report
from infrakit.instances.simulator import Faults, Spread
from infrakit.simulation.parts import FlavorFaults
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time


def health_fact(stage: Stage) -> str:
    """The fact about the health of the only member of the group `web`."""
    controller = stage.controller("web")
    (member,) = controller.view.members.values()
    (fact,) = (each for each in report.member_facts(controller, member) if "health" in each)
    return fact


@in_virtual_time
async def test_a_healthy_member_has_a_duration_of_health_and_an_age_of_the_last_check() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        await asyncio.sleep(30)
        assert health_fact(stage).startswith("it has been healthy for 30s; last checked ")


@in_virtual_time
async def test_an_unhealthy_member_has_a_duration_and_a_note() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1, healing={"UnhealthyAfter": "1h"}))
        await stage.converged()
        stage.simulator.make_unhealthy(stage.alive("web")["1"].id)
        await asyncio.sleep(20)
        fact = health_fact(stage)
        assert fact.startswith("it has been unhealthy for ")
        assert "s (reported unhealthy by the simulator); last checked " in fact


@in_virtual_time
async def test_a_verdict_that_is_too_old_is_reported_with_its_age_and_without_a_duration() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        stage.fault(down=True)
        await asyncio.sleep(75)
        assert health_fact(stage) == "its health is unknown: the last verdict (healthy) is 1m15s old"


@in_virtual_time
async def test_the_health_of_a_member_that_is_not_listed_is_unknown() -> None:
    faults = Faults(termination_lag=Spread(low=0.0), lag_max=3600.0)
    async with Stage(faults=faults, provider=MinimalProvider) as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        stage.kill("web", "1")
        await asyncio.sleep(5)
        assert health_fact(stage).startswith(
            "its health is unknown while it is missing from the listing: the last verdict ("
        )


@in_virtual_time
async def test_the_health_of_a_member_without_a_verdict_has_no_duration() -> None:
    async with Stage(flavor=FlavorFaults(unknown_rate=1.0)) as stage:
        await stage.commit(cattle("web", 1))
        await asyncio.sleep(20)
        assert health_fact(stage).startswith("its health is unknown (no response); last checked ")
