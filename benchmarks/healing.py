"""Healing: 300 of 1,000 instances terminate at once; the time until all are replaced and healthy."""

import time

from benchmarks.cluster import cluster
from benchmarks.measure import measured


async def heal(size: int, terminated: int) -> None:
    async with cluster() as running_cluster:
        await running_cluster.declare(size)
        await running_cluster.converged()
        for machine in running_cluster.simulator.live()[:terminated]:
            running_cluster.simulator.kill(machine.id)
        began, cpu = time.perf_counter(), time.process_time()
        controller = next(iter(running_cluster.replica.term.controllers.values()))  # type: ignore[union-attr]
        controller.wake("instances have terminated")  # a second cycle beside its own would write the census twice
        await running_cluster.diverged()
        await running_cluster.converged()
        took, used = time.perf_counter() - began, time.process_time() - cpu
        print(f"healing {terminated} of {size:,}: {took:.2f} s wall, {used:.2f} s CPU")


def main() -> None:
    measured(heal, 1_000, 300)


if __name__ == "__main__":
    main()
