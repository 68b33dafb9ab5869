"""What is known of an instance: read from its directory and from the kernel, never from memory alone.

    nothing ──make──▶ PENDING ──the gate opens──▶ RUNNING ──its script ends──▶ FINISHED   with a code that means so
                         │                           │                       ▶ DEAD       with any other, or killed
                    crash▼                           └─destroyed, or its leader is gone and others are not─▶ STOPPING
                     HALF_MADE                                                                                │
                                                                                                            DEAD
The dead are moved to the graves as soon as somebody sees them: BURIED. A half-made one never ran: it is no instance,
and whoever wants its name discards it.
"""

import contextlib
import enum
import pathlib
import re
from typing import TypeVar

import msgspec

from infrakit.instances.local import home, processes
from infrakit.instances.local.home import Home
from infrakit.spi.errors import NotFound, PluginError
from infrakit.spi.values import Attachment, LogicalID

T = TypeVar("T")

VOLUME = "volume"  # the only type of attachment
LOGICAL_ID = "logical_id"
_ID = re.compile("i-[0-9a-f]{12}")


class Phase(enum.Enum):
    """Where an instance is in its life."""

    UNKNOWN = "unknown"
    HALF_MADE = "half-made"
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    DEAD = "dead"
    BURIED = "buried"


PRESENT = frozenset({Phase.PENDING, Phase.RUNNING, Phase.STOPPING, Phase.FINISHED})


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """`instance.json`: what has to be known of an instance as long as it exists."""

    id: str
    logical_id: LogicalID | None = None
    tags: dict[str, str] = {}
    attachments: tuple[Attachment, ...] = ()
    success_codes: tuple[int, ...] = ()
    grace_s: float
    ending: bool = False  # an operator or a controller has destroyed it


def is_id(text: str) -> bool:
    """Whether this can be the ID of an instance; everything else that comes from outside is kept from paths."""
    return _ID.fullmatch(text) is not None


def read(place: pathlib.Path) -> Record:
    """Raises `FileNotFoundError`."""
    return _decoded(place / "instance.json", Record)


def write(place: pathlib.Path, record: Record) -> None:
    home.write(place / "instance.json", msgspec.json.encode(record))


def leader(place: pathlib.Path) -> processes.Identity | None:
    """None: there is none yet."""
    try:
        return _decoded(place / "process.json", processes.Identity)
    except FileNotFoundError:
        return None


def exit_code(place: pathlib.Path) -> int | None:
    """None: it has not ended, or nobody could see how."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        text = (place / "exit").read_text()
        return int(text) if text.endswith("\n") else None
    return None


def keep_exit(home_: Home, instance_id: str) -> None:
    """Make the way an instance has ended outlast a loss of power."""
    place = home_.instance(instance_id)
    with contextlib.suppress(FileNotFoundError):
        for each in (place / "exit", place):
            home.sync(each)


def phase(home_: Home, instance_id: str) -> Phase:
    """The phase of an instance now."""
    if not is_id(instance_id):
        return Phase.UNKNOWN
    place = home_.instance(instance_id)
    # Looked at in this order: what is true once the lock is free stays true.
    locked = home.is_locked(place / "lock")
    if not place.exists():
        return Phase.BURIED if (home_.graves / instance_id).exists() else Phase.UNKNOWN
    if not (place / "started").exists():
        return Phase.PENDING if locked else Phase.HALF_MADE
    try:
        return _phase_of_started(place, locked=locked)
    except FileNotFoundError:  # buried in this very moment
        return Phase.BURIED


def _phase_of_started(place: pathlib.Path, *, locked: bool) -> Phase:
    record, identity = read(place), leader(place)
    if identity is not None and processes.is_alive(identity):
        return Phase.STOPPING if record.ending else Phase.RUNNING
    if locked or (identity is not None and processes.group_has_members(identity, place)):
        return Phase.STOPPING
    finished = not record.ending and exit_code(place) in record.success_codes
    return Phase.FINISHED if finished else Phase.DEAD


def holder(home_: Home, claim: pathlib.Path) -> str | None:
    """The instance that has this claim; None: nobody has."""
    try:
        instance_id = claim.read_text()
    except FileNotFoundError:
        return None
    present = bool(instance_id) and phase(home_, instance_id) in PRESENT
    return instance_id if present or home.is_locked(claim) else None


def bury(home_: Home, instance_id: str) -> None:
    """Turn a dead instance into a memory, at once."""
    place = home_.instance(instance_id)
    with contextlib.suppress(FileNotFoundError):  # somebody else was faster
        place.rename(home_.graves / instance_id)


def label(home_: Home, instance_id: str, labels: dict[str, str]) -> None:
    """Merge tags. Raises `NotFound`."""
    with home_.changing():
        if phase(home_, instance_id) not in PRESENT:
            raise NotFound(f"there is no instance {instance_id}")
        place = home_.instance(instance_id)
        try:
            record = read(place)
            write(place, msgspec.structs.replace(record, tags=record.tags | labels))
        except FileNotFoundError:  # buried in this very moment
            raise NotFound(f"there is no instance {instance_id}") from None


def condemn(home_: Home, instance_id: str) -> Record | None:
    """Write down that an instance has to end, so that whoever looks next carries on. None: it is dead already.

    Raises `NotFound`.
    """
    with home_.changing():
        found = phase(home_, instance_id)
        if found is Phase.BURIED:
            return None
        if found in (Phase.UNKNOWN, Phase.HALF_MADE):
            raise NotFound(f"there is no instance {instance_id}")
        place = home_.instance(instance_id)
        try:
            record = read(place)
            if not record.ending:
                record = msgspec.structs.replace(record, ending=True)
                write(place, record)
        except FileNotFoundError:  # buried in this very moment
            return None
        return record


def claims(home_: Home, logical_id: LogicalID | None, attachments: tuple[Attachment, ...]) -> dict[pathlib.Path, str]:
    """What an instance with these claims for itself, and what to call that."""
    found = {home_.claim(VOLUME, each.id): f"the volume {each.id}" for each in attachments}
    if logical_id is not None:
        found[home_.claim(LOGICAL_ID, logical_id)] = f"the logical ID {logical_id}"
    return found


def _decoded(path: pathlib.Path, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except msgspec.MsgspecError as error:
        raise PluginError(
            f"damaged: {error}", where=str(path), remedy="end its processes, then move its directory away"
        ) from error
