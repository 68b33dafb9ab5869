"""`infrakit metadata ls`, `cat`, `tree`, `watch`: the commands that read."""

import time
from typing import Any

import click

from infrakit.cli import arguments, facts, numbers, options, output, tables
from infrakit.cli.commands.metadata import shown
from infrakit.rpc import discovery
from infrakit.spi import errors, event, paths
from infrakit.spi.clock import SystemClock
from infrakit.spi.metadata import Branch, Tree

_UNREAD = object()  # differs from every value


@click.command
@arguments.optional("path", default="", empty=True, shell_complete=shown.complete)
@options.output
def ls(path: str, output_format: str) -> None:
    """List the plugins, or the entries directly below PATH.

    A plugin that does not answer is `away`, with the reason in its note; the others can still be read.

    \b
    Example:
      infrakit metadata ls manager/groups
    """
    steps = paths.split(path)
    if not steps:
        output.show(facts.ask(Tree.branches), output_format, lambda value: output.lines(_plugins(value)))
        return
    found = facts.read(path)
    below = {step: paths.find(found, (step,)) for step in paths.keys(found) or ()} or {steps[-1]: found}
    rows = [{"Name": name, "Kind": shown.kind(v), "Value": _leaf(v)} for name, v in below.items()]
    output.show(rows, output_format, lambda _: output.lines(_values(below)))


def _plugins(found: tuple[Branch, ...]) -> list[str]:
    rows: list[list[str | tables.Cell]] = [
        [
            each.name,
            tables.Cell(each.state, "green" if each.state == "here" else "yellow"),
            "versioned" if each.versioned else "yes" if each.writable else "no",
            tables.age(each.age_s),
            each.note,
        ]
        for each in found
    ]
    return list(tables.table(("PLUGIN", "STATE", "WRITABLE", "SEEN", "NOTE"), rows))


def _leaf(value: Any) -> Any:
    """Return the value of a leaf; None for a branch, which `cat` shows."""
    return None if isinstance(value, dict | list) else value


def _values(below: dict[str, Any]) -> list[str]:
    rows = [(name, shown.kind(v), "" if isinstance(v, dict | list) else shown.line(v)) for name, v in below.items()]
    return list(tables.table(("NAME", "KIND", "VALUE"), rows))


@click.command
@arguments.required("path", many=True, empty=True, shell_complete=shown.complete)
@options.output
def cat(path: tuple[str, ...], output_format: str) -> None:
    """Print the value at each PATH.

    Text is printed unchanged, everything else as JSON. In a list, `[0]` is the first element and `[name=value]` the
    first element with that field.

    \b
    Example:
      infrakit metadata cat host/cpu/count
    """
    for each in path:
        output.show(facts.read(each), output_format, lambda value: click.echo(shown.text(value)))


@click.command
@arguments.optional("path", default="", empty=True, shell_complete=shown.complete)
@options.output
def tree(path: str, output_format: str) -> None:
    """Show everything below PATH.

    \b
    Example:
      infrakit metadata tree manager
    """
    found = facts.read(path)
    if output_format != "table":
        click.echo(output.encode(found, output_format))
        return
    click.echo(paths.join(paths.split(path)) + ("" if isinstance(found, dict | list) else f": {shown.line(found)}"))
    output.lines(list(shown.branches(found)))
    if not paths.split(path):
        away = [each for each in facts.ask(Tree.branches) if each.state == "away"]
        output.lines([f"{each.name} is away: {tables.clean(each.note)}" for each in away])


@click.command
@arguments.required("path", empty=True, shell_complete=shown.complete)
@click.option("--interval", type=numbers.duration, default="1s", show_default=True, help="Polling interval.")
@options.output
def watch(path: str, interval: float, output_format: str) -> None:
    """Print the value at PATH now and after every change, until Ctrl-C.

    A missing value or a plugin that does not answer is reported as a change, too. JSON output has one line per change.

    \b
    Example:
      infrakit metadata watch manager/leader/name
    """
    last: Any = _UNREAD
    while True:
        now = _poll(path)
        if now != last:
            click.echo(_change(now) if output_format == "table" else output.stream(now, output_format))
            last = now
        time.sleep(interval)


def _poll(path: str) -> dict[str, Any]:
    try:
        return {"Path": path, "Value": facts.value(path), "Note": ""}
    except discovery.NotRunning:
        raise  # not a plugin, but the daemon does not answer
    except errors.Unreachable as error:
        return {"Path": path, "Value": None, "Note": str(error)}


def _change(now: dict[str, Any]) -> str:
    when = event.to_the_second(event.timestamp(SystemClock().now()))
    if now["Note"]:
        return f"{when} {tables.clean(now['Note'])}"
    value = now["Value"]
    return f"{when} " + ("no value" if value is None else tables.clean(shown.line(value)))
