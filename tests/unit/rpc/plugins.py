"""Plugins of every kind that record their calls, and return the values that the test has set."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from infrakit.spi.group import GroupDescription, GroupSpec
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import (
    Allocation,
    Description,
    GroupID,
    Health,
    HealthReport,
    Index,
    InstanceID,
    InstanceSpec,
)


class Plugin:
    """The recorded calls, newest last, and the exception that the next calls raise."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.failure: Exception | None = None

    def _asked(self, method: str, **parameters: Any) -> None:
        self.asked.append((method, parameters))
        if self.failure is not None:
            raise self.failure


class Provider(Plugin):
    """Satisfies `Instance`."""

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self.descriptions: Sequence[Description] = ()
        self.made = "i-1"

    async def validate(self, *, properties: msgspec.Raw) -> None:
        self._asked("validate", properties=bytes(properties))

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        self._asked("provision", spec=spec)
        return InstanceID(self.made)

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        self._asked("label", instance=instance, labels=labels)

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        self._asked("destroy", instance=instance, context=context)

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        self._asked("describe_instances", tags=tags, properties=properties)
        return self.descriptions


class FlavorPlugin(Plugin):
    """Satisfies `Flavor`."""

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self.prepared = InstanceSpec()
        self.report = HealthReport(health=Health.HEALTHY)

    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None:
        self._asked("validate", properties=bytes(properties), allocation=allocation)

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        self._asked("prepare", properties=bytes(properties), spec=spec, allocation=allocation, index=index)
        return self.prepared

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        self._asked("healthy", properties=bytes(properties), instance=instance)
        return self.report

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        self._asked("drain", properties=bytes(properties), instance=instance)


class Controller(Plugin):
    """Satisfies `Groups`."""

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        self.description = GroupDescription(instances=(), converged=True)
        self.specs: tuple[GroupSpec, ...] = ()

    async def commit_group(self, *, spec: GroupSpec, pretend: bool = False) -> str:
        self._asked("commit_group", spec=spec, pretend=pretend)
        return "Managing 2 instances"

    async def free_group(self, *, id: GroupID) -> None:  # noqa: A002
        self._asked("free_group", id=id)

    async def describe_group(self, *, id: GroupID) -> GroupDescription:  # noqa: A002
        self._asked("describe_group", id=id)
        return self.description

    async def destroy_group(self, *, id: GroupID) -> None:  # noqa: A002
        self._asked("destroy_group", id=id)

    async def inspect_groups(self) -> tuple[GroupSpec, ...]:
        self._asked("inspect_groups")
        return self.specs

    async def destroy_instances(self, *, id: GroupID, instances: tuple[InstanceID, ...]) -> None:  # noqa: A002
        self._asked("destroy_instances", id=id, instances=instances)

    async def size(self, *, id: GroupID) -> int:  # noqa: A002
        self._asked("size", id=id)
        return 2

    async def set_size(self, *, id: GroupID, size: int) -> None:  # noqa: A002
        self._asked("set_size", id=id, size=size)
