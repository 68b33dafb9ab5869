"""Checks of a declaration that need the plugins it names: that they exist, and that they accept their properties.

Everything wrong is reported at once, and nothing is applied.
"""

import asyncio
import difflib
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from infrakit.spec import document, validate
from infrakit.spi import errors
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.flavor import Attaches, Flavor
from infrakit.spi.group import Group
from infrakit.spi.instance import Instance
from infrakit.spi.values import Allocation, Attachment, GroupID, LogicalID

DEADLINE_S = 30.0

Section = Literal["Instance", "Flavor"]


class Plugins(Protocol):
    """Plugins by name. `runtime.registry` is one."""

    def instance(self, name: str) -> Instance:
        """Raises `NotFound`."""
        ...

    def flavor(self, name: str) -> Flavor:
        """Raises `NotFound`."""
        ...

    def names(self, section: Section) -> Sequence[str]:
        """The names that would be found."""
        ...


async def check(
    declared: Sequence[Group], plugins: Plugins, *, text: str, source: str, others: Sequence[Group] = ()
) -> None:
    """Raise `InvalidSpec` with every problem that the plugins find, each at its place in the document.

    `others` are declared already: no attachment may be given to two logical IDs of them all.
    """
    problems: list[Problem] = []
    for group in declared:
        for section in ("Instance", "Flavor"):
            found, field = await _ask(group, section, plugins)
            located = document.locate(found, text=text, source=source, group=group.name, under=section, field=field)
            problems += located.problems
    if not problems:
        for name, found in _shared_attachments([*others, *declared], plugins).items():
            problems += document.locate(found, text=text, source=source, group=name, under="Flavor").problems
    if problems:
        raise InvalidSpec(sorted(problems, key=lambda p: p.line or 0), where=source)


async def _ask(
    group: Group, section: Section, plugins: Plugins
) -> tuple[Sequence[Problem], Literal["Properties", "Plugin"]]:
    reference = group.properties.instance if section == "Instance" else group.properties.flavor
    try:
        async with asyncio.timeout(DEADLINE_S):
            if section == "Instance":
                await plugins.instance(reference.plugin).validate(properties=reference.properties)
            else:
                await plugins.flavor(reference.plugin).validate(
                    properties=reference.properties, allocation=allocation(group)
                )
    except InvalidSpec as invalid:
        return invalid.problems, "Properties"
    except errors.NotFound:
        known = sorted(plugins.names(section))
        near = difflib.get_close_matches(reference.plugin, known, n=1, cutoff=0.5)
        hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known) or 'none'}"
        message = f'found "{reference.plugin}", but there is no {section.lower()} plugin of that name'
        return [Problem(path="", message=message, hint=hint)], "Plugin"
    except Exception as error:  # a plugin that cannot answer: the document is not accepted unchecked
        why = f"no answer within {DEADLINE_S:.0f} s" if isinstance(error, TimeoutError) else str(error)
        return [Problem(path="", message=f"{reference.plugin} could not validate it: {why}")], "Properties"
    return [], "Properties"


def allocation(group: Group) -> Allocation:
    """A group's allocation as flavors are told it."""
    declared = group.properties.allocation
    return Allocation(size=declared.size, logical_ids=declared.logical_ids)


def _shared_attachments(groups: Sequence[Group], plugins: Plugins) -> dict[GroupID, list[Problem]]:
    held: dict[tuple[GroupID, LogicalID], tuple[Attachment, ...]] = {}
    for group in groups:
        flavor = plugins.flavor(group.properties.flavor.plugin)
        if isinstance(flavor, Attaches):
            properties: msgspec.Raw = group.properties.flavor.properties
            for logical_id, attachments in flavor.attachments(
                properties=properties, allocation=allocation(group)
            ).items():
                held[group.name, logical_id] = attachments
    return validate.conflicts(held)
