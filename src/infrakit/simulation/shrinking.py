"""Shrinks a failing world to the fewest faults with which the same law still breaks, and prints its story.

Deeds are removed in halves, quarters and so on, then one by one; every standing fault is reset by itself. A removal is
kept if the same law breaks, whatever the details, because all later randomness differs.
"""

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from infrakit.simulation.oracle import exceptions
from infrakit.simulation.scenario import Deed, Scenario

RUNS_MAX = 400
PARTS = ("faults", "cloud", "store", "flavor")
SWITCHES = ("own_node", "releases", "voters", "listing", "watches", "inspects", "identified")
KEPT = {"lag_max"}  # the promise belongs to the lags
SUBJECT = re.compile(r"sim-\d+|\d+\.\d+\.\d+\.\d+|group-\d+")
LEADERS = re.compile(r" (started|stopped|committed) ")

Run = Callable[[Scenario], str]
"""Runs a scenario, and returns the broken law."""


def law(verdict: str) -> str:
    """The part of a verdict that names what has broken."""
    laws = [name for each in vars(exceptions).values() if isinstance(each, str) and verdict.startswith(name := each)]
    return max(laws, key=len, default=verdict[:40])


def shrink(scenario: Scenario, verdict: str, run: Run) -> tuple[Scenario, str]:
    """Return the smallest scenario that was found, and its verdict."""
    wanted, runs, changed = law(verdict), 0, True
    while changed and runs < RUNS_MAX:
        changed = False
        for smaller in _smaller(scenario):
            runs += 1
            found = run(smaller)
            if found and law(found) == wanted:
                scenario, verdict, changed = smaller, found, True
                break
            if runs >= RUNS_MAX:
                break
    return scenario, verdict


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios with less in them, the largest steps first."""
    for name in ("operations", "replica_faults"):
        deeds: Sequence[Deed] = getattr(scenario, name)
        size = len(deeds)
        while size:
            for first in range(0, len(deeds), size):
                yield _with(scenario, name, [*deeds[:first], *deeds[first + size :]])
            size //= 2
    for part in PARTS:
        yield from _without_faults(scenario, part)
    for name in SWITCHES:
        if getattr(scenario, name):
            yield _with(scenario, name, False)
    if len(scenario.groups) > 1:
        for group in scenario.groups[:1] if scenario.own_node else scenario.groups:  # replicas run on the first one
            yield _with(scenario, "groups", [group])
    if len(scenario.node_clocks) > 1 and not scenario.own_node:
        yield _with(scenario, "node_clocks", scenario.node_clocks[:-1])


def _standing(scenario: Scenario, part: str) -> tuple[msgspec.Struct, dict[str, object]]:
    """Return one part of the faults that last for the whole run, and the defaults of those that are set."""
    value = getattr(scenario, part)
    default = type(value)()
    fields = [f for f in value.__struct_fields__ if getattr(value, f) != getattr(default, f)]
    return value, {field: getattr(default, field) for field in fields}


def _without_faults(scenario: Scenario, part: str) -> Iterator[Scenario]:
    value, defaults = _standing(scenario, part)
    removable = {field: each for field, each in defaults.items() if field not in KEPT}
    if len(removable) > 1:
        yield _with(scenario, part, msgspec.structs.replace(value, **removable))
    for field, each in removable.items():
        yield _with(scenario, part, msgspec.structs.replace(value, **{field: each}))


def _with(scenario: Scenario, name: str, value: object) -> Scenario:
    copied = msgspec.structs.replace(scenario, **{name: value})
    copied.groups = [msgspec.structs.replace(group, ids=list(group.ids)) for group in copied.groups]
    return copied


def describe(scenario: Scenario) -> Iterator[str]:
    """Describe a world: what is declared, what is wrong with it all the time, and what happens when."""
    for group in scenario.groups:
        what = f"pets {', '.join(group.ids)}" if group.pets else f"cattle, {group.size}"
        yield f"{group.name}: {what}{', a quorum' if group.quorum else ''}; {group.updating | group.healing}"
    switches = [name for name in ("hardest", *SWITCHES) if getattr(scenario, name)]
    yield f"replicas: {len(scenario.node_clocks)}; {', '.join(switches) or 'no options'}"
    for part in PARTS:
        value, fields = _standing(scenario, part)
        if fields:
            yield f"{part}: {', '.join(f'{f} {_short(getattr(value, f))}' for f in fields)}"
    for at, what, _ in sorted([*scenario.operations, *scenario.replica_faults]):
        yield f"at {at:.1f} s: {what}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, msgspec.Struct):
        return "/".join(f"{getattr(value, field):g}" for field in value.__struct_fields__)
    return str(value)


def story(lines: Sequence[str], verdict: str) -> Iterator[str]:
    """Yield the lines that a person needs: faults, commands, leaders, and the subjects of the verdict."""
    subjects = set(SUBJECT.findall(verdict))
    before = ""
    for line in lines:
        about = subjects & set(SUBJECT.findall(line)) - {each for each in subjects if each.startswith("group-")}
        if not (" -- " in line or LEADERS.search(line) or about or line.endswith("all faults stopped")):
            continue
        what = line[10:]
        if what != before:
            yield line
        before = what
