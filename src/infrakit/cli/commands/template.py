"""`infrakit template`: a template as what it renders to, or as what it needs."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infrakit.cli import arguments, options, rendering, tables
from infrakit.spi.errors import NotFound, Problem
from infrakit.template import loaders

if TYPE_CHECKING:
    from infrakit.template.values import Rendered

STDOUT = "-"


@click.command
@arguments.required("template", metavar="URL|PATH|-", type=click.Path(allow_dash=True))
@options.variables
@click.option("-o", "--output", metavar="FILE", help="Write to FILE, whole or not at all; - for standard output.")
@click.option("--check", is_flag=True, help="Tell whether it is well-formed: bash, sh, JSON or YAML.")
@click.option("--explain", is_flag=True, help="Tell what it needs, where that is found, and what is missing.")
@click.option("--trace", is_flag=True, help="Show before each line where it comes from.")
def template(  # noqa: PLR0917
    template: str, asked: rendering.Asked, output: str | None, check: bool, explain: bool, trace: bool
) -> None:
    """Render a template, check it, or tell what it needs.

    It is fetched by path, file://, http:// or https://, or read from standard input; addresses in it are relative to
    it. Metadata is asked of the running daemon. With --check, the text is printed only where -o says so, and only if it
    is well-formed; what it should be is told by its first line or by its name.

    \b
    Example:
      echo 'hello {{ var("name") }}' | infrakit template - --var name=world
    """
    if check + explain + trace > 1 or ((explain or trace) and output is not None):
        raise click.UsageError("Choose one of --check, --explain and --trace; -o goes with --check only.")
    name = loaders.display(template)
    if explain:
        from infrakit.cli import explained

        explained.show(template, name, asked)
        return
    rendered = rendering.render(template, asked, trace=check or trace)
    if trace:
        for line in _traced(rendered):
            click.echo(line)
        return
    if check:
        click.echo(_checked(rendered, name, output or ""), err=output == STDOUT)
    if not check or output is not None:
        _write(rendered, output or STDOUT)


def _checked(rendered: "Rendered", name: str, output: str) -> str:
    """The verdict. Raises `InvalidSpec` with every problem, at the lines of the templates."""
    from infrakit.cli import checks

    kind = checks.kind(rendered.text, name) or checks.kind(rendered.text, output)
    lines = tables.count(len(rendered.text.splitlines()), "line")
    if not kind:
        unknown = "neither its name nor its first line tells what they should be, so they are not checked"
        return f"{name}: renders to {lines}; {unknown}"
    problems = [
        Problem(path="", message=found.message, line=found.line) for found in checks.problems(rendered.text, kind)
    ]
    if problems:
        raise rendering.Misplaced([rendering.place(each, rendered.origins or (), name) for each in problems])
    return f"{name}: renders to {lines} of well-formed {kind}"


def _traced(rendered: "Rendered") -> Iterator[str]:
    """Each line behind the place that it came from; secrets do not show."""
    origins = rendered.origins or ()
    lines = rendered.masked().splitlines()
    places = [f"{each.template}:{each.line}" if each is not None else "" for each in origins]
    places += [""] * (len(lines) - len(places))
    width = max(map(len, places), default=0)
    for place, line in zip(places, lines, strict=False):
        yield f"{place.ljust(width)} | {line}".rstrip()


def _write(rendered: "Rendered", output: str) -> None:
    """As bytes: a script must not depend on what the terminal can show."""
    body = rendered.text.encode()
    if output == STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(body)
        return
    target = Path(output)
    if target.absolute().parts[1:2] in {("dev",), ("proc",)}:  # what is open already, say, by way of /dev/stdout
        with target.open("ab") as device:
            device.write(body)
        return
    target = target.resolve()  # a link stays a link, and what it leads to is written
    if target.exists() and not target.is_file():  # a pipe
        target.write_bytes(body)
        return
    if not target.parent.is_dir():
        raise NotFound("there is no such directory to write to", where=str(Path(output).parent), remedy="make it")
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
    if rendered.secrets:
        mode &= 0o700
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(fresh, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(body)
        fresh.chmod(mode)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
