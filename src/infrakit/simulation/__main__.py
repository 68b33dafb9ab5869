"""Run simulated worlds: `--count 2000` runs many seeds, `--seed N --verbose` repeats one and prints every event.

`--seed N --shrink` reduces a world in which a law breaks to the fewest faults, and prints its story. `--resume FILE`
runs a long range of seeds in parts.
"""

import argparse
import collections
import copy
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from infrakit.simulation import loop, loops, progress, scenario, shrinking
from infrakit.simulation.scenario import Scenario
from infrakit.simulation.world import World
from infrakit.spi import errors

MINUTES = 30.0
SAVE_EVERY = 50  # seeds


class Task(NamedTuple):
    """Everything that determines one run."""

    seed: int
    minutes: float = MINUTES
    deeds: Sequence[str] = scenario.DEEDS
    replicas: int | None = None


class Outcome(NamedTuple):
    """The result of one run: the first broken law, or an empty string, and counters of what happened."""

    verdict: str
    figures: collections.Counter[str]


def simulate(task: Task, report: Callable[[str], None] = lambda _line: None) -> Outcome:
    """Run one seed to completion and return its outcome."""
    return play(scenario.draw(task.seed, task.minutes, task.deeds, task.replicas), report)


def play(drawn: Scenario, report: Callable[[str], None] = lambda _line: None) -> Outcome:
    """Run one scenario to completion and return its outcome. The scenario itself does not change."""
    timeline = loops.Timeline()
    world = World(copy.deepcopy(drawn), timeline, report=report)
    try:
        verdict = world.run()
    except (AssertionError, loop.Deadlock) as broken:
        verdict = f"{type(broken).__name__}: {broken}"
    except Exception:  # noqa: BLE001 - a crash of the code under test is a finding, with its traceback
        verdict = traceback.format_exc()
    finally:
        timeline.close()
    return Outcome(verdict, world.figures)


def _one(task: Task) -> tuple[int, Outcome]:
    return task.seed, simulate(task)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infrakit.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed only")
    parser.add_argument("--first", type=int, default=1, help="the first seed of a range")
    parser.add_argument("--count", type=int, default=100, help="number of seeds")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="simulated minutes during which faults occur")
    parser.add_argument("--replicas", type=int, help="number of replicas; the seed chooses 1 to 5 by default")
    parser.add_argument(
        "--deeds", type=_deeds, default=scenario.DEEDS, help="allow only these, for example halt,scale,crash"
    )
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="number of parallel processes")
    parser.add_argument("--until-broken", action="store_true", help="stop at the first seed that breaks a law")
    parser.add_argument("--verbose", action="store_true", help="print every event")
    parser.add_argument("--shrink", action="store_true", help="with --seed: find the fewest faults, print the story")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="record what is done in FILE, and continue from it")
    options = parser.parse_args()
    if options.seed is not None:
        task = Task(options.seed, options.minutes, options.deeds, options.replicas)
        if options.shrink:
            return _shrink(task)
        verdict, _figures = simulate(task, print if options.verbose else lambda _line: None)
        print(verdict or f"seed {options.seed}: every law held")
        return bool(verdict)
    try:
        return _many(options)
    except errors.InvalidSpec as error:
        print(error, file=sys.stderr)
        return 2


def _shrink(task: Task) -> int:
    drawn = scenario.draw(task.seed, task.minutes, task.deeds, task.replicas)
    verdict = play(drawn).verdict
    if not verdict:
        print(f"seed {task.seed}: every law held: there is nothing to shrink")
        return 0
    smallest, verdict = shrinking.shrink(drawn, verdict, lambda each: play(each).verdict)
    lines: list[str] = []
    play(smallest, lines.append)
    for line in (*shrinking.describe(smallest), "", *shrinking.story(lines, verdict), "", verdict):
        print(line)
    return 1


def _deeds(text: str) -> Sequence[str]:
    deeds = text.split(",")
    unknown = sorted(set(deeds) - set(scenario.DEEDS))
    if unknown:
        known = ", ".join(dict.fromkeys(scenario.DEEDS))
        raise argparse.ArgumentTypeError(f"unknown deed {unknown[0]!r}; known: {known}")
    return deeds


def _repeat_command(options: argparse.Namespace, seed: int) -> str:
    deeds = "" if options.deeds is scenario.DEEDS else f" --deeds '{','.join(options.deeds)}'"
    replicas = f" --replicas {options.replicas}" if options.replicas else ""
    return f"python -m infrakit.simulation --minutes {options.minutes:g}{replicas}{deeds} --seed {seed} --verbose"


def _many(options: argparse.Namespace) -> int:
    began = time.perf_counter()
    about = f"minutes {options.minutes:g}, replicas {options.replicas or 'any'}, deeds {','.join(options.deeds)}"
    record = progress.Progress(code="", options=about)
    if options.resume is not None:
        record = progress.load(options.resume, about)
    before_s, figures = record.took_s, collections.Counter(record.figures)
    seeds = record.left(range(options.first, options.first + options.count))
    tasks = [Task(seed, options.minutes, options.deeds, options.replicas) for seed in seeds]
    batch: list[int] = []
    with multiprocessing.Pool(options.jobs) as pool:
        for number, (seed, outcome) in enumerate(pool.imap_unordered(_one, tasks, chunksize=4), 1):
            figures.update(outcome.figures)  # adding counters would drop zeros
            record.figures = dict(figures)
            batch.append(seed)
            if outcome.verdict:
                record.broken[str(seed)] = outcome.verdict
                print(f"seed {seed}: {outcome.verdict}")
                print(f"  repeat: {_repeat_command(options, seed)}", flush=True)
            is_last = number == len(tasks) or (options.until_broken and outcome.verdict)
            if is_last or number % SAVE_EVERY == 0:
                record.add(batch)
                batch = []
                record.took_s = before_s + time.perf_counter() - began
                if options.resume is not None:
                    progress.save(options.resume, record)
            if number % 500 == 0:
                print(f"{record.count} seeds, {len(record.broken)} broken, {record.took_s:.0f} s", flush=True)
            if options.until_broken and outcome.verdict:
                break
    print(", ".join(f"{count} {what}" for what, count in record.figures.items()))
    broken = len(record.broken)
    print(
        f"{record.count} seeds of {options.minutes:g} simulated minutes in {record.took_s:.0f} s: {broken} broke a law"
    )
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
