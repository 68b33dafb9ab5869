"""A listing that contradicts itself, or shows what was not asked for, leads to no action."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec
import pytest

from infrakit.group.listing import check, of_group
from infrakit.instances.simulator import Simulator
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.values import TAG_GROUP, Description, InstanceID, State
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets

Change = Callable[[list[Description]], Sequence[Description]]


class Altered(MinimalProvider):
    """A provider whose listing is changed on the way, and which ignores the tag filter."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self.change: Change = list
        self.describe_instances = self._describe
        self._simulator = simulator

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        del tags
        return self.change(list(await self._simulator.describe_instances(tags={}, properties=properties)))


class Providers:
    """Creates the provider of a stage, and gives access to it."""

    last: Altered

    def __call__(self, simulator: Simulator) -> Altered:
        self.last = Altered(simulator)
        return self.last


def described(id_: str, group: str | None = "web", state: State = State.RUNNING) -> Description:
    return Description(id=InstanceID(id_), tags={TAG_GROUP: group} if group else None, state=state)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda listing: [*listing, listing[0]], "twice"),
        (lambda listing: [listing[0], listing[0]], "twice"),
        (lambda listing: [*listing, msgspec.structs.replace(listing[0], logical_id="z")], "twice"),
        (lambda listing: [msgspec.structs.replace(listing[0], id=""), *listing[1:]], "an instance without an ID"),
        (lambda listing: 7, "no sequence of descriptions, but int"),
        (lambda listing: ["sim-1"], "no sequence of descriptions"),
    ],
)
@in_virtual_time
async def test_a_listing_that_contradicts_itself_is_a_failed_observation(change: Change, problem: str) -> None:
    provide = Providers()
    async with Stage(provider=provide) as stage:
        await stage.commit(pets("db", "a b"))
        await stage.converged()
        before = dict(stage.simulator.calls)
        provide.last.change = change
        await asyncio.sleep(300)
        assert {name: stage.simulator.calls[name] for name in before if name != "describe"} == {
            name: count for name, count in before.items() if name != "describe"
        }
        assert any(problem in each for each in stage.messages(Kind.OBSERVE_FAILED))
        assert not (await stage.status("db")).converged
        provide.last.change = list
        await stage.converged()


@in_virtual_time
async def test_instances_without_the_tag_of_the_group_are_neither_adopted_nor_destroyed() -> None:
    provide = Providers()
    async with Stage(provider=provide) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        others = [described("db-1", "other"), described("hand-made", None)]
        provide.last.change = lambda listing: [*listing, *others]
        await asyncio.sleep(120)
        assert "destroy" not in stage.simulator.calls
        assert (await stage.status("web")).converged
        assert not [each for each in stage.messages(Kind.ADOPTED) if each]


@in_virtual_time
async def test_a_missing_member_is_noticed_although_the_listing_is_as_long_as_before() -> None:
    provide = Providers()
    async with Stage(provider=provide) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        gone = described("foreign", state=State.TERMINATED)
        provide.last.change = lambda listing: [listing[0], gone]
        await stage.until(lambda: not stage.is_converged(), within_s=10.0)
        assert stage.messages(Kind.MISSING)


def test_a_listing_of_one_group_is_returned_as_it_is() -> None:
    listing = [described("1"), described("2")]
    check(listing, provider="p")
    assert of_group(listing, "web") is listing
    assert of_group([*listing, described("3", "db"), described("4", None)], "web") == listing
    with pytest.raises(errors.PluginError, match="p: its listing has the instance 1 twice"):
        check([*listing, described("1", "db")], provider="p")
