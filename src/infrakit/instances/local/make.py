"""Creates an instance: claim its logical ID and volumes, write its record, start it. Exactly one per token.

The ID is derived from the token, and a directory of that name can be created once: a retry with the same token finds
the first instance, running or terminated, and creates nothing.
An instance that a crash has left incomplete never ran, and is recreated from the start.
"""

import hashlib
import pathlib
import time
import uuid

import msgspec

from infrakit.instances.local import records, spawn
from infrakit.instances.local.home import Home, Locks
from infrakit.instances.local.properties import Properties
from infrakit.instances.local.records import VOLUME, InstanceRecord, Phase
from infrakit.spi import files
from infrakit.spi.errors import Conflict, InfraKitError, OutcomeUnknown, Refused
from infrakit.spi.values import TAG_TOKEN, InstanceID, InstanceSpec

_PENDING_POLLS = 1000  # while another process creates the instance; one every 20 ms


def instance_id(spec: InstanceSpec) -> InstanceID:
    """Derive the ID from the token; without a token the ID is random."""
    token = (spec.tags or {}).get(TAG_TOKEN)
    digest = hashlib.sha256(token.encode()).hexdigest() if token else uuid.uuid4().hex
    return InstanceID(f"i-{digest[:12]}")


def make(home_: Home, id_: InstanceID, spec: InstanceSpec, declared: Properties) -> None:
    """Create the instance unless it exists. Blocks until its files are on disk."""
    _check(id_, spec)
    locks = Locks()
    try:
        if _claim(home_, id_, spec, declared, locks):
            _start(home_, id_, spec, declared, locks)
    except (OSError, ValueError) as error:
        raise Refused(f"it cannot be created: {error}", where=id_) from error
    finally:
        locks.close()


def _check(id_: str, spec: InstanceSpec) -> None:
    if not spec.init.strip():
        raise Refused("nothing to run", where=id_, remedy="declare Init: the script that the instance runs")
    if "\0" in spec.init:
        raise Refused("Init holds a NUL byte, which no script can", where=id_)
    for each in spec.attachments or ():
        if each.type != VOLUME:
            raise Refused(
                f"the attachment {each.id} is of type {each.type!r}",
                where=id_,
                remedy=f"the only supported type is {VOLUME!r}, a directory",
            )


def _claim(home_: Home, id_: InstanceID, spec: InstanceSpec, declared: Properties, locks: Locks) -> bool:
    """Claim the logical ID and volumes. Returns False if the instance was created before, whatever its state is now."""
    for _ in range(_PENDING_POLLS):
        with home_.locked():
            found = records.phase(home_, id_)
            if found in (Phase.UNKNOWN, Phase.INCOMPLETE):
                _claim_now(home_, id_, spec, declared, locks)
                return True
        if found is not Phase.PENDING:
            return False
        time.sleep(0.02)
    raise OutcomeUnknown("another process is creating it, and has not finished within 20 s", where=id_)


def _claim_now(home_: Home, id_: InstanceID, spec: InstanceSpec, declared: Properties, locks: Locks) -> None:
    """Acquire all claims or none, then create the directory atomically, with its record and with its lock held."""
    claims = records.claims(home_, spec.logical_id, spec.attachments or ())
    for claim, what in claims.items():
        holder = records.holder(home_, claim)
        if holder is not None:
            raise Conflict(
                f"{what} is held by {holder or 'a process'}", where=id_, remedy="destroy that instance first"
            )
        try:
            locks.acquire(claim)
        except BlockingIOError:
            raise Conflict(f"another process is checking {what}", where=id_, remedy="retry") from None
    for claim in claims:
        _write(claim, id_)
    place, draft = home_.instance(id_), home_.root / "draft"
    for leftover in (draft, place):
        home_.discard(leftover)
    draft.mkdir(mode=0o700)
    locks.acquire(draft / "lock")
    record = InstanceRecord(
        id=id_,
        logical_id=spec.logical_id,
        tags=spec.tags or {},
        attachments=spec.attachments or (),
        success_codes=declared.success_codes,
        grace_s=declared.grace_s,
    )
    _write(draft / "instance.json", msgspec.json.encode(record).decode())
    draft.rename(place)


def _start(home_: Home, id_: InstanceID, spec: InstanceSpec, declared: Properties, locks: Locks) -> None:
    place = home_.instance(id_)
    try:
        for each in (place / "instance.json", place, home_.instances):
            files.sync(each)
        # The files below need no sync: after a power failure no process is left to read them.
        script = place / "init"
        _write(script, spec.init)
        _write_files(place / "work", declared)
        volumes = {each.id: _volume(home_, each.id) for each in spec.attachments or ()}
        variables = spawn.environment(place, spec, declared, volumes)
        spawn.start(place, spawn.command(spec.init, script), variables, declared.limits, locks)
    except OutcomeUnknown:
        raise
    except (OSError, ValueError, InfraKitError):  # it has certainly not started
        home_.discard(place)
        raise


def _write_files(work: pathlib.Path, declared: Properties) -> None:
    work.mkdir(mode=0o700)
    for name, content in declared.files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, content)
        if content.startswith("#!"):
            path.chmod(0o700)


def _write(path: pathlib.Path, content: str) -> None:
    with files.named(path):
        path.write_text(content)


def _volume(home_: Home, name: str) -> pathlib.Path:
    """Create the volume's directory durably, before an instance relies on it."""
    path = home_.volume(name)
    path.mkdir(mode=0o700, exist_ok=True)
    files.sync(home_.volumes)
    return path
