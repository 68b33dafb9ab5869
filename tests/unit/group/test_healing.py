"""Healing: a pet is recreated with its identity, unknown health causes no action, and MaxUnhealthy applies."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.simulation.parts import FlavorFaults
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.values import Description, GroupID, InstanceID, InstanceSpec, State
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets


@in_virtual_time
async def test_a_terminated_pet_is_recreated_with_its_identity_and_the_others_are_kept() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "a b c", quorum=True, volumes=True))
        await stage.converged()
        before = {slot: m.id for slot, m in stage.alive("db").items()}
        stage.kill("db", "b")
        await stage.until(lambda: "b" in stage.alive("db"), within_s=10)
        await stage.converged()
        after = {slot: m.id for slot, m in stage.alive("db").items()}
        assert after["a"] == before["a"]
        assert after["c"] == before["c"]
        assert after["b"] != before["b"]
        assert stage.alive("db")["b"].attachments[0].id == "vol-b"
        assert "terminated (confirmed by the provider)" in stage.messages(Kind.TERMINATED)


@in_virtual_time
async def test_unhealthy_members_are_replaced_after_unhealthy_after_and_unknown_ones_are_not() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 5))
        await stage.converged()
        stage.flavor.faults = FlavorFaults(unknown_rate=1.0)
        await asyncio.sleep(500)
        assert "destroy" not in stage.simulator.calls
        stage.flavor.faults = FlavorFaults()
        await stage.converged()
        victim = stage.alive("web")["3"]
        stage.simulator.make_unhealthy(victim.id)
        unhealthy_at = asyncio.get_running_loop().time()
        await stage.until(lambda: not victim.lives)
        assert asyncio.get_running_loop().time() - unhealthy_at >= 10.0
        await stage.converged()
        assert "unhealthy for" in " ".join(stage.messages(Kind.DESTROYING))


@in_virtual_time
async def test_more_than_max_unhealthy_members_are_not_replaced_until_an_operator_overrides_it() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        for slot in "ab":
            stage.simulator.make_unhealthy(stage.alive("db")[slot].id)
        await asyncio.sleep(600)
        assert "destroy" not in stage.simulator.calls
        status = await stage.status("db")
        refusal = next(w for w in status.waiting if w.verb == "refuse")
        assert re.fullmatch(
            r"unhealthy for \w+ \(reported unhealthy by the simulator\), but not replaced: "
            "2 of 3 members are not proven healthy, and MaxUnhealthy is 1",
            refusal.reason,
        )
        assert "destruction resumes when at most 1 is not proven healthy" in refusal.remedy
        assert "infrakit group resume db --despite-unhealthy" in refusal.remedy
        await stage.operator.resume(group=GroupID("db"), despite_unhealthy=True, who="ann", why="a test")
        await stage.converged()
        assert stage.simulator.calls["destroy"] == 2


@in_virtual_time
async def test_pets_are_added_and_retired_one_at_a_time() -> None:
    async with Stage(faults=Faults(boot=Spread(low=5.0))) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        await stage.commit(pets("db", "a b c d e", quorum=True))
        await stage.until(lambda: "d" in stage.alive("db"))
        assert "e" not in stage.alive("db")
        await stage.converged()
        await stage.commit(pets("db", "b c d", quorum=True))
        await stage.until(lambda: len(stage.alive("db")) == 4)
        await stage.converged()
        assert sorted(stage.alive("db")) == ["b", "c", "d"]


class HintingProvider(MinimalProvider):
    """A provider whose `watch` yields the hints that a test queues."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.hints: asyncio.Queue[str] = asyncio.Queue()

    async def watch(self) -> AsyncIterator[str]:
        while True:
            yield await self.hints.get()


@in_virtual_time
async def test_the_termination_event_includes_the_hint_of_the_provider() -> None:
    async with Stage(provider=HintingProvider) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        provider = stage.controller("web").account.instance
        assert isinstance(provider, HintingProvider)
        victim = stage.alive("web")["1"].id
        for number in range(1100):  # more hints than are remembered
            provider.hints.put_nowait(f"sim-x{number} exited")
        provider.hints.put_nowait(f"{victim} exited with code 7")
        stage.kill("web", "1")
        await stage.until(lambda: stage.messages(Kind.TERMINATED))
        assert stage.messages(Kind.TERMINATED) == ["terminated (confirmed by the provider): it exited with code 7"]
        assert stage.controller("web").view.backoffs["1"].why == f"{victim} terminated: it exited with code 7"
        stage.kill("web", "2")
        await stage.until(lambda: len(stage.messages(Kind.TERMINATED)) == 2)
        assert stage.messages(Kind.TERMINATED)[1] == "terminated (confirmed by the provider)"


@pytest.mark.parametrize("quorum", [False, True])
@in_virtual_time
async def test_after_a_rollback_nothing_waits_for_what_the_bad_version_earned(*, quorum: bool) -> None:
    async with Stage() as stage:
        rollback = {"MaxUnavailable": 1 if quorum else 3}
        await stage.commit(pets("db", "a b c", updating=rollback, quorum=quorum))
        await stage.converged()
        await stage.commit(pets("db", "a b c", version=1, updating=rollback, quorum=quorum, Refuse=True))
        await stage.until(lambda: len(stage.alive("db")) < 3)
        await asyncio.sleep(120)
        assert stage.messages(Kind.CREATE_FAILED)
        rolled_back_at = asyncio.get_running_loop().time()
        await stage.operator.rollback(group=GroupID("db"), who="ann", why="a test")
        await stage.converged(within_s=20)
        assert asyncio.get_running_loop().time() - rolled_back_at < 10
        assert stage.versions("db") == {0}


@in_virtual_time
async def test_a_kill_is_healed_at_once_after_replacements_that_did_not_help() -> None:
    """Deaths that healing ordered say nothing about a start, and the instance was healthy when it was killed."""
    async with Stage(faults=Faults(never_healthy_rate=1.0)) as stage:
        await stage.commit(cattle("web", 1))
        await stage.until(lambda: len(stage.messages(Kind.DESTROYING)) == 5)
        stage.fault(never_healthy_rate=0.0)
        await stage.converged()
        await asyncio.sleep(30)
        killed_at = asyncio.get_running_loop().time()
        stage.kill("web", "1")
        await stage.until(lambda: not stage.alive("web"))
        await stage.until(lambda: stage.alive("web"))
        assert asyncio.get_running_loop().time() - killed_at < 5


@in_virtual_time
async def test_a_terminated_instance_of_an_older_version_is_no_failure_of_the_new_one() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 4))
        await stage.converged()
        old = stage.controller("web").want.group.hash
        await stage.commit(cattle("web", 4, version=1))
        await stage.until(lambda: stage.messages(Kind.ROLLOUT))
        stage.kill("web", "4")
        await stage.until(lambda: "4" in stage.controller("web").view.backoffs)
        assert stage.controller("web").view.backoffs["4"].version == old


class RemovesSlowly(MinimalProvider):
    """Like Docker: it lists a terminated instance as terminated, then as leaving for 8 s, and rejects its successor."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self.unreachable, self.rejected = True, 0
        self.provision = self._provision
        self.describe_instances = self._describe

    def _states(self) -> dict[InstanceID, State]:
        now = asyncio.get_running_loop().time()
        ended = [m for m in self._simulator.machines.values() if not m.lives]
        return {m.id: State.STOPPING if now - m.terminated_at > 1.0 else State.TERMINATED for m in ended}

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        states = self._states()
        listing = await self._simulator.describe_instances(tags=tags, properties=properties)
        return [msgspec.structs.replace(each, state=states.get(each.id, each.state)) for each in listing]

    async def _provision(self, *, spec: InstanceSpec) -> InstanceID:
        states = self._states()
        if states and self.unreachable:
            self.unreachable = False
            raise errors.Unreachable("no route")
        if State.STOPPING in states.values():
            self.rejected += 1
            raise errors.Conflict("the old one is leaving")
        return await self._simulator.provision(spec=spec)


@pytest.mark.parametrize("group", [pets("g", "1"), cattle("g", 1)], ids=["pet", "cattle"])
@in_virtual_time
async def test_no_creation_is_requested_while_the_old_instance_is_leaving(group: dict[str, Any]) -> None:
    async with Stage(provider=RemovesSlowly, faults=Faults(termination_lag=Spread(low=9.0), lag_max=0.0)) as stage:
        await stage.commit(group)
        await stage.converged()
        stage.kill("g", "1")
        await stage.until(lambda: stage.messages(Kind.TERMINATED))
        await stage.converged()
        provider = stage.controller("g").account.instance
        assert isinstance(provider, RemovesSlowly)
        assert provider.rejected == 0
        assert len(stage.messages(Kind.TERMINATED)) == 1
        assert any("waiting for the termination of" in m for m in stage.messages(Kind.WAITING))
