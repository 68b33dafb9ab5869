"""InfraKit as users run it, seen from outside: daemons, plugins and commands as processes, called at their sockets.

Nothing of InfraKit is imported, and groups are committed in the protocol of the original InfraKit. So the same script
measures both: `python -m benchmarks.outside --original BINARY`. Without a binary, figures of the original that were
measured on a similar machine stand beside ours. CPU and memory are those of all processes together.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import processes
from benchmarks.processes import Processes, until

RUNS = 3  # of each figure; the median counts
COMMANDS = 10
SETTLE_S = 70.0  # after converging: the simulator promises complete listings after 30 s, and a plan lasts 30 s
IDLE_S = 20.0
TERMINATED = 300
LINES, VARIABLES = 200, 1_000
BARE = "import infrakit.cli.main, infrakit.rpc.call"  # what every command of ours loads


class Figure(NamedTuple):
    """The original's figure, as measured on a similar machine, and the goal: a ratio to it, or a figure of ours."""

    unit: str
    original: float
    ratio_max: float = 0.0
    figure_max: float = 0.0


FIGURES = {
    "one process, 10,000: wall": Figure("s", 5.4, ratio_max=0.3),
    "one process, 10,000: CPU": Figure("s", 8.1, ratio_max=0.15),
    "one process, 10,000: peak memory": Figure("MB", 865, ratio_max=0.12),
    "one process, 10,000: idle": Figure("% of a core", 78, figure_max=2.0),
    "own processes, 1,000: wall": Figure("s", 0.89, ratio_max=0.6),
    "own processes, 1,000: CPU": Figure("s", 0.73, ratio_max=0.5),
    "own processes, 1,000: idle": Figure("% of a core", 7.3, figure_max=1.5),
    "own processes, 1,000: heal 300": Figure("s", 0.52, figure_max=0.3),
}
COMMAND_FIGURES = {"plugin ls": (28.0, 3.0), "template": (34.0, 4.0)}  # ms of the original; goal, in bare interpreters


class Product(NamedTuple):
    """How one InfraKit is run: the arguments of its processes."""

    program: str
    daemon: tuple[str, ...]  # one process that is everything
    controller: tuple[tuple[str, ...], ...]  # without the plugins
    plugins: tuple[tuple[str, ...], ...]  # each in a process of its own
    simulator: str
    prints_converged: bool

    def converged(self, run: Processes, manager: Path, times: int) -> bool:
        """Whether the group has converged for the given number of times; ours prints it, the original is asked."""
        if self.prints_converged:
            return run.output.count(b" converged ") >= times
        group = processes.call(manager, "Group.DescribeGroup", Name="group/groups", ID="workers")["Description"]
        return bool(group["Converged"])


def ours(program: str) -> Product:
    plugins = (("plugin", "start", "simulator"), ("plugin", "start", "vanilla"))
    return Product(program, ("up",), (("up",),), plugins, "simulator", prints_converged=True)


def original(program: str) -> Product:
    start = ("plugin", "start")
    return Product(
        program,
        daemon=(*start, "manager", "vars", "group", "vanilla", "simulator"),
        controller=((*start, "manager"), (*start, "vars"), (*start, "group")),
        plugins=((*start, "vanilla"), (*start, "simulator")),
        simulator="simulator/compute",
        prints_converged=False,
    )


def environment() -> dict[str, str]:
    """The environment of a user: with byte code, output buffered as usual, and a poll each second."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("INFRAKIT_", "PYTHONDONT", "PYTHONUNB"))}
    return inherited | {"INFRAKIT_GROUP_POLL_INTERVAL": "1s"}


def started(product: Product, home: Path, *, own_processes: bool) -> Processes:
    (home / "leader").write_text("manager1")  # the original's leader file
    (home / "configs").mkdir()
    (home / "plugins").mkdir()
    run = Processes(home, environment())
    for plugin in product.plugins if own_processes else ():
        run.start([product.program, *plugin])
    for name in ("simulator", "vanilla") if own_processes else ():
        run.until_serving(name)
    for each in product.controller if own_processes else (product.daemon,):
        run.start([product.program, *each])
    return run


def commit(product: Product, manager: Path, size: int) -> None:
    properties: dict[str, dict[str, object]] = {
        "Allocation": {"Size": size},
        "Instance": {"Plugin": product.simulator, "Properties": {"note": "v1"}},
        "Flavor": {"Plugin": "vanilla", "Properties": {"Init": ["true"]}},
    }
    if product.prints_converged:
        properties["Instance"] |= {"MaxInFlight": 1000}  # the original has no limit
    spec = {"ID": "workers", "Properties": properties}
    processes.call(manager, "Group.CommitGroup", Name="group/groups", Spec=spec, Pretend=False)


def idle(run: Processes) -> float:
    """The share of a core that the processes use once everything has settled, in percent."""
    time.sleep(SETTLE_S)
    began, cpu_s = time.perf_counter(), run.cpu_s()
    time.sleep(IDLE_S)
    return (run.cpu_s() - cpu_s) / (time.perf_counter() - began) * 100


def one_process(product: Product, home: Path, *, rests: bool) -> dict[str, float]:
    """From the start of the process until 10,000 instances have converged."""
    began = time.perf_counter()
    with started(product, home, own_processes=False) as run:
        manager = run.until_serving("group")
        commit(product, manager, 10_000)
        until(lambda: product.converged(run, manager, 1), "10,000 instances converge")
        name = "one process, 10,000"
        found = {f"{name}: wall": time.perf_counter() - began, f"{name}: CPU": run.cpu_s()}
        found[f"{name}: peak memory"] = run.peak_mb()
        return found | ({f"{name}: idle": idle(run)} if rests else {})


def own_processes(product: Product, home: Path, *, rests: bool) -> dict[str, float]:
    """From the commit until 1,000 instances have converged; then 300 are destroyed at the simulator's socket."""
    with started(product, home, own_processes=True) as run:
        manager = run.until_serving("group")
        name, began, cpu_s = "own processes, 1,000", time.perf_counter(), run.cpu_s()
        commit(product, manager, 1_000)
        until(lambda: product.converged(run, manager, 1), "1,000 instances converge")
        found = {f"{name}: wall": time.perf_counter() - began, f"{name}: CPU": run.cpu_s() - cpu_s}
        if rests:
            found[f"{name}: idle"] = idle(run)
        found[f"{name}: heal 300"] = heal(product, run, manager)
        return found


def heal(product: Product, run: Processes, manager: Path) -> float:
    """From the last of 300 destructions at the provider until the group has converged again, in seconds."""
    simulator = run.until_serving("simulator")
    type_ = product.simulator.partition("/")[2]
    tags = {"infrakit.group": "workers"}

    def listed() -> set[str]:
        answer = processes.call(simulator, "Instance.DescribeInstances", Type=type_, Tags=tags, Properties=False)
        return {each["ID"] for each in answer["Descriptions"]}

    for instance in sorted(listed())[:TERMINATED]:
        processes.call(simulator, "Instance.Destroy", Type=type_, Instance=instance, Context={"Reason": "terminate"})
    began = time.perf_counter()
    if product.prints_converged:
        until(lambda: product.converged(run, manager, 2), "300 instances are replaced")
    else:
        until(lambda: len(listed()) == 1_000 and product.converged(run, manager, 2), "300 instances are replaced")
    return time.perf_counter() - began


def command_times(program: str) -> dict[str, tuple[float, float]]:
    """The median wall time of each command in ms, and of a bare interpreter in turn with it."""
    with tempfile.TemporaryDirectory(prefix="ik") as directory:
        home = Path(directory)
        lines = (f"line {n} {{{{ var('v{n}') }}}} and {{{{ var('v{n + LINES}') }}}}\n" for n in range(LINES))
        (home / "template").write_text("".join(lines))
        (home / "variables.json").write_text(json.dumps({f"v{n}": f"value {n}" for n in range(VARIABLES)}))
        of = {
            "plugin ls": [program, "plugin", "ls"],
            "template": [program, "template", str(home / "template"), "--vars", str(home / "variables.json")],
        }
        env = environment() | {"INFRAKIT_HOME": directory}
        pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in of}
        for number in range(COMMANDS + 1):
            for name, command in of.items():
                bare_s, _ = processes.measured([sys.executable, "-c", BARE], env)
                took_s, _ = processes.measured(command, env)
                if number:  # the first run only compiles
                    pairs[name].append((took_s, bare_s))
    return {
        name: (statistics.median(a for a, _ in some) * 1e3, statistics.median(a / b for a, b in some))
        for name, some in pairs.items()
    }


def figures(product: Product) -> dict[str, float]:
    """The median of every figure."""
    found: dict[str, list[float]] = {}
    for number in range(RUNS):
        for measure in (one_process, own_processes):
            home = Path(tempfile.mkdtemp(prefix="ik"))
            for name, value in measure(product, home, rests=number == 0).items():
                found.setdefault(name, []).append(value)
            shutil.rmtree(home)
    return {name: statistics.median(values) for name, values in found.items()}


def report(found: dict[str, float], theirs: dict[str, float]) -> Iterator[str]:
    for name, figure in FIGURES.items():
        value, compared = found[name], theirs.get(name, figure.original)
        ratio = value / compared
        is_reached = ratio < figure.ratio_max if figure.ratio_max else value < figure.figure_max
        goal = f"ratio < {figure.ratio_max:g}" if figure.ratio_max else f"< {figure.figure_max:g} {figure.unit}"
        yield (
            f"{name:38}{value:8.2f} {figure.unit:12} original {compared:7.2f}   ratio {ratio:5.2f}   "
            f"goal {goal}{'' if is_reached else ': missed'}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--infrakit", default=shutil.which("infrakit") or str(Path(sys.executable).with_name("infrakit"))
    )
    parser.add_argument("--original", metavar="BINARY", help="the original's program, to measure it here, too")
    chosen = parser.parse_args()
    print("InfraKit from outside, as users run it")
    theirs = figures(original(chosen.original)) if chosen.original else {}
    for line in report(figures(ours(chosen.infrakit)), theirs):
        print(f"  {line}")
    for name, (took_ms, ratio) in command_times(chosen.infrakit).items():
        published_ms, goal = COMMAND_FIGURES[name]
        missed = "" if ratio < goal else ": missed"
        print(
            f"  {name:38}{took_ms:8.0f} ms           original {published_ms:7.0f}   "
            f"{ratio:.1f} bare interpreters   goal < {goal:g}{missed}"
        )


if __name__ == "__main__":
    main()
