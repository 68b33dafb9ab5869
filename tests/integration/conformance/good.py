"""Metadata trees and a group controller that satisfy every rule; tests derive plugins from them that break one."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from infrakit.spi import errors
from infrakit.spi.group import GroupDescription, GroupSpec
from infrakit.spi.metadata import Change, Proposal
from infrakit.spi.values import Description, GroupID, InstanceID

WEB = GroupID("web")


class ReadableTree:
    """A metadata tree that can be read."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"a": 1, "b": {"c": 2}, "empty": {}}

    async def keys(self, *, path: str) -> Sequence[str] | None:
        found = self._at(path)
        return sorted(found) if isinstance(found, dict) else None if found is None else []

    async def get(self, *, path: str) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(self._at(path)))

    def _at(self, path: str) -> Any:
        found: Any = self.values
        for name in path.split("/"):
            if name not in ("", "."):
                found = found.get(name) if isinstance(found, dict) else None
        return found


class Tree(ReadableTree):
    """A metadata tree that can also be written, at paths of two names."""

    async def changes(self, *, changes: tuple[Change, ...]) -> Proposal:
        proposed = msgspec.json.encode(self.values | dict(_branch(each) for each in changes))
        original = msgspec.json.encode(self.values)
        return Proposal(
            original=msgspec.Raw(original), proposed=msgspec.Raw(proposed), cas=_cas_token(original, proposed)
        )

    async def commit(self, *, proposed: msgspec.Raw, cas: str) -> None:
        if cas != _cas_token(msgspec.json.encode(self.values), bytes(proposed)):
            raise errors.Conflict("cas mismatch")
        self.values = msgspec.json.decode(proposed)


def _branch(change: Change) -> tuple[str, Any]:
    root, _, leaf = change.path.partition("/")
    return root, {leaf: msgspec.json.decode(change.value)}


def _cas_token(original: bytes, proposed: bytes) -> str:
    return hashlib.sha256(original + proposed).hexdigest()


class Topics:
    """Topics without events."""

    async def list(self, *, topic: str) -> Sequence[str]:
        return ["a", "b"] if topic in ("", ".") else []

    def subscribe(self, *, topic: str) -> Any:
        raise NotImplementedError(topic)


class Controller:
    """A group controller that stores groups and takes no action."""

    def __init__(self) -> None:
        self.groups = {WEB: GroupSpec(id=WEB, properties=msgspec.Raw(b'{"Allocation":{"Size":2}}'))}
        self.instances = [Description(id=InstanceID("i-1")), Description(id=InstanceID("i-2"))]

    async def commit_group(self, *, spec: GroupSpec, pretend: bool = False) -> str:
        if not pretend:
            self.groups[spec.id] = spec
        return "nothing to do"

    async def free_group(self, *, id: GroupID) -> None:  # noqa: A002
        self._check_exists(id)

    async def describe_group(self, *, id: GroupID) -> GroupDescription:  # noqa: A002
        self._check_exists(id)
        return GroupDescription(instances=tuple(self.instances), converged=True)

    async def destroy_group(self, *, id: GroupID) -> None:  # noqa: A002
        self._check_exists(id)

    async def inspect_groups(self) -> tuple[GroupSpec, ...]:
        return tuple(self.groups.values())

    async def destroy_instances(self, *, id: GroupID, instances: tuple[InstanceID, ...]) -> None:  # noqa: A002
        self._check_exists(id)

    async def size(self, *, id: GroupID) -> int:  # noqa: A002
        self._check_exists(id)
        return len(self.instances)

    async def set_size(self, *, id: GroupID, size: int) -> None:  # noqa: A002
        self._check_exists(id)

    def _check_exists(self, group: GroupID) -> None:
        if group not in self.groups:
            raise errors.NotFound(f"there is no group {group}")
