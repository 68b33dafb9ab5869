"""Validation of a declaration against the plugins it names: they must exist, and accept their properties.

All problems are reported at once, and nothing is applied. A plugin of this process whose client is not installed is
a problem, too: otherwise it would only fail when the first instance is created.
"""

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal, Protocol

from infrakit.spec import document, validate
from infrakit.spec.document import Draft, Part
from infrakit.spi import errors, extras
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.flavor import Attaches, Flavor, Quorum
from infrakit.spi.group import DeclaredAllocation, FlavorRef, Group
from infrakit.spi.instance import Instance
from infrakit.spi.values import Attachment, GroupID, LogicalID

DEADLINE_S = 30.0
EMPTY_QUORUM = "a group with a quorum has no logical IDs: that would destroy every member"
DESTROY_INSTEAD = "to destroy the group: infrakit group destroy"

Section = Literal["Instance", "Flavor"]
Report = Callable[[Problem], object]


class Plugins(Protocol):
    """Plugins by name. Implemented by `runtime.registry`."""

    async def instance(self, name: str) -> Instance:
        """Return the instance plugin of that name. Raises `NotFound`, or `Unreachable` if it does not answer."""
        ...

    async def flavor(self, name: str) -> Flavor:
        """Return the flavor plugin of that name. Raises `NotFound`, or `Unreachable` if it does not answer."""
        ...

    def names(self, section: Section) -> Sequence[str]:
        """The names of all plugins that can be found."""
        ...


async def checked(
    text: str, source: str, plugins: Plugins, *, others: Sequence[Group] = (), warn: Report | None = None
) -> tuple[Group, ...]:
    """The groups that a document declares. Raises `InvalidSpec` with every problem that we and the plugins find.

    `others` are declared already and remain, unless the document redeclares them: no two of all these groups may have
    the same logical ID on one instance plugin, and no two logical IDs the same attachment. With `warn`, clients that
    are not installed here are reported to it, and not raised as problems: another process runs the plugins.
    """
    draft = document.read(text, source=source)
    problems, accepted = list(draft.problems), []
    for part in draft.parts:
        found, missing = await _of_instance(part, draft, plugins)
        in_flavor, missing_in_flavor = await _of_flavor(part, draft, plugins)
        problems += [*found, *in_flavor]
        for each in (*missing, *missing_in_flavor):
            (warn or problems.append)(each)
        if not in_flavor:
            accepted.append(part)
    problems += _shared_logical_ids(draft, others)
    problems += await _shared_attachments(accepted, draft, plugins, others)
    document.refuse(problems, source=source)
    return tuple(draft.groups)


async def _of_instance(part: Part, draft: Draft, plugins: Plugins) -> tuple[list[Problem], list[Problem]]:
    """Return the problems of the instance section, and missing clients."""
    reference = part.instance
    if reference is None:
        return [], []
    missing: list[Problem] = []

    async def ask() -> None:
        instance = await plugins.instance(reference.plugin)
        missing.extend(_missing(instance, reference.plugin))
        await instance.validate(properties=reference.properties)

    found, field = await _answer(ask, "Instance", reference.plugin, plugins)
    located = draft.locate(found, part, under="Instance", field=field)
    return located, draft.locate(missing, part, under="Instance", field="Plugin")


async def _of_flavor(part: Part, draft: Draft, plugins: Plugins) -> tuple[list[Problem], list[Problem]]:
    """Return the problems of the flavor section, and missing clients."""
    reference, declared = part.flavor, part.allocation
    if reference is None or declared is None:
        return [], []
    missing: list[Problem] = []
    in_allocation: list[Problem] = []

    async def ask() -> None:
        flavor = await plugins.flavor(reference.plugin)
        missing.extend(_missing(flavor, reference.plugin))
        await flavor.validate(properties=reference.properties, allocation=declared.to_wire())
        if (
            declared.logical_ids == ()
            and isinstance(flavor, Quorum)
            and await flavor.is_quorum(properties=reference.properties)
        ):
            in_allocation.append(Problem(path="", message=EMPTY_QUORUM, hint=DESTROY_INSTEAD))

    found, field = await _answer(ask, "Flavor", reference.plugin, plugins)
    located = draft.locate(found, part, under="Flavor", field=field)
    located += draft.locate(in_allocation, part, under="Allocation", field="LogicalIDs")
    return located, draft.locate(missing, part, under="Flavor", field="Plugin")


def _missing(plugin: object, name: str) -> list[Problem]:
    extra = extras.required_by(plugin)
    if not extra or extras.is_installed(extra):
        return []
    client = extras.EXTRAS[extra].client
    message = f'"{name}" needs {client}, which is not installed here'
    return [Problem(path="", message=message, hint=extras.missing_extra(extra))]


async def _answer(
    ask: Callable[[], Awaitable[None]], section: Section, plugin: str, plugins: Plugins
) -> tuple[Sequence[Problem], Literal["Properties", "Plugin"]]:
    try:
        async with asyncio.timeout(DEADLINE_S):
            await ask()
    except InvalidSpec as invalid:
        return invalid.problems, "Properties"
    except errors.NotFound:
        known = sorted(plugins.names(section))
        near = difflib.get_close_matches(plugin, known, n=1, cutoff=0.5)
        hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(known) or 'none'}"
        message = f'found "{plugin}", but there is no {section.lower()} plugin of that name'
        return [Problem(path="", message=message, hint=hint)], "Plugin"
    except Exception as error:  # a plugin that fails: an unchecked document is not accepted
        why = f"no answer within {DEADLINE_S:.0f} s" if isinstance(error, TimeoutError) else str(error)
        return [Problem(path="", message=f"{plugin} could not validate it: {why}")], "Properties"
    return [], "Properties"


def conflicts(groups: Iterable[Group]) -> dict[GroupID, str]:
    """Return why a stored group must not be managed: another one declares its logical IDs, too.

    Such a declaration is not accepted any more; an earlier release may have stored one.
    """
    declared = {g.name: (g.properties.instance.plugin, g.properties.allocation.logical_ids or ()) for g in groups}
    return {name: found[0].message for name, found in validate.shared_logical_ids(declared).items()}


def _shared_logical_ids(draft: Draft, others: Sequence[Group]) -> list[Problem]:
    """Report logical IDs of several groups on one instance plugin, located where the later one is declared."""
    parts = {part.group: part for part in draft.parts}
    declared = {
        group.name: (group.properties.instance.plugin, group.properties.allocation.logical_ids or ())
        for group in others
        if group.name not in parts
    }
    for name, part in parts.items():
        if part.instance is not None and part.allocation is not None:
            declared[name] = (part.instance.plugin, part.allocation.logical_ids or ())
    return [
        located
        for name, found in validate.shared_logical_ids(declared).items()
        if name in parts
        for located in draft.locate(found, parts[name], under="Allocation", field="LogicalIDs")
    ]


async def _shared_attachments(
    accepted: Sequence[Part], draft: Draft, plugins: Plugins, others: Sequence[Group]
) -> list[Problem]:
    """Report attachments of more than one logical ID, located where the later one is declared."""
    parts = {part.group: part for part in accepted}
    attached: dict[tuple[GroupID, LogicalID], tuple[Attachment, ...]] = {}
    for group in others:
        if group.name not in parts:
            flavor, allocation = group.properties.flavor, group.properties.allocation
            attached |= await _attached(group.name, flavor, allocation, plugins)
    for part in accepted:
        if part.flavor is not None and part.allocation is not None:
            attached |= await _attached(part.group, part.flavor, part.allocation, plugins)
    return [
        located
        for name, found in validate.conflicts(attached).items()
        if name in parts
        for located in draft.locate(found, parts[name], under="Flavor")
    ]


async def _attached(
    group: GroupID, reference: FlavorRef, declared: DeclaredAllocation, plugins: Plugins
) -> dict[tuple[GroupID, LogicalID], tuple[Attachment, ...]]:
    async with asyncio.timeout(DEADLINE_S):
        flavor = await plugins.flavor(reference.plugin)
        if not isinstance(flavor, Attaches):
            return {}
        attachments = await flavor.attachments(properties=reference.properties, allocation=declared.to_wire())
    return {(group, logical_id): each for logical_id, each in attachments.items()}
