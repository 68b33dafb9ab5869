"""The original InfraKit's generic Controller interface: plan, commit, describe and free a declared object."""

import enum
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import msgspec

from infrakit.spi.repeat import repeatable
from infrakit.spi.values import absent


class Operation(enum.IntEnum):
    """The desired state of a declared object: it is enforced, or it is destroyed."""

    ENFORCE = 0
    DESTROY = 1


class ObjectMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """ID, name and tags of an object. The fields are lower case on the wire."""

    id: str | msgspec.UnsetType = msgspec.UNSET
    name: str = ""
    tags: Mapping[str, str] | None = None


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a document, of any kind."""

    kind: str = ""
    version: str = ""
    metadata: ObjectMetadata = msgspec.field(default_factory=ObjectMetadata)
    properties: msgspec.Raw = msgspec.field(default_factory=absent)


class Object(msgspec.Struct, frozen=True, kw_only=True):
    """A declared object and its current state."""

    kind: str = ""
    version: str = ""
    metadata: ObjectMetadata = msgspec.field(default_factory=ObjectMetadata)
    properties: msgspec.Raw = msgspec.field(default_factory=absent)
    state: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Messages(msgspec.Struct, frozen=True, kw_only=True):
    """A plan as sentences for people."""

    message: tuple[str, ...] | None = msgspec.field(name="Message", default=None)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a plan or a commit: the object, and the steps that lead to it."""

    object: Object = msgspec.field(name="Object")
    plan: Messages = msgspec.field(name="Plan", default_factory=Messages)


@runtime_checkable
class Controller(Protocol):
    """The original's Controller interface (0.1.1)."""

    @repeatable
    async def plan(self, *, operation: Operation, spec: Spec) -> Outcome:
        """Return what a commit would do. Changes nothing."""
        ...

    async def commit(self, *, operation: Operation, spec: Spec) -> Outcome:
        """Declare the object, or with `DESTROY` declare that it is destroyed. Durable when the call returns."""
        ...

    @repeatable
    async def describe(self, *, metadata: ObjectMetadata | None = None) -> tuple[Object, ...]:
        """Return the objects that `metadata` names; without `metadata`, all objects."""
        ...

    async def free(self, *, metadata: ObjectMetadata | None = None) -> tuple[Object, ...]:
        """Stop managing the named objects and leave their instances running. Returns what was managed."""
        ...
