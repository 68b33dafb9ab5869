"""Writes to the joined tree: one plugin per change, through the interface it offers, versioned or not."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from infrakit.runtime.tree.branches import MAIN
from infrakit.spi import errors, paths
from infrakit.spi.metadata import Change, Metadata, Updatable, Versioned, Written

DEADLINE_S = 14.0  # a little less than the timeout of the command line
STEPS_MAX = 1000  # paths of one change


class WriteRequest(NamedTuple):
    """A requested change of the joined tree; its paths begin with the name of the plugin."""

    changes: tuple[Change, ...]
    remove: tuple[str, ...]
    who: str
    why: str
    expected: int | None


def first_name(every: Sequence[str]) -> str:
    """Return the name of the plugin that contains all these paths. Raises `InvalidSpec`."""
    if not every or len(every) > STEPS_MAX:
        raise errors.invalid("", f"a change has at least one path, and {STEPS_MAX} at most")
    firsts = {paths.split(path)[:1] for path in every}
    if () in firsts:
        raise errors.invalid("", "the root holds the plugins, and nothing else", hint="name one: vars/...")
    if len(firsts) > 1:
        named = ", ".join(sorted(name for (name,) in firsts))
        raise errors.invalid("", f"a change applies to one plugin, found {named}", hint="write to each separately")
    return firsts.pop()[0]


def placed(plugins: Mapping[str, Metadata], path: str) -> tuple[str, str]:
    """Return the type of the object that contains a path of the joined tree, and the path inside it."""
    rest = paths.split(path)[1:]
    if rest and rest[0] in plugins:
        return rest[0], paths.join(rest[1:])
    return MAIN, paths.join(rest)


async def write(name: str, plugins: Mapping[str, Metadata], request: WriteRequest) -> Written:
    """Write to the plugin. Raises what it raises, and `Refused` if it is read-only."""
    every = [*(change.path for change in request.changes), *request.remove]
    types = {placed(plugins, path)[0] for path in every}
    if len(types) > 1:
        raise errors.Refused(f"a change applies to one object, found {', '.join(sorted(types))}", where=name)
    plugin: object = plugins.get(types.pop())
    changes = tuple(Change(path=placed(plugins, c.path)[1], value=c.value) for c in request.changes)
    remove = tuple(placed(plugins, path)[1] for path in request.remove)
    try:
        async with asyncio.timeout(DEADLINE_S):
            if isinstance(plugin, Versioned):
                return await plugin.write(
                    changes=changes, remove=remove, who=request.who, why=request.why, expected=request.expected
                )
            if isinstance(plugin, Updatable):
                return await _propose(name, plugin, changes, request)
    except errors.InfraKitError as error:
        error.where = paths.join([name, *paths.split(error.where)] if error.where != name else [name])
        raise
    except TimeoutError:
        raise errors.OutcomeUnknown(f"no answer within {DEADLINE_S:g} s", where=name, remedy="read it again") from None
    raise errors.Refused(f"{name} is read-only", where=every[0], remedy="write to `vars` instead")


async def _propose(name: str, plugin: Updatable, changes: tuple[Change, ...], request: WriteRequest) -> Written:
    if request.remove:
        raise errors.Refused("it does not support removal", where=name, remedy="set another value")
    if request.expected is not None:
        raise errors.Refused("it stores no versions to expect", where=name, remedy="omit the version")
    proposal = await plugin.changes(changes=changes)
    await plugin.commit(proposed=proposal.proposed, cas=proposal.cas)
    return Written(version=0)


def versioned(name: str, plugins: Mapping[str, Metadata]) -> Versioned:
    """Return the plugin, if it stores versions. Raises `Refused`."""
    plugin: object = plugins.get(MAIN)
    if not isinstance(plugin, Versioned):
        raise errors.Refused(f"{name} stores no versions", remedy="`vars` does")
    return plugin
