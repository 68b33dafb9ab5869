"""Tags that are changed after the creation, because the Engine cannot change the labels of a container.

The Engine stores them nevertheless, so that every replica sees them: as labels of an empty volume, which name the
instance and the revision of its tags. The next revision is created before the previous one is removed.
"""

import json
from collections.abc import Iterable, Mapping

from infrakit.clients.docker import Engine, Volume
from infrakit.instances.docker.records import OWN
from infrakit.spi.errors import Conflict, InfraKitError, NotFound, PluginError
from infrakit.spi.values import InstanceID

OF = f"{OWN}tags-of"
_REVISION = f"{OWN}revision"
_TAGS = f"{OWN}tags"  # in JSON: one label can hold any text
_ATTEMPTS_MAX = 20

Changed = Mapping[InstanceID, Mapping[str, str]]


async def changed(engine: Engine) -> Changed:
    """Return the changed tags of every instance that has any."""
    return tags_of(await engine.volumes({"label": [OF]}))


def tags_of(volumes: Iterable[Volume]) -> Changed:
    """Return the changed tags that these volumes hold: those of the newest revision of each instance."""
    return {of: _tags(volume) for of, volume in _newest(volumes).items()}


async def change(engine: Engine, instance: InstanceID, labels: Mapping[str, str]) -> None:
    """Merge labels into the changed tags of an instance. Raises `Conflict` if concurrent changes keep winning."""
    for _ in range(_ATTEMPTS_MAX):
        kept = await engine.volumes({"label": [f"{OF}={instance}"]})
        last = _newest(kept).get(instance)
        revision = _revision(last) + 1 if last is not None else 1
        merged = {**(_tags(last) if last is not None else {}), **labels}
        wanted = {OF: instance, _REVISION: str(revision), _TAGS: json.dumps(merged, sort_keys=True)}
        created = await engine.create_volume(f"{instance}-tags-{revision}", labels=wanted)
        if created.labels == wanted:  # otherwise another process has created this revision first
            await _remove(engine, kept)
            return
    raise Conflict(f"other processes keep changing the tags of {instance}", where="docker", remedy="retry")


async def forget(engine: Engine, instance: InstanceID) -> None:
    """Remove the changed tags of a destroyed instance."""
    await _remove(engine, await engine.volumes({"label": [f"{OF}={instance}"]}))


def _newest(volumes: Iterable[Volume]) -> dict[InstanceID, Volume]:
    found: dict[InstanceID, Volume] = {}
    for each in volumes:
        of = InstanceID(each.labels[OF])
        if of not in found or _revision(each) > _revision(found[of]):
            found[of] = each
    return found


async def _remove(engine: Engine, volumes: Iterable[Volume]) -> None:
    for each in volumes:
        try:
            await engine.remove_volume(each.name)
        except NotFound:
            continue
        except (
            InfraKitError
        ):  # the newest revision counts; older ones are removed by the next change or with the instance
            return


def _revision(volume: Volume) -> int:
    text = volume.labels.get(_REVISION, "")
    return int(text) if text.isdigit() else 0


def _tags(volume: Volume) -> dict[str, str]:
    try:
        found = json.loads(volume.labels.get(_TAGS, "{}"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PluginError(f"the tags in the volume {volume.name} cannot be read", where="docker")
    return {str(name): str(value) for name, value in found.items()}
