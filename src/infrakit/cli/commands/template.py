"""`infrakit template`: renders a template, checks its output, or lists its inputs."""

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
@click.option("-o", "--output", metavar="FILE", help="Write to FILE atomically; - for standard output.")
@click.option("--check", is_flag=True, help="Check the syntax of the output: bash, sh, JSON or YAML.")
@click.option("--explain", is_flag=True, help="List its inputs, where each is found, and what is missing.")
@click.option("--trace", is_flag=True, help="Prefix each line with the template line that produced it.")
def template(  # noqa: PLR0917
    template: str,
    template_options: rendering.TemplateOptions,
    output: str | None,
    check: bool,
    explain: bool,
    trace: bool,
) -> None:
    """Render a template, check its output, or list its inputs.

    It is fetched by path, file://, http:// or https://, or read from standard input; addresses in it are relative to
    it. Metadata is read from the running daemon. With --check, the output is printed only with -o, and only if its
    syntax is valid; the format is detected from its first line, or from the name.

    \b
    Example:
      echo 'hello {{ var("name") }}' | infrakit template - --var name=world
    """
    if check + explain + trace > 1 or ((explain or trace) and output is not None):
        raise click.UsageError("Choose one of --check, --explain and --trace; -o goes with --check only.")
    name = loaders.display(template)
    if explain:
        from infrakit.cli import explained

        explained.show(template, name, template_options)
        return
    rendered = rendering.render(template, template_options, trace=check or trace)
    if trace:
        for line in _traced(rendered):
            click.echo(line)
        return
    if check:
        click.echo(_checked(rendered, name, output or ""), err=output == STDOUT)
    if not check or output is not None:
        _write(rendered, output or STDOUT)


def _checked(rendered: "Rendered", name: str, output: str) -> str:
    """Return the result of the check. Raises `InvalidSpec` with every problem, at its line in the templates."""
    from infrakit.cli import checks

    kind = checks.kind(rendered.text, name) or checks.kind(rendered.text, output)
    lines = tables.count(len(rendered.text.splitlines()), "line")
    if not kind:
        unknown = "not checked, because neither the name nor the first line indicates a known format"
        return f"{name}: renders to {lines}; {unknown}"
    problems = [
        Problem(path="", message=found.message, line=found.line) for found in checks.problems(rendered.text, kind)
    ]
    if problems:
        raise rendering.RenderedProblems([rendering.locate(each, rendered.origins or (), name) for each in problems])
    return f"{name}: renders to {lines} of well-formed {kind}"


def _traced(rendered: "Rendered") -> Iterator[str]:
    """Yield each output line, prefixed with the template line that produced it; secrets are masked."""
    origins = rendered.origins or ()
    lines = rendered.masked().splitlines()
    places = [f"{each.template}:{each.line}" if each is not None else "" for each in origins]
    places += [""] * (len(lines) - len(places))
    width = max(map(len, places), default=0)
    for place, line in zip(places, lines, strict=False):
        yield f"{place.ljust(width)} | {line}".rstrip()


def _write(rendered: "Rendered", output: str) -> None:
    """Write UTF-8 bytes: the output must not depend on the encoding of the terminal."""
    body = rendered.text.encode()
    if output == STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(body)
        return
    target = Path(output)
    if target.absolute().parts[1:2] in {("dev",), ("proc",)}:  # an open descriptor, such as /dev/stdout
        with target.open("ab") as device:
            device.write(body)
        return
    target = target.resolve()  # write to the target of a symbolic link, and keep the link
    if target.exists() and not target.is_file():  # a pipe
        target.write_bytes(body)
        return
    if not target.parent.is_dir():
        raise NotFound("the output directory does not exist", where=str(Path(output).parent), remedy="create it")
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
