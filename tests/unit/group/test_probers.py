"""Health is checked in rounds; a check that hangs, fails or takes long affects only its own instance."""

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
    """Checks one instance per call, which takes the seconds that its ID starts with; "fails" fails."""

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
    """Checks all instances in one call, or fails for all of them."""

    takes_s = 0.0

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        await asyncio.sleep(self.takes_s)
        if any(i.id == "fails" for i in instances):
            raise errors.PluginError("no such check")
        return {i.id: HEALTHY for i in instances}


NEED = MembershipChange(id="promote/1", what="a newcomer is let in")


class MemberListFlavor(AllAtOnce):
    """Has a member list."""

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


async def query(prober: MembershipProber, flavor: MemberListFlavor) -> Needs | None:
    prober.start(flavor, NO_PROPERTIES, [], Allocation(size=1))
    return await prober.result()


def instances(*names: str) -> list[Description]:
    return [Description(id=InstanceID(name)) for name in names]


async def verdicts_of(prober: HealthProber, *names: str) -> dict[str, tuple[float, str, str]]:
    verdicts = await prober.verdicts(NO_PROPERTIES, instances(*names))
    return {i: (at, r.health.name, r.note) for at, reports in verdicts for i, r in reports.items()}


def prober_of(flavor: Flavor) -> HealthProber:
    return HealthProber(flavor)


@in_virtual_time
async def test_fast_health_checks_do_not_wait_for_slow_ones() -> None:
    prober = prober_of(OneByOne())
    assert await verdicts_of(prober, "0-a", "10-b", "0-c") == {"0-a": (0.0, "HEALTHY", ""), "0-c": (0.0, "HEALTHY", "")}
    assert asyncio.get_running_loop().time() <= 0.5
    await asyncio.sleep(10)
    assert await verdicts_of(prober, "0-a", "10-b") == {
        "10-b": (0.0, "HEALTHY", "")
    }  # the time at which its query started
    assert (await verdicts_of(prober, "0-a"))["0-a"][0] > 10.0
    await prober.close()


@in_virtual_time
async def test_health_is_unknown_after_a_timeout_or_any_failure() -> None:
    prober = prober_of(OneByOne())
    assert (await verdicts_of(prober, "fails"))["fails"] == (0.0, "UNKNOWN", "the flavor failed: no such check")
    await verdicts_of(prober, "1000-a")
    await asyncio.sleep(DEADLINE_S)
    assert (await verdicts_of(prober, "1000-a"))["1000-a"][1:] == ("UNKNOWN", "the flavor did not answer within 30 s")
    await prober.close()


@in_virtual_time
async def test_a_thousand_hanging_checks_do_not_make_other_instances_unknown() -> None:
    prober = prober_of(OneByOne())
    names = [*(f"1000-{n}" for n in range(1000)), "0-last"]
    found: dict[str, tuple[float, str, str]] = {}
    while "0-last" not in found:
        found |= await verdicts_of(prober, *names)
        await asyncio.sleep(1)
    requested_at, health, _ = found["0-last"]
    assert health == "HEALTHY"
    assert asyncio.get_running_loop().time() - requested_at < 2 * DEADLINE_S
    await prober.close()


@in_virtual_time
async def test_a_flavor_may_check_all_instances_in_one_call() -> None:
    flavor = AllAtOnce()
    prober = prober_of(flavor)
    assert (await verdicts_of(prober, "a", "b"))["b"] == (0.0, "HEALTHY", "")
    assert (await verdicts_of(prober, "a", "fails"))["a"][1:] == ("UNKNOWN", "the flavor failed: no such check")
    flavor.takes_s = 1000.0
    assert await verdicts_of(prober, "a") == {}
    await asyncio.sleep(DEADLINE_S)
    assert (await verdicts_of(prober, "a"))["a"][1] == "UNKNOWN"
    assert await verdicts_of(prober) == {}
    await prober.close()


@in_virtual_time
async def test_a_membership_query_is_waited_for_briefly_and_its_late_result_is_used() -> None:
    prober, flavor = MembershipProber(), MemberListFlavor()
    assert await prober.result() is None
    assert await query(prober, flavor) == (0.0, [NEED])
    flavor.takes_s = 10.0
    loop = asyncio.get_running_loop()
    assert await query(prober, flavor) is None
    assert loop.time() == 0.5
    assert await query(prober, flavor) is None
    assert loop.time() == 0.5  # no second wait for the same query
    await asyncio.sleep(10)
    assert await query(prober, flavor) == (0.0, [NEED])  # the time at which its query started
    flavor.takes_s = 1000.0
    assert await query(prober, flavor) is None
    await asyncio.sleep(DEADLINE_S)
    answer = await query(prober, flavor)
    assert answer is not None
    assert answer[1] == "the flavor did not answer within 30 s"
    await query(prober, flavor)
    await prober.close()
    assert len(asyncio.all_tasks()) == 1


@in_virtual_time
async def test_an_invalid_list_of_changes_counts_as_a_failed_query() -> None:
    prober, flavor = MembershipProber(), MemberListFlavor()
    for wrong in (7, [NEED, "x"], errors.PluginError("no leader")):
        flavor.found = wrong
        answer = await query(prober, flavor)
        assert answer is not None
        assert str(answer[1]).startswith("the flavor failed: ")
    await prober.close()


@in_virtual_time
async def test_closing_cancels_the_round_in_progress() -> None:
    prober = prober_of(OneByOne())
    await verdicts_of(prober, "1000-a")
    await prober.close()
    assert len(asyncio.all_tasks()) == 1
