"""Formats rehearsals as lines for people."""

from collections import Counter
from collections.abc import Iterator, Sequence

from infrakit.cli import tables
from infrakit.cli.tables import Cell
from infrakit.simulation.rehearsal.outcome import Broken, ExerciseOutcome, GroupOutcome, Simulated
from infrakit.simulation.rehearsal.promises import PROMISES

LINES_MAX = 3  # of one type of event and one group; the others are counted
_COLOURS = {"fault": "magenta", "whole": "green"}


def head(source: str, simulated: Sequence[Simulated], *, seed: int) -> Iterator[str]:
    """Yield what is simulated, and what is not."""
    yield from tables.paragraph(f"{source}: {tables.count(len(simulated), 'group')}, in virtual time, with seed {seed}")
    rows = [
        (
            each.group,
            str(each.size),
            "yes" if each.quorum else "no",
            str(each.volumes),
            f"{each.instance} -> simulator",
            f"{each.flavor} -> true health",
            f"{each.boot_s:g} s",
        )
        for each in simulated
    ]
    yield from tables.table(("GROUP", "SIZE", "QUORUM", "VOLUMES", "INSTANCES", "HEALTH", "BOOT"), rows)
    yield from tables.paragraph(
        "Policies, sizes, logical IDs, quorums and volumes are those of FILE. Not rehearsed: boot scripts, health "
        "checks, drains, changes of a cluster's member list, the network, and the loss of InfraKit's own node."
    )


def exercise(outcome: ExerciseOutcome) -> Iterator[str]:
    """Yield the timeline of one exercise, its figures, and the promises that were broken."""
    yield tables.paint(f"{outcome.exercise}: {tables.clean(outcome.title)}", bold=True)
    shown, omitted = Counter[tuple[str, str]](), Counter[str]()
    rows = []
    for line in outcome.timeline:
        shown[line.what, line.group] += 1
        if shown[line.what, line.group] > LINES_MAX:
            omitted[line.what] += 1
            continue
        about = "/".join(filter(None, (line.group, line.member)))
        rows.append((f"{line.at_s:8.1f} s", Cell(line.what, _COLOURS.get(line.what, "")), about, line.message))
    if rows:
        _, *lines = tables.table(("", "", "", ""), rows)
        yield from lines
    if omitted:
        yield f"  not shown: {', '.join(f'{number} {what}' for what, number in omitted.items())} (-o json has all)"
    for group in outcome.groups:
        yield f"  {_group(group)}"
    for each in outcome.broken:
        yield from _broken(each)


def _group(group: GroupOutcome) -> str:
    majority = f" (majority {group.majority})" if group.majority is not None else ""
    if group.lowest == group.size and group.whole_after_s == 0:
        return f"{group.group}: always {group.size} of {group.size} healthy{majority}"
    lowest = f"lowest {group.lowest} of {group.size} healthy{majority}, at {group.lowest_at_s:g} s"
    whole = "not whole at the end" if group.whole_after_s is None else f"whole after {group.whole_after_s:g} s"
    return f"{group.group}: {lowest}; {whole}"


def _broken(broken: Broken) -> Iterator[str]:
    text = f"BROKEN {broken.promise}: {PROMISES[broken.promise]}. {broken.group}, at {broken.at_s:g} s: {broken.why}"
    for line in tables.paragraph(text, indent="  ", hanging="    "):
        yield tables.paint(line, "red")


def verdict(outcomes: Sequence[ExerciseOutcome]) -> str:
    """Return the summary of all exercises."""
    number = tables.count(len(outcomes), "exercise")
    broke = [each.exercise for each in outcomes if each.broken]
    if not broke:
        return f"{number}: every promise was kept"
    return f"{number}, and {len(broke)} would break a promise: {', '.join(broke)}"
