"""The socket as a file: its permissions, when it is replaced, and when never."""

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
from tests.integration.rpc.daemons import DEADLINE_S, call_in_thread
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
    answer: str = await call_in_thread(path, Manager.show, version=1)
    return bool(answer)


async def test_only_the_owner_can_access_the_socket(path: Path) -> None:
    before = os.umask(0)
    try:
        async with Server(path, {}):
            assert mode(path) == 0o600
            assert mode(path.parent) == 0o700
    finally:
        os.umask(before)


async def test_the_umask_is_restored(path: Path) -> None:
    before = os.umask(0o027)
    try:
        bind(path).close()
        with pytest.raises(errors.Refused):
            bind(path.parent)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


async def test_an_existing_directory_is_left_unchanged(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    async with Server(path, {}):
        assert mode(path.parent) == 0o755
        assert mode(path) == 0o600


async def test_the_pid_file_is_created_and_removed_with_the_socket(path: Path) -> None:
    async with Server(path, {}):
        assert (path.parent / "p.pid").read_text() == str(os.getpid())
    assert list(path.parent.iterdir()) == []


async def test_the_socket_of_a_killed_process_is_replaced(path: Path) -> None:
    _serve_and_kill(path)
    async with Server(path, {".": CannedManager()}):
        assert await answers(path)
        assert (path.parent / "p.pid").read_text() == str(os.getpid())


def _serve_and_kill(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", DAEMON, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        with pytest.raises(errors.Refused, match=r"another process listens at .*; stop it first"):
            bind(path)
        process.send_signal(signal.SIGKILL)
        process.wait(DEADLINE_S)
    assert path.is_socket()


async def test_a_live_socket_is_never_replaced(path: Path) -> None:
    async with Server(path, {".": CannedManager()}):
        for _ in range(3):
            with pytest.raises(errors.Refused, match="another process listens"):
                await Server(path, {}).__aenter__()
        assert await answers(path)


async def test_a_link_to_a_live_socket_is_not_replaced(path: Path) -> None:
    async with Server(path, {".": CannedManager()}):
        link = path.with_name("link")
        link.symlink_to(path)
        with pytest.raises(errors.Refused, match="another process listens"):
            bind(link)
        assert await answers(link)


def test_a_dangling_link_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to("nowhere")
    with bind(path):
        assert path.is_socket()
        assert not path.is_symlink()


async def test_one_of_many_concurrent_starts_gets_the_socket(path: Path) -> None:
    """All of them find the same stale socket; none replaces the socket of the first."""
    path.parent.mkdir()
    for _ in range(20):
        _leave_stale(path)
        found = await asyncio.gather(*(asyncio.to_thread(bind, path) for _ in range(8)), return_exceptions=True)
        bound = [each for each in found if isinstance(each, socket.socket)]
        refused = [each for each in found if isinstance(each, errors.Refused)]
        assert (len(bound), len(refused)) == (1, 7)
        with bound[0], socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
            bound[0].accept()[0].close()  # callers reach exactly that socket


def _leave_stale(path: Path) -> None:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
        stale.bind(str(path))


@pytest.mark.parametrize("kind", ["file", "directory", "pipe"])
def test_a_file_that_is_not_a_socket_is_not_removed(path: Path, kind: str) -> None:
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


def test_a_path_too_long_is_refused_before_anything_is_created(path: Path) -> None:
    with pytest.raises(errors.Refused, match="too long"):
        bind(path.with_name("p" * 100))
    assert not path.parent.exists()


def test_a_socket_with_a_full_backlog_is_live(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as busy, contextlib.ExitStack() as stack:
        busy.bind(str(path))
        busy.listen(0)
        while True:  # until the kernel rejects connections
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


async def test_the_socket_of_another_process_is_not_removed(path: Path) -> None:
    other = None
    try:
        async with Server(path, {}):
            other = _replace_socket(path)
            (path.parent / "p.pid").write_text("4711")
        assert mode(path) == 0o600
        assert (path.parent / "p.pid").read_text() == "4711"
    finally:
        if other is not None:
            other.close()


def _replace_socket(path: Path) -> socket.socket:
    path.unlink()
    return bind(path)


async def test_a_failed_start_leaves_nothing_behind(path: Path) -> None:
    (path.parent / "p.pid").mkdir(parents=True)  # in place of the PID file
    before = asyncio.all_tasks()
    with pytest.raises(IsADirectoryError):
        await Server(path, {}).__aenter__()
    with pytest.raises(FileNotFoundError):
        mode(path)
    assert asyncio.all_tasks() == before
    (path.parent / "p.pid").rmdir()
    async with Server(path, {".": CannedManager()}):
        assert await answers(path)


async def test_a_stopped_server_is_unreachable(path: Path) -> None:
    async with Server(path, {".": CannedManager()}):
        assert await answers(path)
    with pytest.raises(errors.Unreachable):
        await answers(path)
