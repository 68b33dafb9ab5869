"""Garbage collection. Volumes are deleted only on request, records and logs of terminated instances after a day."""

import contextlib
import os
import pathlib

from infrakit.instances.local import home, records
from infrakit.instances.local.home import Home
from infrakit.instances.local.records import VOLUME, Phase
from infrakit.spi.errors import Conflict

_DEAD_LOGS_MAX = 1000
_DEAD_LOG_AGE_S_MAX = 86_400.0
_OBSOLETE = ("work", "init", "lock")


def clear(home_: Home, instance_id: str, *, terminated_at: float) -> None:
    """Delete the claims and the obsolete files of an archived instance. Its ID and its log are kept."""
    dead_log = home_.dead_logs / instance_id
    with contextlib.suppress(FileNotFoundError):
        record = records.read(dead_log)
        with home_.locked():
            for claim in records.claims(home_, record.logical_id, record.attachments):
                _release(claim, instance_id)
        for name in _OBSOLETE:
            home.remove(dead_log / name)
        os.utime(dead_log, (terminated_at, terminated_at))


def collect(home_: Home, *, now: float) -> None:
    """Delete expired logs, and the leftovers of a crash."""
    home_.empty_trash()
    for name in [each.name for each in home_.instances.iterdir()]:
        if records.phase(home_, name) is Phase.INCOMPLETE:
            with home_.locked():
                if records.phase(home_, name) is Phase.INCOMPLETE:
                    home_.discard(home_.instance(name))
    by_age = sorted(home_.dead_logs.iterdir(), key=_terminated_at, reverse=True)
    for number, dead_log in enumerate(by_age, start=1):
        if number > _DEAD_LOGS_MAX or _terminated_at(dead_log) < now - _DEAD_LOG_AGE_S_MAX:
            home_.discard(dead_log)
        elif any((dead_log / name).exists() for name in _OBSOLETE):
            clear(home_, dead_log.name, terminated_at=now)


def has_volume(home_: Home, name: str) -> bool:
    """Whether the volume exists. A dangling symbolic link counts: its target may return, such as a mount."""
    path = home_.volume(name)
    return path.is_symlink() or path.exists()


def delete_volume(home_: Home, name: str) -> None:
    """Delete a volume. Raises `Conflict` while an instance holds it."""
    claim = home_.claim(VOLUME, name)
    with home_.locked():
        holder = records.holder(home_, claim)
        if holder is not None:
            raise Conflict(f"the volume {name} is held by {holder}", remedy="destroy the instance first")
        claim.unlink(missing_ok=True)
        home_.discard(home_.volume(name))


def _release(claim: pathlib.Path, instance_id: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if claim.read_text() == instance_id and not home.is_locked(claim):
            claim.unlink()


def _terminated_at(dead_log: pathlib.Path) -> float:
    try:
        return dead_log.stat().st_mtime
    except FileNotFoundError:  # another process collects garbage, too
        return 0.0
