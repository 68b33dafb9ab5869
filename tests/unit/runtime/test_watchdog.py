"""The watchdog: systemd is notified as long as there is progress."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from infrakit.runtime import watchdog
from tests.stage import in_virtual_time

TIMEOUT_S = 60.0


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The receiving end of systemd's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def environ(receiver: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": receiver.getsockname(), "WATCHDOG_USEC": f"{TIMEOUT_S * 1e6:.0f}"} | more


def received(receiver: socket.socket) -> list[bytes]:
    messages = []
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(receiver.recv(100))
    return messages


def rename(old: str, new: str) -> None:
    Path(old).rename(new)


@in_virtual_time
async def test_systemd_is_notified_twice_in_its_timeout_until_there_is_no_progress(systemd: socket.socket) -> None:
    loop, reasons = asyncio.get_running_loop(), list[str]()
    progressed_at = float("inf")  # nothing to do
    feeding = loop.create_task(watchdog.feed(lambda: progressed_at, reasons.append, environ(systemd)))
    await asyncio.sleep(4 * TIMEOUT_S + 1)
    assert received(systemd) == [b"WATCHDOG=1"] * 9  # the queue of the socket has room for a few more
    progressed_at = loop.time()
    await asyncio.sleep(watchdog.STALLED_S + TIMEOUT_S)
    received(systemd)
    await asyncio.sleep(10 * TIMEOUT_S)
    assert received(systemd) == []
    assert reasons == ["no cycle has started for 329 s: the watchdog will restart this daemon"]
    progressed_at = loop.time()
    await asyncio.sleep(TIMEOUT_S)
    assert received(systemd) == [b"WATCHDOG=1"] * 2
    feeding.cancel()


@in_virtual_time
async def test_a_systemd_that_does_not_listen_is_notified_again(systemd: socket.socket) -> None:
    variables = environ(systemd)
    path = variables["NOTIFY_SOCKET"]
    rename(path, path + ".hidden")
    feeding = asyncio.get_running_loop().create_task(watchdog.feed(lambda: float("inf"), lambda _: None, variables))
    await asyncio.sleep(TIMEOUT_S)
    rename(path + ".hidden", path)
    await asyncio.sleep(TIMEOUT_S)
    assert received(systemd)
    assert not feeding.done()
    feeding.cancel()


@pytest.mark.parametrize(
    "more",
    [
        {"NOTIFY_SOCKET": ""},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_PID": str(os.getppid())},
    ],
)
@in_virtual_time
async def test_without_a_watchdog_nothing_is_sent(systemd: socket.socket, more: dict[str, str]) -> None:
    await asyncio.wait_for(watchdog.feed(lambda: 0.0, lambda _: None, environ(systemd) | more), 1)
    assert received(systemd) == []


def test_half_of_the_timeout_is_the_interval() -> None:
    variables = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}
    assert watchdog.interval_s(variables, 7) == 15.0
