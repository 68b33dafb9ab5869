"""The state of an instance, read from its directory and from the kernel, never from memory alone.

    (none) ──make──▶ PENDING ──the gate opens──▶ RUNNING ──its script exits──▶ FINISHED    with a code in SuccessCodes
                        │                           │                        ▶ TERMINATED  any other code, or killed
                   crash▼                           └─destroyed, or only its leader has exited─▶ STOPPING
                    INCOMPLETE                                                                      ▼
                                                                                                TERMINATED
The first listing that finds a terminated instance moves it to `dead_logs`: ARCHIVED. An incomplete one never ran: it is
not an instance, and the next creation with its name discards it.
"""

import contextlib
import enum
import pathlib
import re
from typing import TypeVar

import msgspec

from infrakit.instances.local import home, processes
from infrakit.instances.local.home import Home
from infrakit.spi import codec, files
from infrakit.spi.errors import NotFound, PluginError
from infrakit.spi.values import Attachment, LogicalID

T = TypeVar("T")

VOLUME = "volume"  # the only type of attachment
LOGICAL_ID = "logical_id"
_ID = re.compile("i-[0-9a-f]{12}")


class Phase(enum.Enum):
    """The phase of an instance's life cycle."""

    UNKNOWN = "unknown"
    INCOMPLETE = "incomplete"
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    TERMINATED = "terminated"
    ARCHIVED = "archived"


PRESENT = frozenset({Phase.PENDING, Phase.RUNNING, Phase.STOPPING, Phase.FINISHED})


class InstanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`instance.json`: the persistent record of an instance."""

    id: str
    logical_id: LogicalID | None = None
    tags: dict[str, str] = {}
    attachments: tuple[Attachment, ...] = ()
    success_codes: tuple[int, ...] = ()
    grace_s: float
    ending: bool = False  # marked for destruction by a destroy call


def is_id(text: str) -> bool:
    """Whether this is a well-formed instance ID. Input from callers becomes part of a path only if it is."""
    return _ID.fullmatch(text) is not None


def read(place: pathlib.Path) -> InstanceRecord:
    """Read the record in this directory. Raises `FileNotFoundError`."""
    return _decoded(place / "instance.json", InstanceRecord)


def write(place: pathlib.Path, record: InstanceRecord) -> None:
    files.replace(place / "instance.json", msgspec.json.encode(record))


def leader(place: pathlib.Path) -> processes.Identity | None:
    """Return the leader of the instance in this directory; None before it is started."""
    try:
        return _decoded(place / "process.json", processes.Identity)
    except FileNotFoundError:
        return None


def exit_code(place: pathlib.Path) -> int | None:
    """Return the exit code of the init script; None if it has not exited, or if its wrapper was killed."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        text = (place / "exit").read_text()
        return int(text) if text.endswith("\n") else None
    return None


def sync_exit_code(home_: Home, instance_id: str) -> None:
    """Flush the exit code of an instance to disk, so that it survives a power failure."""
    place = home_.instance(instance_id)
    with contextlib.suppress(FileNotFoundError):
        for each in (place / "exit", place):
            files.sync(each)


def exists(path: pathlib.Path) -> bool:
    """Whether a path exists. Raises `OSError` if that is unknown; `Path.exists` of Python 3.14 returns False then."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def phase(home_: Home, instance_id: str) -> Phase:
    """Determine the current phase of an instance."""
    if not is_id(instance_id):
        return Phase.UNKNOWN
    place = home_.instance(instance_id)
    # Check the lock first: what is true once the lock is free stays true.
    locked = home.is_locked(place / "lock")
    if not exists(place):
        if not exists(home_.instances):
            raise PluginError("the directory of all instances is missing", where=str(home_.instances))
        return Phase.ARCHIVED if exists(home_.dead_logs / instance_id) else Phase.UNKNOWN
    if not exists(place / "started"):
        return Phase.PENDING if locked else Phase.INCOMPLETE
    try:
        return _phase_of_started(place, locked=locked)
    except FileNotFoundError:  # archived concurrently
        return Phase.ARCHIVED


def _phase_of_started(place: pathlib.Path, *, locked: bool) -> Phase:
    record, identity = read(place), leader(place)
    if identity is not None and processes.is_alive(identity):
        return Phase.STOPPING if record.ending else Phase.RUNNING
    if locked or (identity is not None and processes.group_has_members(identity, place)):
        return Phase.STOPPING
    finished = not record.ending and exit_code(place) in record.success_codes
    return Phase.FINISHED if finished else Phase.TERMINATED


def holder(home_: Home, claim: pathlib.Path) -> str | None:
    """Return the ID of the instance that holds this claim; None if it is free."""
    try:
        instance_id = claim.read_text()
    except FileNotFoundError:
        return None
    present = bool(instance_id) and phase(home_, instance_id) in PRESENT
    return instance_id if present or home.is_locked(claim) else None


def archive(home_: Home, instance_id: str) -> None:
    """Move a terminated instance to `dead_logs`, atomically."""
    place = home_.instance(instance_id)
    with contextlib.suppress(FileNotFoundError):  # another process or thread has done so
        place.rename(home_.dead_logs / instance_id)


def label(home_: Home, instance_id: str, labels: dict[str, str]) -> None:
    """Merge tags into those of an instance. Raises `NotFound`."""
    with home_.locked():
        if phase(home_, instance_id) not in PRESENT:
            raise NotFound(f"there is no instance {instance_id}")
        place = home_.instance(instance_id)
        try:
            record = read(place)
            write(place, msgspec.structs.replace(record, tags=record.tags | labels))
        except FileNotFoundError:  # archived concurrently
            raise NotFound(f"there is no instance {instance_id}") from None


def mark_for_destroy(home_: Home, instance_id: str) -> InstanceRecord | None:
    """Record durably that an instance is to be destroyed, so that the next listing continues after a crash.

    Returns None if the instance has terminated already. Raises `NotFound`.
    """
    with home_.locked():
        found = phase(home_, instance_id)
        if found is Phase.ARCHIVED:
            return None
        if found in (Phase.UNKNOWN, Phase.INCOMPLETE):
            raise NotFound(f"there is no instance {instance_id}")
        place = home_.instance(instance_id)
        try:
            record = read(place)
            if not record.ending:
                record = msgspec.structs.replace(record, ending=True)
                write(place, record)
        except FileNotFoundError:  # archived concurrently
            return None
        return record


def claims(home_: Home, logical_id: LogicalID | None, attachments: tuple[Attachment, ...]) -> dict[pathlib.Path, str]:
    """Return the claim files for this logical ID and these attachments, each with its name for messages."""
    found = {home_.claim(VOLUME, each.id): f"the volume {each.id}" for each in attachments}
    if logical_id is not None:
        found[home_.claim(LOGICAL_ID, logical_id)] = f"the logical ID {logical_id}"
    return found


def _decoded(path: pathlib.Path, type_: type[T]) -> T:
    try:
        return codec.decode(path.read_bytes(), type_)
    except msgspec.MsgspecError as error:
        raise PluginError(
            f"damaged: {error}", where=str(path), remedy="terminate its processes, then move its directory away"
        ) from error
