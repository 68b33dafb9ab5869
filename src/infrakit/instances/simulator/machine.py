"""One simulated machine: when it is born, listed, healthy, sick and dead."""

import math

import msgspec

from infrakit.instances.simulator.faults import Seconds
from infrakit.spi.group import Strict
from infrakit.spi.values import Attachment, Description, InstanceID, LogicalID, State


class Properties(Strict, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What a spec may ask of a simulated machine; anything else in it only makes its version another."""

    boot_time: Seconds = 0.0  # until healthy, on top of the faults'
    never_healthy: bool = False
    lifetime: Seconds = 0.0  # until it dies, 0: as the faults say
    refuse: bool = False  # every creation is refused


class Machine(msgspec.Struct, kw_only=True):
    """Times are the event loop's."""

    id: InstanceID
    logical_id: LogicalID | None
    tags: dict[str, str]
    token: str
    attachments: tuple[Attachment, ...]
    properties: msgspec.Raw
    born_at: float
    listed_at: float
    healthy_at: float
    sick_at: float = math.inf
    dies_at: float = math.inf
    dead_at: float = math.inf  # when it really ended
    unlisted_at: float = math.inf
    description: Description | None = None

    @property
    def lives(self) -> bool:
        return math.isinf(self.dead_at)

    def is_healthy(self, now: float) -> bool:
        return self.lives and self.healthy_at <= now < self.sick_at

    def state(self, now: float) -> State:
        """As providers tell it; of one that is dead and still listed they tell nothing."""
        if not self.lives:
            return State.UNSPECIFIED
        if now >= self.sick_at or math.isinf(self.healthy_at):
            return State.IMPAIRED
        return State.RUNNING if now >= self.healthy_at else State.PENDING

    def describe(self, now: float, *, properties: bool = False) -> Description:
        """The same object as long as nothing changes."""
        state = self.state(now)
        if self.description is None or self.description.state is not state:
            self.description = Description(
                id=self.id,
                logical_id=self.logical_id,
                tags=dict(self.tags),
                state=state,
                attachments=self.attachments,
            )
        if properties:
            return msgspec.structs.replace(self.description, properties=self.properties)
        return self.description
