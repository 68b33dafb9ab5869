"""Run simulated worlds: `--count 2000` runs many seeds, `--seed N --verbose` repeats one and prints every event."""

import argparse
import collections
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

from infrakit.simulation import loop, loops, scenario
from infrakit.simulation.world import World

MINUTES = 30.0


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
    timeline = loops.Timeline()
    world = World(scenario.draw(task.seed, task.minutes, task.deeds, task.replicas), timeline, report=report)
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
    options = parser.parse_args()
    if options.seed is not None:
        task = Task(options.seed, options.minutes, options.deeds, options.replicas)
        verdict, _figures = simulate(task, print if options.verbose else lambda _line: None)
        print(verdict or f"seed {options.seed}: every law held")
        return bool(verdict)
    return _many(options)


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
    began, broken, figures = time.perf_counter(), 0, collections.Counter[str]()
    seeds = range(options.first, options.first + options.count)
    tasks = [Task(seed, options.minutes, options.deeds, options.replicas) for seed in seeds]
    done = 0
    with multiprocessing.Pool(options.jobs) as pool:
        for done, (seed, outcome) in enumerate(pool.imap_unordered(_one, tasks, chunksize=4), 1):
            figures.update(outcome.figures)
            if outcome.verdict:
                broken += 1
                print(f"seed {seed}: {outcome.verdict}")
                print(f"  repeat: {_repeat_command(options, seed)}", flush=True)
                if options.until_broken:
                    break
            if done % 500 == 0:
                print(f"{done} seeds, {broken} broken, {time.perf_counter() - began:.0f} s", flush=True)
    took = time.perf_counter() - began
    print(", ".join(f"{count} {what}" for what, count in figures.items()))
    print(f"{done} seeds of {options.minutes:g} simulated minutes in {took:.0f} s: {broken} broke a law")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
