"""Measure which lines and branches of the planner and the gate the first worlds do not execute.

`python -m tests.simulation.reach --count 500` prints those that `UNREACHED` does not list, and fails if there are any.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import coverage

import infrakit

PACKAGES = ("group/plan", "gate")
ROOT = Path(infrakit.__file__).parent

NO_TERM = "it acts outside a leadership term: bootstrap, recovery, teardown"
DAMAGE = "a document or an answer that the code never writes"
LONG = "it takes an hour, or more than 500 members"
ONE_PLUGIN = "all groups of a world have the same plugins, and logical IDs of their own"
FORECAST = "a forecast, which no world asks for"
FIRST = "a term adopts what the ledger contains before it counts a creation, and each record in it once"
OWN_SLOT = "an instance of the same slot settles the creation, or blocks it before its volumes are compared"

# By file: the first words of lines that the worlds do not reach, with the reason. Unit tests do.
UNREACHED: dict[str, dict[str, str]] = {
    "gate/authority.py": {
        "if isinstance(error, errors.InfraKitError)": DAMAGE,
        "return cls(str(error)": DAMAGE,
        "self._proven_at": NO_TERM,
        "self._turn": NO_TERM,
        "return asyncio.get_running_loop": NO_TERM,
        "async with self._turn": NO_TERM,
        "if not self._is_recent": NO_TERM,
        "await self._request": NO_TERM,
        "if self._halted is not None": NO_TERM,
        "super().check()": NO_TERM,
        "raise ": NO_TERM,
        "super().__init__()": NO_TERM,
        "self._halted = halted": NO_TERM,
        "if await self._halted": NO_TERM,
        "self._answers": NO_TERM,
        "if await self._answers": NO_TERM,
    },
    "gate/census.py": {"if len(ordinals) > SLOTS_MAX": DAMAGE, "raise ValueError": DAMAGE},
    "gate/creations.py": {
        "while self._created and now": LONG,
        "del self._created[next": LONG,
        "if self.begin(token, now)": FIRST,
    },
    "gate/guard.py": {
        "if self._unlimited": NO_TERM,
        'return ""': NO_TERM,
    },
    "group/plan/__init__.py": {
        "if want.conflict": ONE_PLUGIN,
        'remedy = "commit it with other': ONE_PLUGIN,
        "builder.block(name, want.conflict": ONE_PLUGIN,
        "return _finish(builder, GroupPhase.UNMANAGED)": ONE_PLUGIN,
    },
    "group/plan/cattle.py": {
        "if known and missing > 0": LONG,
        'reason = f"{plural(known': LONG,
        'builder.block(want.group.name, f"{reason}; no replacement': LONG,
    },
    "group/plan/limits.py": {"if not want.paced": FORECAST, "return surplus": FORECAST},
    "group/plan/versions.py": {
        "if (now.instance.plugin, now.flavor.plugin)": ONE_PLUGIN,
        "return want.group.hash  # this controller": ONE_PLUGIN,
    },
    "group/plan/volumes.py": {"if other != slot": OWN_SLOT},
}


def missing(paths: Iterator[Path], measured: coverage.Coverage) -> Iterator[tuple[str, int, str]]:
    """Yield the file, number and text of each line that was not executed, or from which not every branch was taken."""
    for path in paths:
        lines = path.read_text().splitlines()
        _, _, _, unexecuted, _ = measured.analysis2(str(path))
        arcs = measured._analyze(str(path)).missing_branch_arcs()
        for number in sorted({*unexecuted, *arcs}):
            yield str(path.relative_to(ROOT)), number, lines[number - 1].strip()


def is_listed(file: str, line: str) -> bool:
    return any(line.startswith(words) for words in UNREACHED.get(file, {}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="number of seeds")
    parser.add_argument("--minutes", type=float, default=2.0, help="simulated minutes of each")
    options = parser.parse_args()
    sources = [f"infrakit.{package.replace('/', '.')}" for package in PACKAGES]
    measured = coverage.Coverage(branch=True, source=sources, data_file=None, config_file=False)
    measured.start()
    from infrakit.simulation import __main__ as program

    broken = 0
    for seed in range(1, options.count + 1):
        broken += bool(program.simulate(program.Task(seed, options.minutes)).verdict)
    measured.stop()
    paths = (path for package in PACKAGES for path in sorted((ROOT / package).glob("*.py")))
    found = [each for each in missing(paths, measured) if not is_listed(each[0], each[2])]
    for file, number, line in found:
        print(f"{file}:{number}: {line}")
    print(f"{options.count} seeds, {broken} broke a law, {len(found)} unlisted lines or branches not reached")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
