"""The socket as a file: whose it is, when it is replaced, and when never."""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infrakit.rpc import call
from infrakit.rpc.server import Server
from infrakit.rpc.unix import bind
from infrakit.spi import errors
from infrakit.spi.manager import Manager
from tests.integration.rpc.daemons import DEADLINE_S, ask
from tests.unit.cli.canned import CannedManager

DAEMON = """
import asyncio, sys
from pathlib import Path
from infrakit.rpc.server import Server

async def main():
    async with Server(Path(sys.argv[1]), {}):
        print("serving", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


async def answers(path: Path) -> bool:
    answer: str = await ask(path, Manager.show, version=1)
    return bool(answer)


async def test_only_its_owner_can_reach_it(path: Path) -> None:
    before = os.umask(0)
    try:
        async with Server(path, {}):
            assert mode(path) == 0o600
            assert mode(path.parent) == 0o700
    finally:
        os.umask(before)


async def test_the_umask_is_as_before(path: Path) -> None:
    before = os.umask(0o027)
    try:
        bind(path).close()
        with pytest.raises(errors.Refused):
            bind(path.parent)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


async def test_a_directory_that_is_there_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    async with Server(path, {}):
        assert mode(path.parent) == 0o755
        assert mode(path) == 0o600


async def test_the_process_is_named_beside_it_and_both_go_with_it(path: Path) -> None:
    async with Server(path, {}):
        assert (path.parent / "p.pid").read_text() == str(os.getpid())
    assert list(path.parent.iterdir()) == []


async def test_what_a_killed_process_left_is_replaced(path: Path) -> None:
    _serve_and_die(path)
    async with Server(path, {".": CannedManager()}):
        assert await answers(path)
        assert (path.parent / "p.pid").read_text() == str(os.getpid())


def _serve_and_die(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", DAEMON, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        with pytest.raises(errors.Refused, match=r"another process listens at .*; stop it first"):
            bind(path)
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE_S)
    assert path.is_socket()


async def test_a_live_one_is_never_stolen(path: Path) -> None:
    async with Server(path, {".": CannedManager()}):
        for _ in range(3):
            with pytest.raises(errors.Refused, match="another process listens"):
                await Server(path, {}).__aenter__()
        assert await answers(path)


async def test_a_link_to_a_live_one_is_not_replaced(path: Path) -> None:
    async with Server(path, {".": CannedManager()}):
        link = path.with_name("link")
        link.symlink_to(path)
        with pytest.raises(errors.Refused, match="another process listens"):
            bind(link)
        assert await answers(link)


def test_a_link_to_nothing_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to("nowhere")
    with bind(path):
        assert path.is_socket()
        assert not path.is_symlink()


async def test_of_many_that_start_at_once_one_serves(path: Path) -> None:
    """They all find the same stale socket; nobody replaces the one of who was first."""
    path.parent.mkdir()
    for _ in range(20):
        _leave_stale(path)
        found = await asyncio.gather(*(asyncio.to_thread(bind, path) for _ in range(8)), return_exceptions=True)
        bound = [each for each in found if isinstance(each, socket.socket)]
        refused = [each for each in found if isinstance(each, errors.Refused)]
        assert (len(bound), len(refused)) == (1, 7)
        with bound[0], socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
            bound[0].accept()[0].close()  # who calls reaches exactly that one


def _leave_stale(path: Path) -> None:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(path))


@pytest.mark.parametrize("kind", ["file", "directory", "pipe"])
def test_what_is_no_socket_is_not_removed(path: Path, kind: str) -> None:
    path.parent.mkdir()
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case _:
            os.mkfifo(path)
    before = path.lstat()
    with pytest.raises(errors.Refused, match="exists and is not a socket; move it elsewhere"):
        bind(path)
    assert os.path.samestat(path.lstat(), before)


def test_a_path_too_long_is_refused_before_anything_is_made(path: Path) -> None:
    with pytest.raises(errors.Refused, match="too long"):
        bind(path.with_name("p" * 100))
    assert not path.parent.exists()


def test_one_that_is_too_busy_to_answer_is_alive(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as busy, contextlib.ExitStack() as stack:
        busy.bind(str(path))
        busy.listen(0)
        while True:  # until the kernel turns callers away
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            waiting.setblocking(False)
            try:
                waiting.connect(str(path))
            except BlockingIOError:
                break
        with pytest.raises(errors.Refused, match="another process listens"):
            bind(path)
        with pytest.raises(errors.Unreachable, match="temporarily unavailable"):
            call.call(path, Manager.show, version=1)


async def test_what_somebody_else_put_in_its_place_stays(path: Path) -> None:
    other = None
    try:
        async with Server(path, {}):
            other = _take_over(path)
            (path.parent / "p.pid").write_text("4711")
        assert mode(path) == 0o600
        assert (path.parent / "p.pid").read_text() == "4711"
    finally:
        if other is not None:
            other.close()


def _take_over(path: Path) -> socket.socket:
    path.unlink()
    return bind(path)


async def test_a_start_that_fails_leaves_nothing(path: Path) -> None:
    (path.parent / "p.pid").mkdir(parents=True)  # where the number of the process belongs
    before = asyncio.all_tasks()
    with pytest.raises(IsADirectoryError):
        await Server(path, {}).__aenter__()
    with pytest.raises(FileNotFoundError):
        mode(path)
    assert asyncio.all_tasks() == before
    (path.parent / "p.pid").rmdir()
    async with Server(path, {".": CannedManager()}):
        assert await answers(path)


async def test_after_the_stop_nobody_is_there(path: Path) -> None:
    async with Server(path, {".": CannedManager()}):
        assert await answers(path)
    with pytest.raises(errors.Unreachable):
        await answers(path)
