"""Which declared groups are a quorum, according to their flavors; asked before a change, because a change is pure."""

import asyncio
from collections.abc import Callable, Iterable

from infrakit.manager.declaration.validate import Plugins
from infrakit.spi import errors
from infrakit.spi.flavor import Quorum
from infrakit.spi.group import FlavorRef, Group

DEADLINE_S = 10.0


async def classify(groups: Iterable[Group], plugins: Plugins) -> Callable[[Group], bool]:
    """Return the predicate of the quorums among these groups.

    A group whose flavor does not answer counts as a quorum, and so does any other group: that only forbids more.
    """
    known: dict[tuple[str, bytes], bool] = {}
    for group in groups:
        reference = group.properties.flavor
        if _key(reference) in known:
            continue
        try:
            async with asyncio.timeout(DEADLINE_S):
                flavor = await plugins.flavor(reference.plugin)
                known[_key(reference)] = isinstance(flavor, Quorum) and await flavor.is_quorum(
                    properties=reference.properties
                )
        except (errors.InfraKitError, TimeoutError):
            continue
    return lambda group: known.get(_key(group.properties.flavor), True)


def _key(reference: FlavorRef) -> tuple[str, bytes]:
    return reference.plugin, bytes(reference.properties)
