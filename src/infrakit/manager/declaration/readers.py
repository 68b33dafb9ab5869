"""Whether every replica in the roster can read a declaration: older ones refuse policies that they do not know."""

import asyncio
from collections.abc import Iterable

import msgspec

from infrakit.manager.api import roster
from infrakit.manager.declaration.record import DeclarationRecord
from infrakit.spi import errors, formats
from infrakit.spi.group import Group
from infrakit.spi.store import Store


async def require_readable(store: Store, before: DeclarationRecord, after: DeclarationRecord) -> None:
    """Raise `Refused` if the change declares policies for the first time, and a replica of an older release runs."""
    policies = _policies(after.groups.values()) - _policies(before.groups.values())
    if not policies:
        return
    async with asyncio.timeout(roster.STORE_DEADLINE_S):
        body = (await store.read(name=roster.NAME)).body
    replicas = formats.decode(body, roster.RosterDocument, "roster of replicas").replicas
    older = sorted(name for name, entry in replicas.items() if not policies <= set(entry.policies))
    if older:
        raise errors.Refused(
            f"the replica {older[0]} runs InfraKit {replicas[older[0]].version}, which cannot read "
            f"{', '.join(sorted(policies))}",
            where="roster",
            remedy=f"upgrade it first; if its machine is lost: infrakit leader forget {older[0]} -m WHY",
        )


def _policies(groups: Iterable[Group]) -> set[str]:
    """Return the policies that are declared, of those that the first release does not know."""
    return {
        field.encode_name
        for group in groups
        for field in msgspec.structs.fields(group.properties.updating)
        if field.encode_name in formats.POLICIES and getattr(group.properties.updating, field.name) is not msgspec.UNSET
    }
