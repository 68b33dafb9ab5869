"""`infrakit plan`: shows how a document would change the declaration, and the resulting actions."""

from collections.abc import Iterator

import click

from infrakit.cli import arguments, daemon, differences, documents, options, output, rendering, reports, tables
from infrakit.spi.manager import GroupPlan, Manager, Planned, Reasoned

# The verb determines the sign, except that a destroy by one of the rules in `_REPLACING` is shown as a replacement.
_SIGNS = {"create": "+", "destroy": "-", "cancel": "-"} | dict.fromkeys(
    ("replace", "update", "label", "change", "rollback"), "~"
)
_REPLACING = {"out-of-date", "unhealthy"}
_COLOURS = {"+": "green", "-": "red", "~": "yellow"}


@click.command
@arguments.file
@options.template
@click.option("--rendered", is_flag=True, help="First show the document rendered from FILE, with secrets masked.")
@options.output
def plan(file: str, template_options: rendering.TemplateOptions, rendered: bool, output_format: str) -> None:
    """Show what committing FILE would do, and why; changes nothing.

    + create, ~ replace, - remove, = blocked or unchanged for now; actions run in the order of their numbers.

    \b
    Example:
      infrakit plan infrakit.yaml
    """
    if rendered and output_format != "table":
        raise click.UsageError("--rendered needs table output; use `infrakit template FILE` in programs.")
    document = documents.read(file, template_options)
    if rendered:
        click.echo(document.shown())
    with document.errors_located():
        planned = daemon.ask(Manager.plan, text=document.text, source=document.source)
    output.show(planned, output_format, lambda value: output.lines(list(_lines(value, document.source))))


def _lines(planned: Planned, source: str) -> Iterator[str]:
    if planned.changes:
        yield f"{source} would change declaration {planned.base_version}:"
        yield from differences.lines(planned.changes)
    else:
        yield f"{source} changes nothing in declaration {planned.base_version}."
    if planned.consent:
        first, *rest = tables.paragraph(f"! needs consent: {planned.consent}", indent="", hanging="  ")
        yield tables.paint(first, "red")
        yield from rest
    for group in planned.groups:
        yield ""
        yield from _group(group)


def _group(group: GroupPlan) -> Iterator[str]:
    yield tables.paint(f"{group.group}:", bold=True) + f" {tables.clean(group.summary)}"
    for action in sorted(group.actions, key=lambda action: action.order):
        mark = sign(action)
        order = f"{action.order:>3}. " if action.order else "     "
        verb = "replace" if mark == "~" and action.verb == "destroy" else action.verb
        sentence = f"{verb} {action.subject}: {action.reason}" + (f" [{action.rule}]" if action.rule else "")
        first, *rest = tables.paragraph(sentence, indent=f"{order}{mark} ", hanging=" " * 7)
        yield tables.paint(first, _COLOURS.get(mark, ""))
        yield from rest
    if group.lowest:
        yield f"     lowest on the way: {tables.clean(group.lowest)}"
    yield from reports.reasons(group.waiting, mark="=")


def sign(action: Reasoned) -> str:
    """Return the diff sign of an action."""
    if action.verb == "destroy" and action.rule in _REPLACING:
        return "~"
    return _SIGNS.get(action.verb, "=")
