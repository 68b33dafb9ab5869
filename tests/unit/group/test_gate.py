"""A halt or a new declaration binds every call that has not begun, also the later ones of a series (laws 6 and 9)."""

import asyncio
import json
import math
import random
from collections.abc import Mapping
from typing import Any

import msgspec

from infrakit.instances.simulator import Faults, Simulator
from infrakit.instances.simulator.faults import Spread
from infrakit.manager.declaration import changes
from infrakit.manager.declaration.store import Declaration
from infrakit.manager.lead.ledger import EpochLedger
from infrakit.manager.lead.watermark import WatermarkGuard
from infrakit.simulation.parts import FlavorFaults, SimulatedFlavor
from infrakit.spec import document
from infrakit.spi.event import Kind
from infrakit.spi.values import (
    BOOTSTRAP,
    TAG_GROUP,
    TAG_HASH,
    TAG_SLOT,
    Allocation,
    Attachment,
    Description,
    GroupID,
    Index,
    InstanceSpec,
    LogicalID,
)
from tests.stage import Stage, cattle, in_virtual_time, pets

DB = GroupID("db")
DELETION_S = 5.0


class SlowVolumes(Simulator):
    """A provider that takes five seconds to delete a volume."""

    def __init__(self) -> None:
        super().__init__(Faults(), random=random.Random(3))
        self.begun: list[str] = []
        self.deleted: list[str] = []

    async def delete_attachment(self, *, attachment: Attachment) -> None:
        self.begun.append(attachment.id)
        await asyncio.sleep(DELETION_S)
        await super().delete_attachment(attachment=attachment)
        self.deleted.append(attachment.id)


class SlowPreparation(SimulatedFlavor):
    """A flavor that prepares an instance when `released` is set."""

    released = asyncio.Event()
    preparing = 0

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        type(self).preparing += 1
        await self.released.wait()
        return await super().prepare(properties=properties, spec=spec, allocation=allocation, index=index)


async def _destroy_until_first_volume(stage: Stage, provider: SlowVolumes) -> None:
    """Destroy the group `db` with its volumes, and return when one volume is deleted and the next deletion runs."""
    await stage.commit(pets("db", "a b c d", volumes=True))
    await stage.converged()
    await stage.operator.destroy(group=DB, volumes=True, who="ann", why="retired")
    await stage.until(lambda: len(provider.deleted) == 1)
    await asyncio.sleep(DELETION_S / 2)


@in_virtual_time
async def test_a_halt_stops_the_deletion_of_volumes_after_the_current_one() -> None:
    provider = SlowVolumes()
    async with Stage(simulator=provider) as stage:
        await _destroy_until_first_volume(stage, provider)
        await stage.operator.halt(group=None, who="ann", why="the wrong group")
        await asyncio.sleep(10 * DELETION_S)
        assert provider.deleted == ["vol-a", "vol-b"]  # the second deletion had begun
        assert DB in stage.controllers()
        await stage.operator.unhalt(group=None, who="ann", why="it was the right one")
        await stage.until(lambda: DB not in stage.controllers())
        assert set(provider.deleted) == {"vol-a", "vol-b", "vol-c", "vol-d"}


@in_virtual_time
async def test_a_halt_before_the_destruction_deletes_no_volume() -> None:
    provider = SlowVolumes()
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a b", volumes=True))
        await stage.converged()
        for slot in ("a", "b"):
            await stage.operator.halt(group=None, who="ann", why="the rack is moved")
            stage.kill("db", slot)
        await stage.operator.destroy(group=DB, volumes=True, who="ann", why="retired")
        await asyncio.sleep(300)
        assert provider.deleted == []
        assert DB in stage.controllers()


@in_virtual_time
async def test_the_loss_of_the_epoch_stops_the_deletion_of_volumes_after_the_current_one() -> None:
    provider = SlowVolumes()
    async with Stage(simulator=provider) as stage:
        await _destroy_until_first_volume(stage, provider)
        first = stage.replica.term
        assert first is not None
        other = EpochLedger(
            stage.store,
            owner="two",
            clock=stage.clock,
            random=random.Random(4),
            leads_until=lambda: math.inf,
            watermark=WatermarkGuard(),
        )
        await other.open()  # it may act at once: the epoch is lost although this replica still observes that it leads
        await stage.until(lambda: stage.replica.term not in {first, None})
        assert provider.begun == ["vol-a", "vol-b"]
        await stage.until(lambda: len(provider.deleted) == 4)  # in its next epoch, the replica continues


@in_virtual_time
async def test_committing_the_group_again_stops_the_deletion_of_its_volumes() -> None:
    provider = SlowVolumes()
    async with Stage(simulator=provider) as stage:
        await _destroy_until_first_volume(stage, provider)
        await stage.commit(pets("db", "a b c d", volumes=True))
        await stage.converged()
        await asyncio.sleep(10 * DELETION_S)
        assert provider.deleted == ["vol-a", "vol-b"]
        assert set(stage.alive("db")) == {"a", "b", "c", "d"}


class SlowAttachments(SimulatedFlavor):
    """A flavor that names the volumes of its pets after two seconds, from when `asked` is set."""

    asked: asyncio.Event | None = None

    async def attachments(self, **more: Any) -> Mapping[LogicalID, tuple[Attachment, ...]]:
        if self.asked is not None:
            self.asked.set()
            await asyncio.sleep(2.0)
        return await super().attachments(**more)


@in_virtual_time
async def test_committing_the_group_again_stops_the_next_deletion_before_it_begins() -> None:
    provider, SlowAttachments.asked = SlowVolumes(), None
    async with Stage(simulator=provider, flavor_class=SlowAttachments) as stage:
        await stage.commit(pets("db", "a b", volumes=True))
        await stage.converged()
        await stage.operator.destroy(group=DB, volumes=True, who="ann", why="retired")
        await stage.until(lambda: not stage.alive("db"))
        SlowAttachments.asked = asyncio.Event()
        await SlowAttachments.asked.wait()
        other = Declaration(stage.store, stage.clock)
        await other.load()
        again = document.parse(json.dumps([pets("db", "a b", volumes=True)]), source="doc")
        await other.change(changes.declare(tuple(again)), what="commit", who="bob", why="not that one")
        await asyncio.sleep(10 * DELETION_S)
        assert provider.begun == []


@in_virtual_time
async def test_an_instance_that_is_being_prepared_is_not_created_after_a_new_declaration() -> None:
    SlowPreparation.released, SlowPreparation.preparing = asyncio.Event(), 0
    async with Stage(flavor_class=SlowPreparation) as stage:
        await stage.commit(cattle("web", 3))
        await stage.until(lambda: SlowPreparation.preparing == 3)
        await stage.scale("web", 1)
        SlowPreparation.released.set()
        await stage.converged()
        assert stage.simulator.calls["provision"] == 1
        assert len(stage.alive("web")) == 1


@in_virtual_time
async def test_an_unrelated_commit_stops_no_creation() -> None:
    SlowPreparation.released, SlowPreparation.preparing = asyncio.Event(), 0
    async with Stage(flavor_class=SlowPreparation) as stage:
        await stage.commit(cattle("web", 3))
        await stage.until(lambda: SlowPreparation.preparing == 3)
        await stage.commit(cattle("api", 1))
        SlowPreparation.released.set()
        await stage.converged()
        assert SlowPreparation.preparing == 4
        assert stage.simulator.calls["provision"] == 4


@in_virtual_time
async def test_a_halt_stops_the_relabelling_of_adopted_instances() -> None:
    async with Stage(flavor=FlavorFaults(), faults=Faults(label=Spread(low=5.0, high=5.0))) as stage:
        properties = msgspec.Raw(b'{"version": 0}')
        for slot in ("1", "2"):
            tags = {TAG_GROUP: "web", TAG_SLOT: slot, TAG_HASH: BOOTSTRAP}
            await stage.simulator.provision(spec=InstanceSpec(properties=properties, tags=tags))
        await stage.commit(cattle("web", 2))
        await stage.until(lambda: stage.simulator.calls.get("label", 0) >= 1)
        await stage.operator.halt(group=None, who="ann", why="wait")
        before = stage.simulator.calls["label"]
        await asyncio.sleep(120)
        assert stage.simulator.calls["label"] == before
        assert not [each for each in stage.messages(Kind.ERROR) if "labelling failed" in each]
        await stage.operator.unhalt(group=None, who="ann", why="go")
        await stage.converged()


class EndlessDrain(SimulatedFlavor):
    """A flavor whose drain never ends by itself."""

    cancelled = 0

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        del properties, instance
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            type(self).cancelled += 1
            raise


@in_virtual_time
async def test_a_drain_is_cancelled_when_the_declaration_no_longer_needs_it() -> None:
    EndlessDrain.cancelled = 0
    async with Stage(flavor_class=EndlessDrain) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        await stage.scale("web", 2)
        await stage.until(lambda: stage.messages(Kind.DRAINING))
        await stage.scale("web", 3)
        await stage.converged(within_s=2.0)
        assert EndlessDrain.cancelled == 1
        assert len(stage.alive("web")) == 3
        assert "destroy" not in stage.simulator.calls
