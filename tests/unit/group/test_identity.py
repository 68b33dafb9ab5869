"""A pet whose logical ID is listed differently than it was set: it is still that pet, and its token shows which."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import msgspec
import pytest

from infrakit.group.plan import foreign
from infrakit.group.state import identity
from infrakit.instances.simulator import Simulator
from infrakit.simulation.parts import SimulatedFlavor
from infrakit.spi import values
from infrakit.spi.event import Kind
from infrakit.spi.values import Description, HealthReport, InstanceID, LogicalID, Slot, Token
from tests.stage import MinimalProvider, Stage, in_virtual_time, pets

Rewrite = Callable[[str], str]


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


@pytest.mark.parametrize(
    ("listed", "known", "token", "slot", "expected"),
    [
        ("a", None, "c1/db/a/1", None, ("a", "")),
        ("A", None, "c1/db/a/1", None, ("a", "its token")),
        ("A", "a", "c1/db/a/1", None, ("a", "its token")),
        (None, "a", "c1/db/a/1", None, ("a", "an earlier listing")),
        (None, "a", None, None, ("a", "an earlier listing")),
        (None, None, "c1/db/a/1", None, ("a", "its token")),
        ("A", "a", None, None, ("A", "")),  # nothing but the listing shows which pet it is now
        ("A", None, "c1/other/a/1", None, ("A", "")),
        (None, None, "c1/db/1/1", "1", (None, "")),  # created as one of cattle
        ("a", None, "c1/db/1/1", "1", ("a", "")),
        (None, None, None, None, (None, "")),
    ],
)
def test_what_shows_which_pet_an_instance_is(
    listed: str | None, known: str | None, token: str | None, slot: str | None, expected: tuple[str | None, str]
) -> None:
    tags = {values.TAG_GROUP: "db"} | ({values.TAG_SLOT: slot} if slot else {})
    found = identity.of_pet(listed, LogicalID(known) if known else None, Token(token) if token else None, tags)
    assert found == expected


def test_the_pet_of_another_group_holds_its_logical_id_however_that_is_listed() -> None:
    tags = {values.TAG_GROUP: "other", values.TAG_TOKEN: "c1/other/a/1", values.TAG_LOGICAL_ID: "A"}
    pet = Description(id=InstanceID("i-1"), logical_id=LogicalID("A"), tags=tags)
    assert foreign.holders([pet]) == {Slot("a"): pet, Slot("A"): pet}
