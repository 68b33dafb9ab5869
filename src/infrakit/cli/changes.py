"""Common steps of all commands that change the declaration: confirmation, the printed result, waiting."""

import contextlib
import sys
from collections.abc import Iterator

import click

from infrakit.cli import convergence, exit_codes, output, reports, tables
from infrakit.spi.errors import Refused
from infrakit.spi.manager import Committed


def done(committed: Committed, fmt: str, what: str) -> None:
    """Print the result of a command on groups that are already declared."""
    output.show(committed, fmt, lambda value: output.lines(list(reports.committed(value, what))))


def declared(committed: Committed, fmt: str, what: str, *, wait_s: float | None = None) -> None:
    """Print the result of a new declaration; with `wait_s`, also wait until it has converged."""
    output.show(committed, fmt, lambda value: output.lines(list(reports.committed(value, what))))
    if wait_s is not None:
        with interruption("interrupted: the declaration is committed, and the daemon continues"):
            convergence.wait(wait_s, version=committed.version)
        click.echo("converged", err=fmt != "table")


@contextlib.contextmanager
def interruption(what: str) -> Iterator[None]:
    """On Ctrl-C, print which work is still in progress, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\ninfrakit: {what}", err=True)
        raise click.exceptions.Exit(exit_codes.INTERRUPTED) from None


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation on a terminal; without one, --yes is required. Raises `Refused`."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise Refused(
            "not confirmed: standard input is not a terminal",
            remedy=f"pass --yes to proceed without asking: {question}",
        )
    prompt = "\n".join(tables.paragraph(f"{question} [y/N]:"))  # a terminal would break it inside a word
    if not click.confirm(prompt, show_default=False, prompt_suffix=" "):
        raise Refused("not confirmed: nothing was changed")
