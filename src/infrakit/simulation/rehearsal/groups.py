"""The declared groups as they are rehearsed: what they need and permit, and the declaration with simulated plugins."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from infrakit.manager.declaration import validate
from infrakit.runtime.registry import Registry
from infrakit.simulation.rehearsal.outcome import Simulated
from infrakit.simulation.rehearsal.providers import LISTING, PLAIN, ProviderShape
from infrakit.spi.flavor import Attaches, Quorum, Voters
from infrakit.spi.group import FlavorRef, Group, amount, seconds
from infrakit.spi.instance import Capabilities, Capable, Identified, Inspects
from infrakit.spi.quorum import can_lose
from infrakit.spi.values import Attachment, GroupID, LogicalID

CALM_S = 60.0  # at least: a world without changes for that long, beyond all policies of the group, has come to rest
SIMULATOR = "simulator"  # its properties have a meaning for the simulator, and are kept


class Member(NamedTuple):
    """One declared member: a logical ID, or the ordinal of a member of cattle."""

    group: GroupID
    name: str


class RehearsedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One declared group. Times are in seconds."""

    declared: Group
    quorum: bool
    lists_voters: bool  # the flavor reads the member list of its cluster
    attachments: Mapping[LogicalID, tuple[Attachment, ...]]
    provider: ProviderShape
    boot_s: float  # until a new instance is healthy

    @property
    def name(self) -> GroupID:
        return self.declared.name

    @property
    def members(self) -> tuple[Member, ...]:
        allocation = self.declared.properties.allocation
        names = map(str, range(1, (allocation.size or 0) + 1)) if allocation.logical_ids is None else None
        return tuple(Member(self.name, each) for each in names or allocation.logical_ids or ())

    @property
    def size(self) -> int:
        allocation = self.declared.properties.allocation
        return len(allocation.logical_ids) if allocation.logical_ids is not None else allocation.size or 0

    # -- what the declaration permits, computed here: it must not be read from the code that is judged ---------------

    @property
    def surge(self) -> int:
        return 0 if self.declared.is_pets else amount(self.declared.properties.updating.max_surge, self.size)

    @property
    def unavailable(self) -> int:
        """How many members a rolling update may take at once."""
        declared = amount(self.declared.properties.updating.max_unavailable, self.size)
        if not declared and not self.surge:
            declared = 1
        return min(declared, self._can_lose) if self.quorum else declared

    @property
    def max_unhealthy(self) -> int:
        declared = self.declared.properties.healing.max_unhealthy
        if declared is None:
            declared = self._can_lose if self.quorum else max(1, self.size * 40 // 100)
        limit = amount(declared, self.size) or int(isinstance(declared, str))
        return min(limit, self._can_lose) if self.quorum else limit

    @property
    def _can_lose(self) -> int:
        return max(1, can_lose(self.size))

    @property
    def boot_grace_s(self) -> float:
        return seconds(self.declared.properties.healing.boot_grace)

    @property
    def proving_s(self) -> float:
        """How long new members have to stay healthy until they prove their version."""
        updating = self.declared.properties.updating
        bake = updating.bake_time
        return max(seconds(updating.settle), 0.0 if isinstance(bake, msgspec.UnsetType) else seconds(bake))

    @property
    def calm_s(self) -> float:
        """For how long nothing may change until it is certain that nothing more will."""
        healing, deadline = self.declared.properties.healing, self.declared.properties.updating.progress_deadline
        waits = sum(map(seconds, (healing.boot_grace, healing.unhealthy_after, healing.backoff_max)))
        waits += 0.0 if isinstance(deadline, msgspec.UnsetType) else seconds(deadline)
        return CALM_S + waits + self.boot_s + self.proving_s

    def summary(self) -> Simulated:
        """Return what is simulated of this group."""
        return Simulated(
            group=self.name,
            instance=self.declared.properties.instance.plugin,
            flavor=self.declared.properties.flavor.plugin,
            size=self.size,
            quorum=self.quorum,
            volumes=sum(map(len, self.attachments.values())),
            boot_s=self.boot_s,
        )

    # -- tags --------------------------------------------------------------------------------------------------------

    def tags(self, member: Member) -> dict[str, str]:
        """Return the declared tags of a member: of its group, its flavor and its instance, and its own."""
        found = dict(self.declared.tags)
        properties = self.declared.properties
        for raw in (properties.instance.properties, properties.flavor.properties):
            plain = _mapping(msgspec.json.decode(bytes(raw) or b"null"))
            own = _mapping(_mapping(plain.get("ByLogicalID")).get(member.name))
            for tags in (plain.get("Tags"), own.get("Tags")):
                found |= {name: str(value) for name, value in _mapping(tags).items()}
        return found

    # -- the simulated declaration -----------------------------------------------------------------------------------

    def simulated(self, *, bad: bool = False) -> Group:
        """Return the group with simulated plugins; `bad`: in a version whose instances never become healthy."""
        properties = self.declared.properties
        instance, flavor = properties.instance, properties.flavor
        machine = _mapping(msgspec.json.decode(bytes(instance.properties) or b"null"))
        if instance.plugin != SIMULATOR:
            machine = {"BootTime": self.boot_s, "Declared": machine}
        machine |= {"NeverHealthy": True} if bad else {}
        simulated = {
            "Quorum": self.quorum,
            "Attachments": {name: msgspec.to_builtins(each) for name, each in self.attachments.items() if each},
            "Declared": _mapping(msgspec.json.decode(bytes(flavor.properties) or b"null")),
        }
        changed = msgspec.structs.replace(
            properties,
            instance=msgspec.structs.replace(instance, properties=_raw(machine)),
            flavor=FlavorRef(plugin=LISTING if self.lists_voters else PLAIN, properties=_raw(simulated)),
        )
        return msgspec.structs.replace(self.declared, properties=changed)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


async def read(
    text: str, source: str, *, home: Path, boot_s: float | None = None, warn: validate.Report | None = None
) -> tuple[RehearsedGroup, ...]:
    """Return the groups of a document, which the plugins that it names have validated and described.

    `home` is the directory of plugins with state. `boot_s`: until a new instance is healthy; by default half of the
    group's BootGrace. Raises `InvalidSpec` with every problem; for `warn` see `validate.checked`.
    """
    registry = Registry(home)
    try:
        groups = await validate.checked(text, source, registry, warn=warn)
        return tuple([await _described(each, registry, boot_s) for each in groups])
    finally:
        await registry.close()


async def _described(group: Group, registry: Registry, boot_s: float | None) -> RehearsedGroup:
    reference, allocation = group.properties.flavor, group.properties.allocation.to_wire()
    flavor = await registry.flavor(reference.plugin)
    attachments: Mapping[LogicalID, tuple[Attachment, ...]] = {}
    if isinstance(flavor, Attaches):
        attachments = await flavor.attachments(properties=reference.properties, allocation=allocation)
    quorum = isinstance(flavor, Quorum) and await flavor.is_quorum(properties=reference.properties)
    return RehearsedGroup(
        declared=group,
        quorum=quorum,
        lists_voters=quorum and isinstance(flavor, Voters),
        attachments=attachments,
        provider=await _shape(group.properties.instance.plugin, registry),
        boot_s=seconds(group.properties.healing.boot_grace) / 2 if boot_s is None else boot_s,
    )


async def _shape(plugin: str, registry: Registry) -> ProviderShape:
    instance = await registry.instance(plugin)
    return ProviderShape(
        capabilities=await instance.capabilities() if isinstance(instance, Capable) else Capabilities(),
        inspects=isinstance(instance, Inspects),
        identified=isinstance(instance, Identified),
    )


def members(groups: Sequence[RehearsedGroup]) -> Iterator[Member]:
    """Yield the declared members of all groups."""
    for group in groups:
        yield from group.members
