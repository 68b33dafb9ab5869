"""What is deleted, and when. Volumes go only when somebody says so; the memory of the dead goes after a day."""

import contextlib
import os
import pathlib

from infrakit.instances.local import home, records
from infrakit.instances.local.home import Home
from infrakit.instances.local.records import VOLUME, Phase
from infrakit.spi.errors import Conflict

_GRAVES_MAX = 1000
_GRAVE_AGE_S_MAX = 86_400.0
_NEEDED_NO_MORE = ("work", "init", "lock")


def clear(home_: Home, instance_id: str, *, died_at: float) -> None:
    """Delete what a buried instance needs no more, and its claims. Its name and its log stay."""
    grave = home_.graves / instance_id
    with contextlib.suppress(FileNotFoundError):
        record = records.read(grave)
        with home_.changing():
            for claim in records.claims(home_, record.logical_id, record.attachments):
                _release(claim, instance_id)
        for name in _NEEDED_NO_MORE:
            home.remove(grave / name)
        os.utime(grave, (died_at, died_at))


def collect(home_: Home, *, now: float) -> None:
    """Delete what is old, and what a crash has left."""
    home_.empty_trash()
    for name in [each.name for each in home_.instances.iterdir()]:
        if records.phase(home_, name) is Phase.HALF_MADE:
            with home_.changing():
                if records.phase(home_, name) is Phase.HALF_MADE:
                    home_.discard(home_.instance(name))
    by_age = sorted(home_.graves.iterdir(), key=_died_at, reverse=True)
    for number, grave in enumerate(by_age, start=1):
        if number > _GRAVES_MAX or _died_at(grave) < now - _GRAVE_AGE_S_MAX:
            home_.discard(grave)
        elif any((grave / name).exists() for name in _NEEDED_NO_MORE):
            clear(home_, grave.name, died_at=now)


def has_volume(home_: Home, name: str) -> bool:
    """Whether something is kept under this name; a link that leads nowhere now may lead somewhere again."""
    path = home_.volume(name)
    return path.is_symlink() or path.exists()


def delete_volume(home_: Home, name: str) -> None:
    """Raises `Conflict` while an instance has it."""
    claim = home_.claim(VOLUME, name)
    with home_.changing():
        holder = records.holder(home_, claim)
        if holder is not None:
            raise Conflict(f"the volume {name} is held by {holder}", remedy="destroy the instance first")
        claim.unlink(missing_ok=True)
        home_.discard(home_.volume(name))


def _release(claim: pathlib.Path, instance_id: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if claim.read_text() == instance_id and not home.is_locked(claim):
            claim.unlink()


def _died_at(grave: pathlib.Path) -> float:
    try:
        return grave.stat().st_mtime
    except FileNotFoundError:  # another process deletes, too
        return 0.0
