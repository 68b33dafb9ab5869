"""The original's generic interface to anything that holds a declaration: plan, commit, describe, free."""

import enum
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import msgspec

from infrakit.spi.values import absent


class Operation(enum.IntEnum):
    """What a declaration is to become."""

    ENFORCE = 0
    DESTROY = 1


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The name of an object; its fields are lower case on the wire."""

    id: str | msgspec.UnsetType = msgspec.UNSET
    name: str = ""
    tags: Mapping[str, str] | None = None


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a document, of any kind."""

    kind: str = ""
    version: str = ""
    metadata: Entry = msgspec.field(default_factory=Entry)
    properties: msgspec.Raw = msgspec.field(default_factory=absent)


class Object(msgspec.Struct, frozen=True, kw_only=True):
    """A declaration, and what exists of it."""

    kind: str = ""
    version: str = ""
    metadata: Entry = msgspec.field(default_factory=Entry)
    properties: msgspec.Raw = msgspec.field(default_factory=absent)
    state: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Messages(msgspec.Struct, frozen=True, kw_only=True):
    """A plan in words."""

    message: tuple[str, ...] | None = msgspec.field(name="Message", default=None)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a declaration became, or would become, and by which steps."""

    object: Object = msgspec.field(name="Object")
    plan: Messages = msgspec.field(name="Plan", default_factory=Messages)


@runtime_checkable
class Controller(Protocol):
    """The original's Controller interface (0.1.1)."""

    async def plan(self, *, operation: Operation, spec: Spec) -> Outcome:
        """What would be done; nothing is."""
        ...

    async def commit(self, *, operation: Operation, spec: Spec) -> Outcome:
        """Declare it, or with `DESTROY` that nothing of it shall exist. Durable when it returns."""
        ...

    async def describe(self, *, metadata: Entry | None = None) -> tuple[Object, ...]:
        """The object of that name, or all."""
        ...

    async def free(self, *, metadata: Entry | None = None) -> tuple[Object, ...]:
        """Stop managing it, touch nothing; answers what was managed."""
        ...
