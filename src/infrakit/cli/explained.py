"""Lists the inputs of a template: each variable, fact, address, secret and environment variable, and its source.

They are read from the text of the template and of the templates that it includes, without rendering, so that all
missing inputs are reported at once. Values are not shown, so neither are secrets.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from infrakit.cli import exit_codes, rendering, tables
from infrakit.spi.errors import InfraKitError, InvalidSpec

if TYPE_CHECKING:
    from infrakit.template.values import Need

_MISSING = "MISSING"


def show(address: str, name: str, template_options: rendering.TemplateOptions) -> None:
    """Print the inputs of a template; exit with the code of a user error if one is missing."""
    from infrakit.cli import confinement
    from infrakit.template.needs import COMPUTED
    from infrakit.template.values import Need

    known = rendering.variables(template_options)

    def work() -> tuple[Need, ...]:
        engine, template, scope = rendering.load(address, template_options, known)
        return engine.needs(template, scope)

    try:
        needs = confinement.run(work, tuple[Need, ...])
    except InvalidSpec:
        raise
    except InfraKitError as error:
        raise click.ClickException(str(error)) from None
    for line in _lines(needs, name):
        click.echo(line)
    used = {need.name for need in needs if need.kind == "variable"}
    if COMPUTED not in used and (unused := list(_unused(known, used))):
        click.echo(f"given but not used: {', '.join(unused)}")
    if any(need.missing for need in needs):
        raise click.exceptions.Exit(exit_codes.USER_ERROR)


def _lines(needs: "tuple[Need, ...]", name: str) -> Iterator[str]:
    if not needs:
        yield f"{name} needs nothing"
        return
    rows = [(each.kind, each.name, each.found_in or _MISSING, f"{each.template}:{each.line}") for each in needs]
    yield from tables.table(("NEED", "NAME", "FOUND IN", "USED IN"), rows)
    yield from dict.fromkeys(tables.clean(f"missing: {each.why}") for each in needs if each.why)


def _unused(known: Mapping[str, object], used: set[str]) -> Iterator[str]:
    """Yield the names of given values that the template uses neither directly nor as part of a larger value."""
    for name, value in known.items():
        if not isinstance(value, Mapping):
            parts = name.split("/")
            above = {"/".join(parts[: end + 1]) for end in range(len(parts))}
            if not above & used:
                yield name
