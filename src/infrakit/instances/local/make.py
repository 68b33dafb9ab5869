"""Making an instance: claim what it bears, write it down, start it. Exactly one for a token.

The ID is made from the token, and the directory of that name can be created once: whoever asks again with the same
token finds the instance of the first time, alive or dead, and makes nothing.
What a crash has left half-made never ran, and is made anew.
"""

import hashlib
import pathlib
import time
import uuid

import msgspec

from infrakit.instances.local import home, records, spawn
from infrakit.instances.local.home import Home, Locks
from infrakit.instances.local.properties import Properties
from infrakit.instances.local.records import VOLUME, Phase, Record
from infrakit.spi.errors import Conflict, InfraKitError, OutcomeUnknown, Refused
from infrakit.spi.values import TAG_TOKEN, InstanceID, InstanceSpec

_ANOTHER_MAKES_IT = 1000  # looks, one every 20 ms, at an instance that another process is making


def instance_id(spec: InstanceSpec) -> InstanceID:
    """The same for the same token, and never the same otherwise."""
    token = (spec.tags or {}).get(TAG_TOKEN)
    digest = hashlib.sha256(token.encode()).hexdigest() if token else uuid.uuid4().hex
    return InstanceID(f"i-{digest[:12]}")


def make(home_: Home, id_: InstanceID, spec: InstanceSpec, declared: Properties) -> None:
    """Make the instance unless it was made before. Blocks for as long as its files take to reach the disk."""
    _check(id_, spec)
    locks = Locks()
    try:
        if _claim(home_, id_, spec, declared, locks):
            _start(home_, id_, spec, declared, locks)
    except (OSError, ValueError) as error:
        raise Refused(f"it cannot be made: {error}", where=id_) from error
    finally:
        locks.close()


def _check(id_: str, spec: InstanceSpec) -> None:
    if not spec.init.strip():
        raise Refused("nothing to run", where=id_, remedy="give it an Init: the script that is the instance")
    if "\0" in spec.init:
        raise Refused("Init holds a NUL byte, which no script can", where=id_)
    for each in spec.attachments or ():
        if each.type != VOLUME:
            raise Refused(
                f"the attachment {each.id} is of type {each.type!r}",
                where=id_,
                remedy=f"the only type here is {VOLUME!r}, a directory",
            )


def _claim(home_: Home, id_: InstanceID, spec: InstanceSpec, declared: Properties, locks: Locks) -> bool:
    """False: it was made before, whatever has become of it."""
    for _ in range(_ANOTHER_MAKES_IT):
        with home_.changing():
            found = records.phase(home_, id_)
            if found in (Phase.UNKNOWN, Phase.HALF_MADE):
                _claim_now(home_, id_, spec, declared, locks)
                return True
        if found is not Phase.PENDING:
            return False
        time.sleep(0.02)
    raise OutcomeUnknown("another process has not finished making it within 20 s", where=id_)


def _claim_now(home_: Home, id_: InstanceID, spec: InstanceSpec, declared: Properties, locks: Locks) -> None:
    """Take every claim or none, and bring the directory into being, described and with its lock held already."""
    claims = records.claims(home_, spec.logical_id, spec.attachments or ())
    for claim, what in claims.items():
        holder = records.holder(home_, claim)
        if holder is not None:
            raise Conflict(f"{what} is held by {holder or 'a process'}", where=id_, remedy="destroy that one first")
        try:
            locks.take(claim)
        except BlockingIOError:
            raise Conflict(f"{what} is being looked at", where=id_, remedy="ask again") from None
    for claim in claims:
        claim.write_text(id_)
    place, draft = home_.instance(id_), home_.root / "draft"
    for leftover in (draft, place):
        home_.discard(leftover)
    draft.mkdir(mode=0o700)
    locks.take(draft / "lock")
    record = Record(
        id=id_,
        logical_id=spec.logical_id,
        tags=spec.tags or {},
        attachments=spec.attachments or (),
        success_codes=declared.success_codes,
        grace_s=declared.grace_s,
    )
    (draft / "instance.json").write_bytes(msgspec.json.encode(record))
    draft.rename(place)


def _start(home_: Home, id_: InstanceID, spec: InstanceSpec, declared: Properties, locks: Locks) -> None:
    place = home_.instance(id_)
    try:
        for each in (place / "instance.json", place, home_.instances):
            home.sync(each)
        # Durability of the files below would be in vain: after a loss of power no process is left to read them.
        script = place / "init"
        script.write_text(spec.init)
        _write_files(place / "work", declared)
        volumes = {each.id: _volume(home_, each.id) for each in spec.attachments or ()}
        variables = spawn.environment(place, spec, declared, volumes)
        spawn.start(place, spawn.command(spec.init, script), variables, declared.limits, locks)
    except OutcomeUnknown:
        raise
    except (OSError, ValueError, InfraKitError):  # it has surely not begun
        home_.discard(place)
        raise


def _write_files(work: pathlib.Path, declared: Properties) -> None:
    work.mkdir(mode=0o700)
    for name, content in declared.files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        if content.startswith("#!"):
            path.chmod(0o700)


def _volume(home_: Home, name: str) -> pathlib.Path:
    """Its directory, which is there to stay before an instance may rely on it."""
    path = home_.volume(name)
    path.mkdir(mode=0o700, exist_ok=True)
    home.sync(home_.volumes)
    return path
