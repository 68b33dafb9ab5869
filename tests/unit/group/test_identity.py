"""A pet whose logical ID is listed differently than it was set is still that pet, as its token or the past shows."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import msgspec
import pytest

from infrakit.group.actions import Provision
from infrakit.group.plan import decide, foreign
from infrakit.group.state import identity
from infrakit.group.state.view import GroupView
from infrakit.instances.simulator import Simulator
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import values
from infrakit.spi.event import Kind
from infrakit.spi.values import Description, GroupID, HealthReport, InstanceID, LogicalID, Slot, Token
from tests import worlds
from tests.stage import MinimalProvider, Stage, in_virtual_time, pets

Rewrite = Callable[[str], str]
Shown = tuple[str | None, str | None, str | None]  # the logical ID, the token, and the slot of cattle


class Rewrites(MinimalProvider):
    """A provider that lists logical IDs differently: in another case, or with other white space."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self.rewrite: Rewrite = lambda text: text
        self.describe_instances = self._describe

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        listing = await self._simulator.describe_instances(tags=tags, properties=properties)
        return [self._rewritten(each) for each in listing]

    def _rewritten(self, each: Description) -> Description:
        logical_id = LogicalID(self.rewrite(each.logical_id or ""))
        tags = (each.tags or {}) | {values.TAG_LOGICAL_ID: str(logical_id)}
        return msgspec.structs.replace(each, logical_id=logical_id, tags=tags)


class Asked(SimulatedFlavor):
    """Records the logical IDs of the instances whose health it is asked for."""

    asked: ClassVar[set[str | None]] = set()

    async def healthy_all(
        self, *, properties: msgspec.Raw, instances: Sequence[Description]
    ) -> Mapping[InstanceID, HealthReport]:
        type(self).asked |= {each.logical_id for each in instances}
        return await super().healthy_all(properties=properties, instances=instances)


@pytest.mark.parametrize("quorum", [True, False])
@pytest.mark.parametrize("rewrite", [str.upper, lambda text: f" {text}", lambda _text: "b"])
@in_virtual_time
async def test_a_pet_whose_logical_id_is_rewritten_is_neither_destroyed_nor_created_again(
    rewrite: Rewrite, quorum: bool
) -> None:
    made: list[Rewrites] = []

    def provider(simulator: Simulator) -> Rewrites:
        made.append(Rewrites(simulator))
        return made[-1]

    async with Stage(provider=provider) as on:
        await on.commit(pets("db", "a b c", volumes=True, quorum=quorum))
        await on.converged()
        made[-1].rewrite = rewrite
        await asyncio.sleep(300)
        assert on.is_converged()
        assert not on.messages(Kind.DESTROYING)
        wrong = rewrite("a")
        pet = on.alive("db")["a"].id
        shown = [m for m in on.messages(Kind.WAITING) if pet in m]
        assert shown == [f"{pet} is listed as {wrong}; its token shows that it is a"]
    async with Stage(store=on.store, simulator=on.simulator, provider=provider, flavor_class=Asked) as later:
        made[-1].rewrite = rewrite
        Asked.asked = set()
        await later.converged()
        await asyncio.sleep(300)
        assert later.is_converged()
        assert not later.messages(Kind.DESTROYING)
        assert Asked.asked == {"a", "b", "c"}
    assert on.simulator.calls["provision"] == 3


TOKEN = "its token"
EARLIER = "an earlier listing"


@pytest.mark.parametrize(
    ("shown", "names", "expected"),
    [
        (("a", "c1/db/a/1", None), "", ("a", "", "a")),
        (("A", "c1/db/a/1", None), "", ("a", TOKEN, "a")),
        (("b", "c1/db/a/1", None), "b", ("a", TOKEN, "a")),  # the token is shown again
        ((None, "c1/db/a/1", None), "b", ("a", TOKEN, "a")),
        ((None, None, None), "a", ("a", EARLIER, "a")),
        ((None, None, None), "x", ("x", EARLIER, "x")),
        (("b", None, None), "a", ("a", EARLIER, "ab")),  # one of the two is wrong
        (("c", None, None), "ab", ("a", EARLIER, "abc")),
        (("X", None, None), "a", ("a", EARLIER, "aX")),
        (("b", None, None), "aX", ("a", EARLIER, "ab")),
        (("b", None, None), "xb", ("b", "", "xb")),
        (("a", None, None), "x", ("a", "", "a")),  # a wrong tag that was corrected
        (("a", None, None), "ab", ("a", "", "a")),  # what is right is listed again
        (("b", None, None), "ab", ("a", EARLIER, "ab")),
        (("A", "c1/other/a/1", None), "", ("A", "", "A")),
        ((None, "c1/db/1/1", "1"), "", (None, "", "")),  # created as one of cattle
        (("a", "c1/db/1/1", "1"), "", ("a", "", "")),
        ((None, None, None), "", (None, "", "")),
    ],
)
def test_what_shows_which_pet_an_instance_is(shown: Shown, names: str, expected: tuple[str | None, str, str]) -> None:
    listed, token, slot = shown
    tags = {values.TAG_GROUP: "db"} | ({values.TAG_SLOT: slot} if slot else {})
    found = identity.of_pet(
        LogicalID(listed) if listed else None,
        tuple(map(LogicalID, names)),
        Token(token) if token else None,
        tags,
        declared=set(map(LogicalID, "abc")),
    )
    assert (found.logical_id, found.shown_by, "".join(found.names)) == expected


class Shows(MinimalProvider):
    """A provider without tokens, which lists some machines with another logical ID, or with none."""

    def __init__(self, simulator: Simulator, shown: Mapping[str, str | None]) -> None:
        super().__init__(simulator)
        self._simulator = simulator
        self.shown = shown  # by the true logical ID
        self.describe_instances = self._describe

    async def _describe(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        return [
            msgspec.structs.replace(
                each,
                logical_id=self.shown.get(each.logical_id or "", each.logical_id),
                tags={k: v for k, v in (each.tags or {}).items() if k not in (values.TAG_TOKEN, values.TAG_LOGICAL_ID)},
            )
            for each in await self._simulator.describe_instances(tags=tags, properties=properties)
        ]


SHOWN: list[dict[str, str | None]] = [{"b": "a"}, {"b": "x"}, {"b": None}, {"a": "b", "b": "a"}, {"a": "c", "c": "a"}]


@pytest.mark.parametrize("quorum", [True, False])
@pytest.mark.parametrize("shown", SHOWN, ids=str)
@pytest.mark.parametrize("when", ["before", "after", "both"])
@in_virtual_time
async def test_a_pet_without_a_token_keeps_its_logical_id_also_with_the_next_leader(
    shown: dict[str, str | None], when: str, quorum: bool
) -> None:
    """The listing is wrong while the first leader leads, after it, or both: no second instance, and none destroyed."""
    truth: dict[str, str | None] = {}
    made: list[Shows] = []

    def provider(simulator: Simulator) -> Shows:
        made.append(Shows(simulator, truth))
        return made[-1]

    async with Stage(provider=provider) as on:
        await on.commit(pets("db", "a b c", quorum=quorum))
        await on.converged()
        await asyncio.sleep(60)
        made[-1].shown = truth if when == "after" else shown
        await asyncio.sleep(60)
        pet = on.alive("db")["b"].id
        assert on.is_converged()
    async with Stage(store=on.store, simulator=on.simulator, provider=provider) as later:
        made[-1].shown = truth if when == "before" else shown
        await later.converged()
        await asyncio.sleep(300)
        assert later.is_converged()
        names = {m.id: m.logical_id for m in later.controller("db").view.members.values()}
        assert names == {m.id: m.logical_id for m in on.simulator.live()}
        made[-1].shown = truth
        await asyncio.sleep(60)
        assert not any(m.identified_by for m in later.controller("db").view.members.values())
    assert on.simulator.calls["provision"] == 3
    assert "destroy" not in on.simulator.calls
    if "b" in shown and when != "after":
        wrong = f"as {shown['b']}" if shown["b"] else "without its logical ID"
        shown_as = f"{pet} is listed {wrong}; an earlier listing shows that it is b"
        assert [m for m in on.messages(Kind.WAITING) if pet in m] == [shown_as]


@pytest.mark.parametrize("remedy", ["tag", "destroy"])
@in_virtual_time
async def test_a_pet_that_may_be_another_one_holds_both_logical_ids_until_an_operator_decides(remedy: str) -> None:
    made: list[Shows] = []

    def provider(simulator: Simulator) -> Shows:
        made.append(Shows(simulator, {}))
        return made[-1]

    async with Stage(provider=provider) as on:
        await on.commit(pets("db", "a"))
        await on.converged()
        pet = on.alive("db")["a"].id
        made[-1].shown = {"a": "b"}
        await on.commit(pets("db", "a b"))
        await asyncio.sleep(120)
        assert on.simulator.calls["provision"] == 1
        refused = [line for line in (await on.status("db")).waiting if "may be that of" in line.reason]
        assert [line.remedy.endswith(f"infrakit instance destroy {pet}") for line in refused] == [True]
        if remedy == "destroy":
            await on.operator.destroy_instance(instance=pet, who="ann", why="a test")
            await on.until(lambda: pet not in on.simulator.machines or not on.simulator.machines[pet].lives)
        made[-1].shown = {}
        await on.converged()
        assert set(on.alive("db")) == {"a", "b"}
        assert (on.alive("db")["a"].id == pet) is (remedy == "tag")
        assert on.simulator.calls["provision"] == (2 if remedy == "tag" else 3)


def test_a_recorded_creation_waits_while_a_pet_may_have_its_logical_id() -> None:
    world = worlds.view(worlds.pet("a"), pets=True)
    world.pending = {Slot("b"): worlds.pending()}
    want = worlds.want(ids="a b")
    assert [type(action) for action in decide(want, world).actions] == [Provision]
    world.members[InstanceID("i-a")].names = (LogicalID("a"), LogicalID("b"))
    plan = decide(want, world)
    assert plan.actions == ()
    assert [block.key for block in plan.blocked] == ["disputed"]


def test_a_token_that_is_listed_again_shows_which_pet_it_is() -> None:
    declared = frozenset({LogicalID("a"), LogicalID("b")})
    view = GroupView(group=GroupID("db"), pets=True, declared=declared, lag_s=0.0, can_inspect=False)
    wrong = Description(id=InstanceID("i-1"), logical_id=LogicalID("b"), tags={values.TAG_GROUP: "db"})
    tags = {values.TAG_GROUP: "db", values.TAG_TOKEN: "c1/db/a/1"}
    for at, listed, expected in (
        (1.0, wrong, ("b", ("b",))),
        (2.0, msgspec.structs.replace(wrong, tags=tags), ("a", ("a",))),
        (3.0, wrong, ("a", ("a", "b"))),
    ):
        view.listed((listed,), begun_at=at, now=at, wall=at)
        member = view.members[wrong.id]
        assert (member.logical_id, member.names) == expected


def test_what_is_declared_decides_which_of_its_names_an_instance_has() -> None:
    a, b = LogicalID("a"), LogicalID("b")
    view = GroupView(group=GroupID("db"), pets=True, declared=frozenset({a, b}), lag_s=0.0, can_inspect=False)
    for at, shown in ((1.0, a), (2.0, b)):
        listed = Description(id=InstanceID("i-1"), logical_id=shown, tags={values.TAG_GROUP: "db"})
        view.listed((listed,), begun_at=at, now=at, wall=at)
    for declared, expected in (({a, b}, a), ({b}, b), ({a, b}, a), ({a}, a)):
        view.declare(pets=True, declared=frozenset(declared), version="", policy=view.policy)
        assert view.members[InstanceID("i-1")].logical_id == expected


def test_the_pet_of_another_group_holds_its_logical_id_however_that_is_listed() -> None:
    tags = {values.TAG_GROUP: "other", values.TAG_TOKEN: "c1/other/a/1", values.TAG_LOGICAL_ID: "A"}
    pet = Description(id=InstanceID("i-1"), logical_id=LogicalID("A"), tags=tags)
    assert foreign.holders([pet]) == {Slot("a"): pet, Slot("A"): pet}
