"""What all orders have in common: they are answered by a version, and may be waited for."""

import contextlib
import sys
from collections.abc import Iterator

import click

from infrakit.cli import convergence, exit_codes, output, reports
from infrakit.spi.errors import Refused
from infrakit.spi.manager import Committed


def done(committed: Committed, fmt: str, words: str) -> None:
    """Print the answer to an order about what is declared already."""
    output.show(committed, fmt, lambda value: output.lines(list(reports.committed(value, words))))


def declared(committed: Committed, fmt: str, words: str, *, wait_s: float | None = None) -> None:
    """Print the answer to a new declaration; with `wait_s` also wait until it has converged."""
    output.show(committed, fmt, lambda value: output.lines(list(reports.committed(value, words))))
    if wait_s is not None:
        with interruption("interrupted: it is declared, and the daemon continues"):
            convergence.wait(wait_s, version=committed.version)
        click.echo("converged", err=fmt != "table")


@contextlib.contextmanager
def interruption(what: str) -> Iterator[None]:
    """Say what Ctrl-C has left under way."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\ninfrakit: {what}", err=True)
        raise click.exceptions.Exit(exit_codes.INTERRUPTED) from None


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; where nobody can answer, only --yes will do."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise Refused("nothing was done: nobody can be asked here", remedy=f"say --yes if it is meant: {question}")
    if not click.confirm(question):
        raise Refused("nothing was done")
