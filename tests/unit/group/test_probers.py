"""Health is asked in rounds; one that hangs, fails or takes long costs only its own verdict."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from infrakit.group.probers import DEADLINE_S, HealthProber, MembershipProber, Needs
from infrakit.spi import errors
from infrakit.spi.flavor import Flavor, MembershipChange
from infrakit.spi.values import (
    Allocation,
    Description,
    Health,
    HealthReport,
    Index,
    InstanceID,
    InstanceSpec,
)
from tests.stage import in_virtual_time

NO_PROPERTIES = msgspec.Raw(b"{}")
HEALTHY = HealthReport(health=Health.HEALTHY)


class OneByOne:
    """Answers about an instance after as many seconds as its name says; "fails" fails."""

    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None: ...

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        return spec

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        if instance.id == "fails":
            raise errors.PluginError("no such check")
        await asyncio.sleep(float(instance.id.split("-")[0]))
        return HEALTHY

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None: ...


class AllAtOnce(OneByOne):
    """Answers about all, or fails about all."""

    takes_s = 0.0

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        await asyncio.sleep(self.takes_s)
        if any(i.id == "fails" for i in instances):
            raise errors.PluginError("no such check")
        return {i.id: HEALTHY for i in instances}


NEED = MembershipChange(id="promote/1", what="a newcomer is let in")


class Listing(AllAtOnce):
    """Keeps a list of members."""

    found: Any = (NEED,)

    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        await asyncio.sleep(self.takes_s)
        if isinstance(self.found, Exception):
            raise self.found
        needs: Sequence[MembershipChange] = [*self.found] if isinstance(self.found, tuple) else self.found
        return needs

    async def change_membership(
        self,
        *,
        properties: msgspec.Raw,
        change: MembershipChange,
        instances: Sequence[Description],
        allocation: Allocation,
    ) -> None: ...


async def need(registrar: MembershipProber, flavor: Listing) -> Needs | None:
    registrar.ask(flavor, NO_PROPERTIES, [], Allocation(size=1))
    return await registrar.answer()


def instances(*names: str) -> list[Description]:
    return [Description(id=InstanceID(name)) for name in names]


async def ask(judge: HealthProber, *names: str) -> dict[str, tuple[float, str, str]]:
    verdicts = await judge.verdicts(NO_PROPERTIES, instances(*names))
    return {i: (at, r.health.name, r.note) for at, reports in verdicts for i, r in reports.items()}


def judge_of(flavor: Flavor) -> HealthProber:
    return HealthProber(flavor)


@in_virtual_time
async def test_quick_verdicts_do_not_wait_for_slow_ones() -> None:
    judge = judge_of(OneByOne())
    assert await ask(judge, "0-a", "10-b", "0-c") == {"0-a": (0.0, "HEALTHY", ""), "0-c": (0.0, "HEALTHY", "")}
    assert asyncio.get_running_loop().time() <= 0.5
    await asyncio.sleep(10)
    assert await ask(judge, "0-a", "10-b") == {"10-b": (0.0, "HEALTHY", "")}  # as old as its question
    assert (await ask(judge, "0-a"))["0-a"][0] > 10.0
    await judge.close()


@in_virtual_time
async def test_no_answer_and_any_failure_are_unknown() -> None:
    judge = judge_of(OneByOne())
    assert (await ask(judge, "fails"))["fails"] == (0.0, "UNKNOWN", "the flavor failed: no such check")
    await ask(judge, "1000-a")
    await asyncio.sleep(DEADLINE_S)
    assert (await ask(judge, "1000-a"))["1000-a"][1:] == ("UNKNOWN", "the flavor did not answer within 30 s")
    await judge.close()


@in_virtual_time
async def test_a_thousand_silent_instances_do_not_make_the_others_unknown() -> None:
    judge = judge_of(OneByOne())
    names = [*(f"1000-{n}" for n in range(1000)), "0-last"]
    found: dict[str, tuple[float, str, str]] = {}
    while "0-last" not in found:
        found |= await ask(judge, *names)
        await asyncio.sleep(1)
    asked_at, health, _ = found["0-last"]
    assert health == "HEALTHY"
    assert asyncio.get_running_loop().time() - asked_at < 2 * DEADLINE_S
    await judge.close()


@in_virtual_time
async def test_one_question_about_all() -> None:
    flavor = AllAtOnce()
    judge = judge_of(flavor)
    assert (await ask(judge, "a", "b"))["b"] == (0.0, "HEALTHY", "")
    assert (await ask(judge, "a", "fails"))["a"][1:] == ("UNKNOWN", "the flavor failed: no such check")
    flavor.takes_s = 1000.0
    assert await ask(judge, "a") == {}
    await asyncio.sleep(DEADLINE_S)
    assert (await ask(judge, "a"))["a"][1] == "UNKNOWN"
    assert await ask(judge) == {}
    await judge.close()


@in_virtual_time
async def test_what_a_list_needs_is_waited_for_a_moment_and_taken_when_it_comes() -> None:
    registrar, flavor = MembershipProber(), Listing()
    assert await registrar.answer() is None
    assert await need(registrar, flavor) == (0.0, [NEED])
    flavor.takes_s = 10.0
    loop = asyncio.get_running_loop()
    assert await need(registrar, flavor) is None
    assert loop.time() == 0.5
    assert await need(registrar, flavor) is None
    assert loop.time() == 0.5  # not once more for a question that was waited for already
    await asyncio.sleep(10)
    assert await need(registrar, flavor) == (0.0, [NEED])  # as old as its question
    flavor.takes_s = 1000.0
    assert await need(registrar, flavor) is None
    await asyncio.sleep(DEADLINE_S)
    answer = await need(registrar, flavor)
    assert answer is not None
    assert answer[1] == "the flavor did not answer within 30 s"
    await need(registrar, flavor)
    await registrar.close()
    assert len(asyncio.all_tasks()) == 1


@in_virtual_time
async def test_what_is_no_list_of_changes_is_no_answer() -> None:
    registrar, flavor = MembershipProber(), Listing()
    for wrong in (7, [NEED, "x"], errors.PluginError("no leader")):
        flavor.found = wrong
        answer = await need(registrar, flavor)
        assert answer is not None
        assert str(answer[1]).startswith("the flavor failed: ")
    await registrar.close()


@in_virtual_time
async def test_closing_ends_the_round_under_way() -> None:
    judge = judge_of(OneByOne())
    await ask(judge, "1000-a")
    await judge.close()
    assert len(asyncio.all_tasks()) == 1
