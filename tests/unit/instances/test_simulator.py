"""The simulator injects every declared fault, and no other."""

import asyncio
import random

import msgspec
import pytest

from infrakit.instances.simulator import Faults, Machine, Simulator, Spread
from infrakit.spi import errors, values
from infrakit.spi.instance import Capable, DestroyContext, Inspects, Instance, Keeps, Volumes
from infrakit.spi.values import Attachment, Description, InstanceID, InstanceSpec, LogicalID, State
from tests.stage import in_virtual_time

G = {values.TAG_GROUP: "g"}
CALLS = 400


def simulator(**faults: object) -> Simulator:
    return Simulator(msgspec.structs.replace(Faults(), **faults), random=random.Random(5))


def spec(token: str = "", *, logical_id: str | None = None, volume: str = "", **properties: object) -> InstanceSpec:
    return InstanceSpec(
        properties=msgspec.Raw(msgspec.json.encode(properties)),
        tags=G | ({values.TAG_TOKEN: token} if token else {}),
        logical_id=LogicalID(logical_id) if logical_id else None,
        attachments=(Attachment(id=volume, type="volume"),) if volume else (),
    )


async def listed(provider: Simulator) -> list[str]:
    return [d.id for d in await provider.describe_instances(tags=G)]


async def outcomes(provider: Simulator, count: int = CALLS) -> list[str]:
    """The outcomes of that many creations, as names of errors."""
    found = []
    for _ in range(count):
        try:
            await provider.provision(spec=spec())
        except errors.InfraKitError as error:
            found.append(type(error).__name__)
        else:
            found.append("done")
    return found


def now() -> float:
    return asyncio.get_running_loop().time()


@in_virtual_time
async def test_the_simulator_without_faults_is_a_correct_provider() -> None:
    provider = simulator()
    for protocol in (Instance, Capable, Inspects, Volumes, Keeps):
        assert isinstance(provider, protocol)
    created = await provider.provision(spec=spec("t", logical_id="a", volume="v"))
    (found,) = await provider.describe_instances(tags=G)
    assert (found.id, found.logical_id, found.state) == (created, "a", State.RUNNING)
    (full,) = await provider.describe_instances(tags=G, properties=True)
    assert isinstance(full.properties, msgspec.Raw)
    assert bytes(full.properties) == b"{}"
    assert await provider.describe_instances(tags={values.TAG_GROUP: "h"}) == ()
    assert len(await provider.describe_instances(tags={})) == 1
    assert await listed(provider) == [created]
    await provider.label(instance=created, labels={"colour": "blue"})
    assert len(await provider.describe_instances(tags=G | {"colour": "blue"})) == 1
    await provider.destroy(instance=created, context=DestroyContext())
    assert await listed(provider) == []
    assert await provider.inspect(instance=created) is None
    with pytest.raises(errors.NotFound):
        await provider.destroy(instance=created, context=DestroyContext())
    with pytest.raises(errors.NotFound):
        await provider.label(instance=created, labels={})
    assert now() == 0.0


@in_virtual_time
async def test_the_same_listing_is_the_same_object_while_nothing_changes() -> None:
    provider = simulator(boot=Spread(low=5.0))
    await provider.provision(spec=spec())
    first = await provider.describe_instances(tags=G)
    await asyncio.sleep(4.0)
    assert await provider.describe_instances(tags=G) is first
    assert first[0].state is State.PENDING
    await asyncio.sleep(1.0)
    second = await provider.describe_instances(tags=G)
    assert second[0].state is State.RUNNING
    await provider.provision(spec=spec())
    assert (await provider.describe_instances(tags=G))[0] is second[0]


@pytest.mark.parametrize("call", ["describe", "provision", "destroy", "label"])
@in_virtual_time
async def test_each_call_takes_its_configured_duration(call: str) -> None:
    provider = simulator(**{call: Spread(low=2.0, high=4.0)})
    created = await provider.provision(spec=spec())
    await provider.label(instance=created, labels={})
    await provider.describe_instances(tags=G)
    await provider.destroy(instance=created, context=DestroyContext())
    assert 2.0 <= now() <= 4.0


@in_virtual_time
async def test_a_spread_has_a_tail() -> None:
    rng = random.Random(1)
    drawn = [Spread(low=1.0, high=2.0, mean=3.0).draw(rng) for _ in range(2000)]
    assert min(drawn) >= 1.0
    assert 4.0 < sum(drawn) / 2000 < 5.0


@in_virtual_time
async def test_some_calls_are_slow_and_the_others_are_not() -> None:
    provider = simulator(slow_rate=0.5, slow=20.0)
    calls = [asyncio.ensure_future(provider.provision(spec=spec())) for _ in range(20)]
    await asyncio.sleep(1.0)
    slow = provider.in_flight
    assert 0 < sum(c.done() for c in calls) < 20
    await asyncio.gather(*calls)
    assert now() == 20.0
    assert provider.in_flight_most >= slow >= 5


@pytest.mark.parametrize(
    ("fault", "error"),
    [("unreachable_rate", "Unreachable"), ("refuse_rate", "Refused")],
)
@in_virtual_time
async def test_a_failure_before_the_action_creates_nothing(fault: str, error: str) -> None:
    provider = simulator(**{fault: 0.3})
    ends = await outcomes(provider)
    assert set(ends) == {"done", error}
    assert 80 < ends.count(error) < 160
    assert len(provider.live()) == ends.count("done")


@in_virtual_time
async def test_after_a_lost_reply_the_change_was_made() -> None:
    provider = simulator(lost_rate=0.3)
    ends = await outcomes(provider)
    assert 80 < ends.count("OutcomeUnknown") < 160
    assert len(provider.live()) == CALLS


@in_virtual_time
async def test_a_provider_error_does_not_show_whether_the_change_was_made() -> None:
    provider = simulator(fail_rate=0.4)
    ends = await outcomes(provider)
    failed = ends.count("PluginError")
    assert ends.count("done") < len(provider.live()) < CALLS
    assert failed > 80


@in_virtual_time
async def test_a_hanging_call_has_made_its_change() -> None:
    provider = simulator(hang_rate=1.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1000.0):
            await provider.provision(spec=spec())
    assert len(provider.live()) == 1
    assert provider.in_flight == 0


@in_virtual_time
async def test_when_down_every_call_is_unreachable() -> None:
    provider = simulator(down=True)
    with pytest.raises(errors.Unreachable):
        await provider.describe_instances(tags=G)
    assert set(await outcomes(provider, 5)) == {"Unreachable"}


@in_virtual_time
async def test_throttling_grants_a_burst_and_then_so_many_a_second() -> None:
    provider = simulator(per_second=2.0, burst=5)
    await asyncio.sleep(100.0)
    ends = await outcomes(provider, 8)
    assert ends == ["done"] * 5 + ["Throttled"] * 3
    await asyncio.sleep(1.0)
    assert await outcomes(provider, 3) == ["done", "done", "Throttled"]
    with pytest.raises(errors.Throttled) as throttled:
        await provider.describe_instances(tags=G)
    assert 0.0 < throttled.value.after_s <= 0.5


@in_virtual_time
async def test_capacity_counts_running_machines() -> None:
    provider = simulator(capacity=2)
    assert await outcomes(provider, 3) == ["done", "done", "Refused"]
    provider.kill(provider.live()[0].id)
    assert await outcomes(provider, 2) == ["done", "Refused"]


@in_virtual_time
async def test_creations_and_terminations_are_listed_late() -> None:
    provider = simulator(lag=Spread(low=3.0), termination_lag=Spread(low=7.0))
    assert (await provider.capabilities()).listing_lag_s == 7.0
    created = await provider.provision(spec=spec())
    assert await listed(provider) == []
    assert await provider.inspect(instance=created) is not None
    await asyncio.sleep(3.0)
    assert await listed(provider) == [created]
    provider.kill(created)
    assert await provider.inspect(instance=created) is None
    await asyncio.sleep(6.9)
    assert await listed(provider) == [created]
    await asyncio.sleep(0.1)
    assert await listed(provider) == []


async def test_the_promised_lag_is_derived_from_the_spreads_unless_set() -> None:
    assert (await simulator(lag=Spread(low=1.0, high=4.0, mean=1.0)).capabilities()).listing_lag_s == 9.0
    assert (await simulator(lag=Spread(low=10.0), lag_max=2.0).capabilities()).listing_lag_s == 2.0
    assert not (await simulator(tokens=False).capabilities()).tokens


@in_virtual_time
async def test_a_partial_listing_fails_or_is_silent() -> None:
    provider = simulator()
    await outcomes(provider, 100)
    provider.faults = Faults(partial_rate=1.0)
    with pytest.raises(errors.PluginError, match="second page"):
        await provider.describe_instances(tags=G)
    provider.faults = Faults(silent_partial_rate=1.0, silent_part=0.3)
    assert 50 < len(await listed(provider)) < 90
    provider.faults = Faults(empty_rate=1.0)
    assert await listed(provider) == []
    provider.faults = Faults(blind=True)
    assert await listed(provider) == []
    provider.faults = Faults()
    assert len(await listed(provider)) == 100


@in_virtual_time
async def test_machines_boot_become_unhealthy_and_terminate() -> None:
    provider = simulator(boot=Spread(low=5.0))
    created = await provider.provision(spec=spec(BootTime=5.0))
    assert not provider.is_healthy(created)
    await asyncio.sleep(10.0)
    assert provider.is_healthy(created)
    provider.make_unhealthy(created)
    assert not provider.is_healthy(created)
    assert (await provider.describe_instances(tags=G))[0].state is State.IMPAIRED
    never = await provider.provision(spec=spec(NeverHealthy=True))
    short = await provider.provision(spec=spec(Lifetime=20.0))
    await asyncio.sleep(19.0)
    assert not provider.is_healthy(never)
    assert short in await listed(provider)
    await asyncio.sleep(1.0)
    assert short not in await listed(provider)
    with pytest.raises(errors.Refused, match="its properties declare Refuse"):
        await provider.provision(spec=spec(Refuse=True))


@in_virtual_time
async def test_random_lifetimes_and_failures() -> None:
    provider = simulator(lifetime=100.0, unhealthy_after=100.0, never_healthy_rate=0.2)
    created = [await provider.provision(spec=spec()) for _ in range(300)]
    await asyncio.sleep(100.0)
    assert 80 < len(provider.live()) < 150
    assert 10 < sum(provider.is_healthy(i) for i in created) < 70


@in_virtual_time
async def test_a_token_creates_one_instance_for_any_number_of_retries() -> None:
    provider = simulator()
    first = await provider.provision(spec=spec("t"))
    assert await provider.provision(spec=spec("t")) == first
    provider.kill(first)
    assert await provider.provision(spec=spec("t")) == first  # it created one instance, which has terminated
    assert not provider.live()
    forgetful = simulator(tokens=False)
    assert await forgetful.provision(spec=spec("t")) != await forgetful.provision(spec=spec("t"))


@in_virtual_time
async def test_identities_and_volumes_are_exclusive_by_default() -> None:
    provider = simulator()
    first = await provider.provision(spec=spec(logical_id="a", volume="v"))
    with pytest.raises(errors.Conflict, match=f"{first} has the logical ID a"):
        await provider.provision(spec=spec(logical_id="a"))
    with pytest.raises(errors.Conflict, match=f"{first} holds v"):
        await provider.provision(spec=spec(logical_id="b", volume="v"))
    with pytest.raises(errors.Conflict):
        await provider.delete_attachment(attachment=Attachment(id="v", type="volume"))
    provider.kill(first)
    asked = [Attachment(id=id_, type=type_) for id_, type_ in (("w", "volume"), ("v", "volume"), ("v", "eni"))]
    assert await provider.existing(attachments=asked) == [asked[1]], "it outlives its holder"
    await provider.delete_attachment(attachment=asked[1])
    assert await provider.existing(attachments=asked) == []
    await provider.provision(spec=spec(logical_id="a", volume="v"))
    careless = simulator(exclusive=False)
    for _ in range(2):
        await careless.provision(spec=spec(logical_id="a", volume="v"))
    assert len(careless.live()) == 2


@in_virtual_time
async def test_watchers_are_notified_of_creations_and_terminations() -> None:
    provider = simulator(lag=Spread(low=50.0))
    notified: list[tuple[str, str, float]] = []
    ends: list[float] = []

    def watch(what: str, machine: Machine) -> None:
        notified.append((what, machine.id, now()))
        if what == "ended":
            ends.append(machine.terminated_at)

    provider.watchers.append(watch)
    created = await provider.provision(spec=spec(Lifetime=10.0))
    await asyncio.sleep(30.0)
    provider.live()
    assert notified == [("created", created, 0.0), ("ended", created, 30.0)]  # nothing was observed earlier
    assert ends == [10.0]


async def test_the_properties_of_a_machine_are_validated() -> None:
    await simulator().validate(properties=msgspec.Raw(b'{"Anything": 1, "BootTime": 2}'))
    with pytest.raises(errors.InvalidSpec, match="BootTime"):
        await simulator().validate(properties=msgspec.Raw(b'{"BootTime": "soon"}'))


@in_virtual_time
async def test_a_machine_may_be_adopted() -> None:
    provider = simulator()
    seed = provider.adopt(tags=G, logical_id=LogicalID("a"))
    found = await provider.describe_instances(tags=G)
    assert [(d.id, d.logical_id) for d in found] == [(seed, "a")]
    assert isinstance(found[0], Description)
    assert await provider.inspect(instance=InstanceID("nobody")) is None
