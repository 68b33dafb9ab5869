"""`python -m infrakit.simulation --count 2000`: many seeds; `--seed N --verbose`: one of them again, step by step."""

import argparse
import multiprocessing
import sys
import time
import traceback
from collections.abc import Sequence

from infrakit.simulation import loop, scenario
from infrakit.simulation.world import World


def simulate(seed: int, minutes: float, deeds: Sequence[str] = scenario.DEEDS, *, verbose: bool = False) -> str:
    """Run one seed to its end; the law that was broken, or nothing."""

    async def run() -> str:
        world = World(scenario.draw(seed, minutes, deeds), tell=print if verbose else lambda _line: None)
        return await world.run()

    try:
        return loop.run(run())
    except (AssertionError, loop.Deadlock) as broken:
        return f"{type(broken).__name__}: {broken}"
    except Exception:  # noqa: BLE001 - a crash of the code under test is a finding, with its traceback
        return traceback.format_exc()


def _one(task: tuple[int, float, Sequence[str]]) -> tuple[int, str]:
    return task[0], simulate(*task)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infrakit.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed only")
    parser.add_argument("--first", type=int, default=1, help="the first of many seeds")
    parser.add_argument("--count", type=int, default=100, help="how many seeds")
    parser.add_argument("--minutes", type=float, default=30.0, help="simulated minutes with faults")
    parser.add_argument("--deeds", type=_deeds, default=scenario.DEEDS, help="only these, such as halt,scale,crash")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes")
    parser.add_argument("--verbose", action="store_true", help="tell every event")
    options = parser.parse_args()
    if options.seed is not None:
        verdict = simulate(options.seed, options.minutes, options.deeds, verbose=options.verbose)
        print(verdict or f"seed {options.seed}: every law held")
        return bool(verdict)
    return _many(options)


def _deeds(text: str) -> Sequence[str]:
    deeds = text.split(",")
    unknown = sorted(set(deeds) - set(scenario.DEEDS))
    if unknown:
        known = ", ".join(dict.fromkeys(scenario.DEEDS))
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}; known: {known}")
    return deeds


def _again(options: argparse.Namespace, seed: int) -> str:
    deeds = "" if options.deeds is scenario.DEEDS else f" --deeds '{','.join(options.deeds)}'"
    return f"python -m infrakit.simulation --minutes {options.minutes:g}{deeds} --seed {seed} --verbose"


def _many(options: argparse.Namespace) -> int:
    began, broken = time.perf_counter(), 0
    tasks = [(seed, options.minutes, options.deeds) for seed in range(options.first, options.first + options.count)]
    with multiprocessing.Pool(options.jobs) as pool:
        for done, (seed, verdict) in enumerate(pool.imap_unordered(_one, tasks, chunksize=4), 1):
            if verdict:
                broken += 1
                print(f"seed {seed}: {verdict}")
                print(f"  again: {_again(options, seed)}")
            if done % 500 == 0:
                print(f"{done} seeds, {broken} broken, {time.perf_counter() - began:.0f} s", flush=True)
    took = time.perf_counter() - began
    print(f"{len(tasks)} seeds of {options.minutes:g} simulated minutes in {took:.0f} s: {broken} broke a law")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
