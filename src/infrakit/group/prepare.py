"""Builds the spec of an instance to create: the group's properties, the tags, and what the flavor adds."""

import asyncio

from infrakit.spi import values
from infrakit.spi.flavor import Flavor
from infrakit.spi.group import Group
from infrakit.spi.values import Index, InstanceSpec, LogicalID

PREPARE_DEADLINE_S = 60.0


async def prepared(
    group: Group,
    flavor: Flavor,
    *,
    slot: str,
    logical_id: LogicalID | None,
    sequence: int,
    version: str,
    token: str,
    created: str,
    made_from: str = "",
) -> InstanceSpec:
    """Return the spec of one instance; `version` is the configuration hash, `created` a time in ISO 8601.

    `made_from` is its member version; empty: it is not known.

    Raises what the flavor raises, and `TimeoutError` after `PREPARE_DEADLINE_S`.
    """
    tags = group.tags | {
        values.TAG_GROUP: group.name,
        values.TAG_HASH: version,
        values.TAG_TOKEN: token,
        values.TAG_CREATED: created,
        (values.TAG_LOGICAL_ID if logical_id else values.TAG_SLOT): slot,
    }
    if made_from:
        tags[values.TAG_MADE_FROM] = made_from
    spec = InstanceSpec(properties=group.properties.instance.properties, tags=tags, logical_id=logical_id)
    async with asyncio.timeout(PREPARE_DEADLINE_S):
        return await flavor.prepare(
            properties=group.properties.flavor.properties,
            spec=spec,
            allocation=group.properties.allocation.to_wire(),
            index=Index(group=group.name, sequence=sequence),
        )
