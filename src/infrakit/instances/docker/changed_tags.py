"""Tags that are changed after the creation: the Engine cannot change the labels of a container.

They are kept by the Engine all the same, so that every replica sees them: as the labels of an empty volume beside it,
which says whose tags it has and which revision they are. The next revision is made before the last one is removed.
"""

import json
from collections.abc import Iterable, Mapping

from infrakit.clients.docker import Engine, Volume
from infrakit.instances.docker.records import OWN
from infrakit.spi.errors import Conflict, InfraKitError, NotFound, PluginError
from infrakit.spi.values import InstanceID

OF = f"{OWN}tags-of"
_REVISION = f"{OWN}revision"
_TAGS = f"{OWN}tags"  # in JSON: whatever text they are, they are one label
_OTHERS_FIRST_MAX = 20

Changed = Mapping[InstanceID, Mapping[str, str]]


async def changed(engine: Engine) -> Changed:
    """The changed tags of every instance that has some."""
    return {of: _tags(volume) for of, volume in _newest(await engine.volumes({"label": [OF]})).items()}


async def change(engine: Engine, instance: InstanceID, labels: Mapping[str, str]) -> None:
    """Merge them into those that were changed before."""
    for _ in range(_OTHERS_FIRST_MAX):
        kept = await engine.volumes({"label": [f"{OF}={instance}"]})
        last = _newest(kept).get(instance)
        revision = _revision(last) + 1 if last is not None else 1
        merged = {**(_tags(last) if last is not None else {}), **labels}
        wanted = {OF: instance, _REVISION: str(revision), _TAGS: json.dumps(merged, sort_keys=True)}
        made = await engine.create_volume(f"{instance}-tags-{revision}", labels=wanted)
        if made.labels == wanted:  # otherwise somebody else was first with this revision
            await _remove(engine, kept)
            return
    raise Conflict(f"the tags of {instance} are being changed by many", where="docker", remedy="ask again")


async def forget(engine: Engine, instance: InstanceID) -> None:
    """Remove what is kept of an instance that is gone."""
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
        except InfraKitError:  # the newest revision counts; the older one goes with the next change, or at the end
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
