"""What a container says of itself: its labels are our only record, written in the call that creates it.

Those that begin with `infrakit.docker.` are the provider's own and are no tags. A container without the first of them
is none of our instances; one that was made by hand becomes one by carrying it.
"""

from collections.abc import Iterable, Mapping

import msgspec

from infrakit.clients.docker import Container
from infrakit.spi.errors import PluginError
from infrakit.spi.values import Attachment, Description, InstanceID, LogicalID, State

OWN = "infrakit.docker."
ID = f"{OWN}id"  # the instance's ID, which is the container's name unless somebody renames that
LOGICAL_ID = f"{OWN}logical-id"
ATTACHMENTS = f"{OWN}attachments"  # in JSON

VOLUME = "volume"
ABANDONED_S = 300.0  # who creates a container starts it sooner, or has died; clocks may differ a little

# `exited` is death: nothing of it runs, its address is free, and the Engine does not start it by itself. Its volume
# is kept from a second bearer by removing it before a successor is started. `dead` is what the Engine could not remove
# altogether, and will never start again.
_STATES = {
    "created": State.PENDING,
    "running": State.RUNNING,
    "restarting": State.IMPAIRED,
    "paused": State.IMPAIRED,
    "removing": State.STOPPING,
    "exited": State.TERMINATED,
    "dead": State.TERMINATED,
}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of ours."""

    container: Container
    id: InstanceID
    logical_id: LogicalID | None
    attachments: tuple[Attachment, ...]
    state: State

    @property
    def lives(self) -> bool:
        """Whether it bears its logical ID and holds its attachments."""
        return self.state is not State.TERMINATED

    def description(self, tags: Mapping[str, str]) -> Description:
        """As the contract has it, without properties."""
        return Description(
            id=self.id,
            logical_id=self.logical_id,
            tags=dict(tags),
            state=self.state,
            attachments=self.attachments if self.lives else (),
        )

    @property
    def tags(self) -> dict[str, str]:
        """Those it was created with."""
        return {name: value for name, value in self.container.labels.items() if not name.startswith(OWN)}


def records(containers: Iterable[Container], *, now: float) -> dict[InstanceID, Record]:
    """By ID, at this moment. Raises `PluginError` if one ID is there twice: then nothing can be said about it."""
    found: dict[InstanceID, Record] = {}
    for each in containers:
        record = _record(each, now)
        other = found.setdefault(record.id, record)
        if other is not record:
            raise PluginError(
                f"the containers {other.container.name} and {each.name} both say that they are {record.id}",
                where="docker",
                remedy=f"remove one of them: its label {ID} was written by hand",
            )
    return found


def _record(container: Container, now: float) -> Record:
    labels = container.labels
    return Record(
        container=container,
        id=InstanceID(labels[ID]),
        logical_id=LogicalID(labels[LOGICAL_ID]) if LOGICAL_ID in labels else None,
        attachments=_attachments(labels.get(ATTACHMENTS, "[]"), container.name),
        state=_state(container, now),
    )


def _attachments(text: str, name: str) -> tuple[Attachment, ...]:
    try:
        return msgspec.json.decode(text, type=tuple[Attachment, ...])
    except msgspec.MsgspecError as error:
        raise PluginError(f"the label {ATTACHMENTS} of {name} cannot be read: {error}", where="docker") from None


def _state(container: Container, now: float) -> State:
    if container.state == "created" and container.created < now - ABANDONED_S:
        return State.TERMINATED
    if container.state == "running" and "(unhealthy)" in container.status:
        return State.IMPAIRED
    return _STATES.get(container.state, State.UNSPECIFIED)
