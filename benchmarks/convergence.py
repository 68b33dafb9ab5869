"""Convergence from 0 to N simulated instances, including durable intents and events."""

from benchmarks.cluster import cluster
from benchmarks.measure import measured
from infrakit.instances.simulator import Faults, Spread

ORIGINAL = {1_000: "0.84 s wall", 10_000: "10.8 s wall, 11 s CPU, 540 to 1,040 MB"}


async def converge(size: int, latency_s: float = 0.0) -> None:
    async with cluster(Faults(provision=Spread(low=latency_s, high=latency_s))) as running_cluster:
        await running_cluster.declare(size)
        await running_cluster.converged()


def main() -> None:
    base = measured(converge, 0)
    print(f"convergence of N instances (an empty process: {base.cpu_s:.2f} s CPU, {base.peak_mb:.0f} MB)")
    for size in (10, 100, 1_000, 10_000):
        figure = measured(converge, size)
        versus = f"   original: {ORIGINAL[size]}" if size in ORIGINAL else ""
        print(
            f"  {size:6,}  {figure.wall_s:6.2f} s wall  {figure.cpu_s:6.2f} s CPU  {figure.peak_mb:5.0f} MB"
            f"  {figure.cpu_s / size * 1e6 if size else 0:6.0f} us CPU each{versus}"
        )
        if size == 10_000:
            print(f"          ratio to the original: wall {figure.wall_s / 10.8:.2f}, CPU {figure.cpu_s / 11:.2f}, "
                  f"memory {figure.peak_mb / 540:.2f} to {figure.peak_mb / 1040:.2f}")  # fmt: skip
        if size == 1_000:
            print(f"          ratio to the original: wall {figure.wall_s / 0.84:.2f}")
    slow = measured(converge, 1_000, 2.0)
    print(f"   1,000 with 2 s a creation: {slow.wall_s:.2f} s wall, {slow.cpu_s:.2f} s CPU")


if __name__ == "__main__":
    main()
