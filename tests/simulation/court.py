"""The oracle with a cloud, without any code under test: a test lets happen there what breaks a law."""

import json
import random
from typing import Any

from infrakit.instances.simulator import Faults
from infrakit.simulation.cloud import Cloud, CloudFaults
from infrakit.simulation.loops import Timeline
from infrakit.simulation.oracle import Caller, Oracle
from infrakit.spi import values
from infrakit.spi.event import Event, Kind
from infrakit.spi.store import Document
from infrakit.spi.values import Attachment, GroupID, InstanceID, InstanceSpec, LogicalID

GROUP = GroupID("g")
CALLER = Caller(name="n1.1", epoch=1, leads_until=1e6)


class Court:
    """The oracle, with a cloud and a timeline that a test advances."""

    def __init__(self, *faults: str) -> None:
        self.timeline = Timeline()
        self.cloud = Cloud(Faults(exclusive=False, tokens=False), CloudFaults(), random=random.Random(1))
        self.oracle = Oracle(self.timeline, faults=faults)
        self.cloud.watchers.append(self.oracle.on_change)
        self._revision = 0

    @property
    def verdict(self) -> str:
        return self.oracle.verdict

    def at(self, now: float, *steps: Any) -> None:
        """Take these steps in the loop of the world, not before that time."""
        done: list[bool] = []

        def take() -> None:
            for step in steps:
                step()
            done.append(True)

        self.timeline.world.call_at(max(now, self.timeline.now), take)
        self.timeline.run(lambda: done)

    def declare(self, size: int | None = None, ids: str = "", *, why: str = "declared", **more: Any) -> None:
        """Let a declaration of the group become durable."""
        self._revision += 1
        allocation: dict[str, Any] = {"LogicalIDs": ids.split()} if ids else {"Size": size}
        flavor = {"Quorum": more.pop("quorum", False), "Volumes": more.pop("volumes", False)}
        properties = {
            "Allocation": allocation,
            "Instance": {"Plugin": "simulator", "Properties": {"version": more.pop("version", 0)}},
            "Flavor": {"Plugin": "simulated", "Properties": flavor},
            "Healing": more.pop("healing", {}),
            "Updating": {},
        }
        group = {"name": "g", "hash": "h", "properties": properties}
        body = {"Entry": {"Why": why}, "Groups": {"g": group}, "Orders": {"g": more} if more else {}}
        self.oracle.written(Document(name="declaration", revision=self._revision, body=json.dumps(body).encode()))

    def free(self) -> None:
        """Let a declaration without the group become durable."""
        self._revision += 1
        self.oracle.written(Document(name="declaration", revision=self._revision, body=b"{}"))

    def rejoin(self) -> None:
        """Let a node use the store again, instead of a copy."""
        documents = [*self.oracle.durable.versions.values()]
        self.oracle.rejoined({"declaration": self._revision}, documents)

    def create(self, slot: str, *, pet: bool = False, token: str = "", volume: str = "") -> None:
        """Request an instance, and let the provider create it."""
        spec = InstanceSpec(
            tags={values.TAG_GROUP: GROUP, values.TAG_TOKEN: token or f"c/g/{slot}/1"},
            logical_id=LogicalID(slot) if pet else None,
            attachments=(Attachment(id=volume, type="volume"),) if volume else None,
        )
        self.oracle.creating(CALLER, spec)
        self.cloud._create(spec)

    def destroy(self, *ids: str) -> None:
        """Let InfraKit destroy instances, each after an event with the reason."""
        for each in map(InstanceID, ids):
            event = Event(type=Kind.DESTROYING, group=GROUP, instance=each, message="a reason")
            self.oracle.reported(CALLER, event)
            self.oracle.destroying(CALLER, each, each)
            if each in self.cloud.machines:
                self.cloud.kill(each)
