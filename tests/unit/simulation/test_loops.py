"""Several event loops on one timeline: drifting clocks, stalled processes, and killed processes."""

import asyncio
import gc
import sys
import warnings
from typing import Any

import pytest

from infrakit.simulation.loop import Deadlock
from infrakit.simulation.loops import Livelock, SteppedLoop, Timeline, WallClock
from infrakit.spi import errors


def after(timeline: Timeline, true_s: float) -> None:
    """Advance the time to a given true time."""
    timeline.world.call_at(true_s, lambda: None)
    timeline.run(lambda: timeline.now >= true_s)


def test_a_fast_clock_fires_its_timers_early_in_true_time() -> None:
    timeline = Timeline()
    fired: list[tuple[str, float]] = []
    for name, rate in (("slow", 0.98), ("fast", 1.02)):
        loop = timeline.loop(rate=rate, offset_s=1000.0)
        assert loop.time() == 1000.0

        def fire(name: str = name) -> None:
            fired.append((name, timeline.now))

        loop.call_later(10.0, fire)
    after(timeline, 20.0)
    assert [name for name, _ in fired] == ["fast", "slow"]
    assert [at for _, at in fired] == pytest.approx([10.0 / 1.02, 10.0 / 0.98])


def test_a_clock_is_converted_to_the_true_time_and_back() -> None:
    timeline = Timeline()
    loop = timeline.loop(rate=0.99, offset_s=5e4)
    after(timeline, 123.0)
    assert loop.true_time(loop.time()) == pytest.approx(123.0)
    assert WallClock(timeline, skew_s=0.5).now() - WallClock(timeline).now() == pytest.approx(0.5)


def test_timers_that_are_due_during_a_stall_run_in_order_after_the_process_resumes() -> None:
    timeline = Timeline()
    loop, happened = timeline.loop(), list[tuple[str, float]]()

    async def sleep(for_s: float) -> None:
        await asyncio.sleep(for_s)
        happened.append((f"slept {for_s:g}", timeline.now))

    tasks = [loop.create_task(sleep(for_s)) for for_s in (3.0, 1.0, 2.0, 60.0)]
    timeline.world.call_at(0.5, loop.stall)
    timeline.world.call_at(20.0, lambda: loop.receive(lambda: happened.append(("arrived", timeline.now))))
    timeline.world.call_at(30.0, loop.resume)
    timeline.run(tasks[-1].done)
    assert happened == [
        ("arrived", 30.0),
        ("slept 1", 30.0),
        ("slept 2", 30.0),
        ("slept 3", 30.0),
        ("slept 60", 60.0),
    ]


def test_a_process_can_stall_between_two_steps_of_a_task() -> None:
    timeline = Timeline()
    loop, steps = timeline.loop(), list[float]()

    async def work() -> None:
        for _step in range(4):
            steps.append(timeline.now)
            await asyncio.sleep(0)

    task = loop.create_task(work())
    loop.stall(after=2)
    timeline.world.call_at(10.0, loop.resume)
    timeline.run(task.done)
    assert steps == [0.0, 0.0, 0.0, 10.0]


def test_a_killed_process_takes_no_further_step_and_cleans_nothing_up(recwarn: pytest.WarningsRecorder) -> None:
    timeline = Timeline()
    loop, happened = timeline.loop(), list[str]()

    async def work() -> None:
        try:
            await asyncio.sleep(5.0)
            happened.append("worked")
        finally:
            happened.append("cleaned up" if not timeline.over else "unseen")

    loop.create_task(work())
    timeline.world.call_at(1.0, loop.kill)
    timeline.world.call_at(2.0, lambda: loop.receive(lambda: happened.append("received")))
    after(timeline, 10.0)
    gc.collect()
    assert happened == []
    timeline.close()
    assert happened == ["unseen"]
    gc.collect()
    assert [str(w.message) for w in recwarn] == []


def test_a_killed_generator_cleans_up_only_after_the_end() -> None:
    timeline = Timeline()
    loop, closed = timeline.loop(), list[bool]()

    async def numbers() -> object:
        try:
            while True:
                await asyncio.sleep(1.0)
                yield 1
        finally:
            closed.append(timeline.over)

    async def work() -> None:
        async for _number in numbers():  # type: ignore[attr-defined]
            pass

    loop.create_task(work())
    after(timeline, 2.5)
    loop.kill()
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        timeline.close()
    assert closed == [True]


def test_a_callback_that_fails_ends_the_run() -> None:
    timeline = Timeline()
    timeline.loop().call_later(1.0, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        after(timeline, 2.0)


def test_a_deadlock_is_a_finding_and_does_not_hang() -> None:
    timeline = Timeline()
    task = timeline.loop().create_task(asyncio.sleep(1.0))
    timeline.run(task.done)
    with pytest.raises(Deadlock):
        timeline.run(lambda: False)


def test_a_livelock_is_a_finding_too() -> None:
    timeline = Timeline()
    loop = timeline.loop()

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - the fault that is meant
            await asyncio.sleep(0)

    loop.create_task(spin())
    with pytest.raises(Livelock):
        after(timeline, 1.0)
    timeline.close()


def test_the_running_loop_is_restored() -> None:
    async def run() -> None:
        outer = asyncio.get_running_loop()
        timeline, seen = Timeline(), list[object]()
        loop = timeline.loop()
        loop.call_soon(lambda: seen.append(asyncio.get_running_loop()))
        after(timeline, 1.0)
        assert seen == [loop]
        assert isinstance(seen[0], SteppedLoop)
        assert asyncio.get_running_loop() is outer

    asyncio.run(run())


@pytest.mark.parametrize("call", [1, 2])
def test_a_signal_as_a_step_begins_or_ends_leaves_no_running_loop(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, a test that times out would fail every later test of its process."""
    timeline, hook, calls = Timeline(), sys.set_asyncgen_hooks, list[int]()

    def interrupted(*hooks: Any) -> None:
        hook(*hooks)
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt

    timeline.loop().call_soon(lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "set_asyncgen_hooks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            after(timeline, 1.0)
    assert asyncio._get_running_loop() is None
    assert sys.get_asyncgen_hooks() == (None, None)


def test_tasks_are_cancelled_in_the_same_order_in_every_run() -> None:
    """asyncio keeps the tasks of a group in a set."""

    def order() -> list[int]:
        timeline, cancelled = Timeline(), list[int]()
        loop = timeline.loop()

        async def wait(number: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(number)

        async def run() -> None:
            async with asyncio.TaskGroup() as tasks:
                for number in range(50):
                    tasks.create_task(wait(number))
                await asyncio.sleep(1.0)
                raise errors.Unreachable("connection refused", where="store")

        running = loop.create_task(run())
        after(timeline, 2.0)
        assert isinstance(running.exception(), ExceptionGroup)
        timeline.close()
        return cancelled

    assert order() == order() == list(range(50))
