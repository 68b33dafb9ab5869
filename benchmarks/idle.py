"""The cost of one reconcile cycle of a converged group; a cycle runs once a second."""

import asyncio
import time
import tracemalloc

from benchmarks.cluster import cluster
from benchmarks.measure import measured

CYCLES = 20


async def idle(size: int) -> None:
    async with cluster() as running_cluster:
        await running_cluster.declare(size)
        await running_cluster.converged()
        controller = next(iter(running_cluster.replica.term.controllers.values()))  # type: ignore[union-attr]
        controller.poll_s = 3600.0  # its own loop waits: two cycles at once would share the probes
        await asyncio.sleep(3.0)
        cpu = time.process_time()
        for _ in range(CYCLES):
            await controller.cycle()
        cost_s = (time.process_time() - cpu) / CYCLES
        tracemalloc.start()
        before = tracemalloc.take_snapshot()
        await controller.cycle()
        kept = sum(s.size_diff for s in tracemalloc.take_snapshot().compare_to(before, "filename"))
        _, peak = tracemalloc.get_traced_memory()
        share = cost_s / 1.0 * 100
        versus = f"   original: 90 % (ratio {share / 90:.3f})" if size == 10_000 else ""
        print(
            f"  {size:6,}  {cost_s * 1e3:6.2f} ms CPU a cycle = {share:4.1f} % of a core at a 1 s poll; "
            f"{peak / 1024:,.0f} kB at the peak, {kept / 1024:,.0f} kB kept{versus}"
        )


def main() -> None:
    print("an idle cycle")
    for size in (1_000, 10_000):
        measured(idle, size)


if __name__ == "__main__":
    main()
