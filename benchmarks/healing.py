"""300 of 1,000 instances die at once: until all are back and proven healthy."""

import time

from benchmarks.cluster import cluster
from benchmarks.measure import measured


async def heal(size: int, dead: int) -> None:
    async with cluster() as made:
        await made.declare(size)
        await made.converged()
        for machine in made.simulator.live()[:dead]:
            made.simulator.kill(machine.id)
        began, cpu = time.perf_counter(), time.process_time()
        controller = next(iter(made.replica.term.controllers.values()))  # type: ignore[union-attr]
        await controller.cycle()
        await made.converged()
        took, used = time.perf_counter() - began, time.process_time() - cpu
        print(f"healing {dead} of {size:,}: {took:.2f} s wall, {used:.2f} s CPU")


def main() -> None:
    measured(heal, 1_000, 300)


if __name__ == "__main__":
    main()
