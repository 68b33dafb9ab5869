"""A container as an instance. Its labels are the only record of it, written by the call that creates it.

Labels that begin with `infrakit.docker.` belong to the provider and are not tags. A container is an instance if it has
the label `infrakit.docker.id`, also one that an operator has created by hand.
"""

from collections.abc import Iterable, Mapping

import msgspec

from infrakit.clients.docker import Container
from infrakit.spi import codec
from infrakit.spi.errors import PluginError
from infrakit.spi.values import Attachment, Description, InstanceID, LogicalID, State

OWN = "infrakit.docker."
ID = f"{OWN}id"  # the instance's ID, which is the container's name unless a user renames the container
LOGICAL_ID = f"{OWN}logical-id"
ATTACHMENTS = f"{OWN}attachments"  # in JSON

VOLUME = "volume"
ABANDONED_S = 300.0  # a running daemon starts a container sooner than this after creating it; includes some clock skew

# `exited` is terminated: no process of it runs, its address is free, and the Engine does not restart it. It is removed
# before its replacement starts, so that two containers never use its volume. `dead` is a container that the Engine
# could not remove completely and never starts again.
_STATES = {
    "created": State.PENDING,
    "running": State.RUNNING,
    "restarting": State.IMPAIRED,
    "paused": State.IMPAIRED,
    "removing": State.STOPPING,
    "exited": State.TERMINATED,
    "dead": State.TERMINATED,
}


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One instance, read from its container."""

    container: Container
    id: InstanceID
    logical_id: LogicalID | None
    attachments: tuple[Attachment, ...]
    state: State

    @property
    def is_live(self) -> bool:
        """Whether the instance still has its logical ID and holds its attachments."""
        return self.state is not State.TERMINATED

    def description(self, tags: Mapping[str, str]) -> Description:
        """Return the description of the provider contract, without properties."""
        return Description(
            id=self.id,
            logical_id=self.logical_id,
            tags=dict(tags),
            state=self.state,
            attachments=self.attachments if self.is_live else (),
        )

    @property
    def tags(self) -> dict[str, str]:
        """The tags that the container was created with."""
        return {name: value for name, value in self.container.labels.items() if not name.startswith(OWN)}


def records(containers: Iterable[Container], *, now: float) -> dict[InstanceID, ContainerRecord]:
    """Return the instances by ID. Raises `PluginError` if two containers have the same ID: its state is unknown."""
    found: dict[InstanceID, ContainerRecord] = {}
    for each in containers:
        record = _record(each, now)
        other = found.setdefault(record.id, record)
        if other is not record:
            raise PluginError(
                f"the containers {other.container.name} and {each.name} have the same instance ID, {record.id}",
                where="docker",
                remedy=f"remove one of them: its label {ID} was written by hand",
            )
    return found


def _record(container: Container, now: float) -> ContainerRecord:
    labels = container.labels
    return ContainerRecord(
        container=container,
        id=InstanceID(labels[ID]),
        logical_id=LogicalID(labels[LOGICAL_ID]) if LOGICAL_ID in labels else None,
        attachments=_attachments(labels.get(ATTACHMENTS, "[]"), container.name),
        state=_state(container, now),
    )


def _attachments(text: str, name: str) -> tuple[Attachment, ...]:
    try:
        return codec.decode(text, tuple[Attachment, ...])
    except msgspec.MsgspecError as error:
        raise PluginError(f"the label {ATTACHMENTS} of {name} cannot be read: {error}", where="docker") from None


def _state(container: Container, now: float) -> State:
    if container.state == "created" and container.created < now - ABANDONED_S:
        return State.TERMINATED
    if container.state == "running" and "(unhealthy)" in container.status:
        return State.IMPAIRED
    return _STATES.get(container.state, State.UNSPECIFIED)
