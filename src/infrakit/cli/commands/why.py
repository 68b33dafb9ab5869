"""`infrakit why`: explains the state of a group or an instance: the facts, the rule, and what would change it."""

from collections.abc import Iterator

import click

from infrakit.cli import arguments, daemon, options, output, reports, tables
from infrakit.spi.event import to_the_second
from infrakit.spi.manager import Explanation, Manager
from infrakit.spi.values import GroupID


@click.command
@arguments.group
@options.output
def why(group: str, output_format: str) -> None:
    """Explain a group or an instance, and what would change it.

    GROUP may be GROUP/INSTANCE: an instance ID, a slot or a logical ID.

    \b
    Example:
      infrakit why store/127.0.0.12
    """
    name, _, subject = group.partition("/")
    answer = daemon.ask(Manager.why, group=GroupID(name), subject=subject)
    output.show(answer, output_format, lambda value: output.lines(list(_lines(value))))


def _lines(answer: Explanation) -> Iterator[str]:
    yield from tables.paragraph(answer.summary)
    for title, items in (("Facts", answer.facts), ("History", answer.story)):
        if items:
            yield ""
            yield tables.paint(title, bold=True)
            for item in items:
                yield from tables.paragraph(item, indent="  - ", hanging="    ")
        if title == "Facts":
            yield from _doing(answer)
    if answer.next_look:
        yield ""
        yield f"Next check at {to_the_second(answer.next_look)}."


def _doing(answer: Explanation) -> Iterator[str]:
    if answer.doing or answer.waiting:
        yield ""
        yield tables.paint("Now", bold=True)
        yield from reports.reasons(answer.doing)
        yield from reports.reasons(answer.waiting, mark="=")
