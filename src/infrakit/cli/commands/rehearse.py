"""`infrakit rehearse`: tries a declaration against faults, with simulated plugins, in virtual time."""

from typing import TYPE_CHECKING

import click

from infrakit.cli import arguments, documents, exit_codes, numbers, options, output, rendering, tables
from infrakit.spi import errors
from infrakit.spi.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infrakit.simulation.rehearsal.exercises import Exercise
    from infrakit.simulation.rehearsal.groups import RehearsedGroup


def _positive(text: str) -> float:
    seconds = numbers.duration(text)
    if not seconds:
        raise click.BadParameter("it must be longer than 0.")
    return seconds


@click.command
@arguments.file
@options.template
@click.option(
    "--kill", multiple=True, metavar="ID|N", help="Terminate one member, such as 10.0.0.1 or web/2, or N of each group."
)
@click.option("--kill-share", multiple=True, metavar="SHARE", help="Terminate a share of each group, such as 30%.")
@click.option(
    "--unhealthy", multiple=True, metavar="ID|N|SHARE", help="Let members become unhealthy without terminating."
)
@click.option(
    "--lose-zone",
    multiple=True,
    metavar="NAME=VALUE|ID,...",
    help="Terminate the members with this tag, or these; for 5 minutes they cannot be created again.",
)
@click.option(
    "--slow",
    type=_positive,
    metavar="DURATION",
    help="Delay every call to the provider by that much, for 10 minutes.",
)
@click.option("--empty", type=_positive, metavar="DURATION", help="The provider lists no instances that long.")
@click.option("--errors", "failing", type=_positive, metavar="DURATION", help="Calls to the provider fail that long.")
@click.option("--bad-version", is_flag=True, help="Commit a version whose instances never become healthy.")
@click.option(
    "--within", type=_positive, default="1h", metavar="DURATION", help="Time to be whole again after the fault (1h)."
)
@click.option(
    "--boot",
    type=numbers.duration,
    metavar="DURATION",
    help="Until new instances are healthy; default: half of BootGrace.",
)
@click.option("--seed", type=numbers.whole(0), default=1, metavar="N", help="The same seed repeats the same run (1).")
@options.output
def rehearse(  # noqa: PLR0917
    file: str,
    template_options: rendering.TemplateOptions,
    kill: tuple[str, ...],
    kill_share: tuple[str, ...],
    unhealthy: tuple[str, ...],
    lose_zone: tuple[str, ...],
    slow: float | None,
    empty: float | None,
    failing: float | None,
    bad_version: bool,
    within: float,
    boot: float | None,
    seed: int,
    output_format: str,
) -> None:
    """Try FILE against simulated faults; changes nothing.

    Needs no daemon. The leader's code runs in virtual time against simulated providers. For each exercise it creates
    the groups of FILE, then the fault is injected. Without an option, all exercises that apply to FILE are run. While
    the provider is slow, empty or failing, one instance of each group terminates.

    Prints the timeline, the lowest redundancy, and the time until every declared instance is healthy again. Exit code
    4: a promise would be broken, as judged by what happened to the simulated instances.

    \b
    Example:
      infrakit rehearse infrakit.yaml --kill 1 --bad-version
    """
    document = documents.read(file, template_options)
    with document.errors_located():
        groups = _groups(document, boot)
    from infrakit.cli import rehearsals
    from infrakit.simulation.rehearsal import exercises, world
    from infrakit.simulation.rehearsal.outcome import Rehearsal

    chosen: list[Exercise] = [
        *(exercises.kill(each, groups) for each in kill),
        *(exercises.kill_share(each, groups) for each in kill_share),
        *(exercises.unhealthy(each, groups) for each in unhealthy),
        *(exercises.lose_zone(each, groups) for each in lose_zone),
        *([exercises.slow(slow)] if slow else []),
        *([exercises.empty(empty)] if empty else []),
        *([exercises.failing(failing)] if failing else []),
        *([exercises.bad_version()] if bad_version else []),
    ]
    simulated = tuple(each.summary() for each in groups)
    for_people = output_format == "table"
    if for_people:
        output.lines(list(rehearsals.head(document.source, simulated, seed=seed)))
    outcomes = []
    for exercise in chosen or exercises.applicable(groups):
        outcomes.append(world.rehearse(groups, exercise, seed=seed, within_s=within))
        if for_people:
            output.lines(["", *rehearsals.exercise(outcomes[-1])])
    kept = not any(each.broken for each in outcomes)
    rehearsal = Rehearsal(
        source=document.source,
        seed=seed,
        within_s=within,
        kept=kept,
        simulated=simulated,
        exercises=tuple(outcomes),
    )
    output.show(rehearsal, output_format, lambda _all: output.lines(["", rehearsals.verdict(outcomes)]))
    if not kept:
        raise click.exceptions.Exit(exit_codes.BROKEN)


def _groups(document: documents.InputDocument, boot_s: float | None) -> "Sequence[RehearsedGroup]":
    """Return the groups of the document, checked by the plugins that it names; missing clients are only reported."""
    import asyncio
    import tempfile
    from pathlib import Path

    from infrakit.simulation.rehearsal import groups

    warnings: list[Problem] = []
    with tempfile.TemporaryDirectory(prefix="infrakit-") as scratch:
        found = asyncio.run(
            groups.read(document.text, document.source, home=Path(scratch), boot_s=boot_s, warn=warnings.append)
        )
    for each in warnings:
        click.echo(tables.clean(f"{document.source}: warning: {each}"), err=True)
    if not any(group.size for group in found):
        raise errors.invalid("Allocation", f"no group of {document.source} declares an instance")
    return found
