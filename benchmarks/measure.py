"""Measure work in a separate process: wall and CPU seconds, and the peak of resident memory."""

import asyncio
import multiprocessing
import resource
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple


class Figure(NamedTuple):
    """The cost of one run."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def measured(work: Callable[..., Awaitable[None]], *arguments: object) -> Figure:
    """Run `work` in a new process, so that memory of one run does not count for another."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (work, arguments))


def _run(work: Callable[..., Awaitable[None]], arguments: tuple[object, ...]) -> Figure:
    began, cpu = time.perf_counter(), time.process_time()
    asyncio.run(_await(work, arguments))
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Figure(time.perf_counter() - began, time.process_time() - cpu, peak_kb / 1024)


async def _await(work: Callable[..., Awaitable[None]], arguments: tuple[object, ...]) -> None:
    await work(*arguments)
