"""One simulated machine: when it is created, listed, healthy, unhealthy and terminated."""

import math

import msgspec

from infrakit.instances.simulator.faults import Seconds
from infrakit.spi.group import Strict
from infrakit.spi.values import Attachment, Description, InstanceID, LogicalID, State


class Properties(Strict, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The properties of a simulated machine; any other field only changes the version of the spec."""

    boot_time: Seconds = 0.0  # until healthy, in addition to Boot of the faults
    never_healthy: bool = False
    lifetime: Seconds = 0.0  # until it terminates; 0: as set by the faults
    refuse: bool = False  # every creation is refused


class Machine(msgspec.Struct, kw_only=True):
    """The actual state of one machine. Times are the event loop's."""

    id: InstanceID
    logical_id: LogicalID | None
    tags: dict[str, str]
    token: str
    attachments: tuple[Attachment, ...]
    properties: msgspec.Raw
    created_at: float
    listed_at: float
    healthy_at: float
    unhealthy_at: float = math.inf
    terminates_at: float = math.inf
    terminated_at: float = math.inf  # when it actually terminated
    unlisted_at: float = math.inf
    description: Description | None = None

    @property
    def lives(self) -> bool:
        return math.isinf(self.terminated_at)

    def is_healthy(self, now: float) -> bool:
        return self.lives and self.healthy_at <= now < self.unhealthy_at

    def state(self, now: float) -> State:
        """The state as a provider reports it: unspecified for a terminated machine that is still listed."""
        if not self.lives:
            return State.UNSPECIFIED
        if now >= self.unhealthy_at or math.isinf(self.healthy_at):
            return State.IMPAIRED
        return State.RUNNING if now >= self.healthy_at else State.PENDING

    def describe(self, now: float, *, properties: bool = False) -> Description:
        """Return the description, as the same object while nothing changes."""
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
