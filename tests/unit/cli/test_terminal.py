"""Colours, wrapping, broken pipes and Ctrl-C, on a real terminal device and real pipes."""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from pathlib import Path

import click
import msgspec
import pytest

import infrakit
from tests.unit.cli import canned
from tests.unit.cli.canned import CannedManager
from tests.unit.cli.command_line import CommandLine


async def on_terminal(
    cli: CommandLine,
    *arguments: str,
    columns: int = 80,
    keys: bytes = b"",
    resize: tuple[asyncio.Event, int] | None = None,
    interrupt: asyncio.Event | None = None,
) -> tuple[int, str]:
    """Run on a terminal of that width; returns the exit code and what the terminal received."""
    leader, follower = pty.openpty()
    _resize(follower, columns)
    process = await cli.start(*arguments, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    os.write(leader, keys)

    def read() -> bytes:
        received = b""
        while True:
            try:
                received += os.read(leader, 65536)
            except OSError:  # the last process has closed the terminal
                return received

    try:
        reading = asyncio.create_task(asyncio.to_thread(read))
        if resize is not None:
            await asyncio.wait_for(resize[0].wait(), 150)
            _resize(leader, resize[1])
        if interrupt is not None:
            await asyncio.wait_for(interrupt.wait(), 150)
            process.send_signal(signal.SIGINT)
        received = await asyncio.wait_for(reading, 150)
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(leader)
    return code, received.decode()


def _resize(terminal: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


async def test_a_terminal_receives_colours_and_lines_that_fit(cli: CommandLine, manager: CannedManager) -> None:
    manager.groups[1] = canned.HEALING
    cli.environment["NO_COLOR"] = ""  # empty counts as not set
    cli.environment["TERM"] = "xterm"
    code, received = await on_terminal(cli, "status")
    assert code == 2
    assert "\x1b[32mconverged\x1b[0m" in received
    cli.environment["NO_COLOR"] = "1"
    _, plain = await on_terminal(cli, "status")
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) <= 80
    assert " ".join(canned.WAIT.reason.split()) in " ".join(plain.split())


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
async def test_no_colours_if_no_color_or_a_dumb_terminal_is_set(
    cli: CommandLine, manager: CannedManager, name: str, value: str
) -> None:
    cli.environment |= {"TERM": "xterm"} | {name: value}
    for command in (["status"], ["instance", "ls"], ["group", "describe", "web"], ["why", "web"]):
        assert "\x1b" not in (await on_terminal(cli, *command))[1]


async def test_only_a_terminal_receives_colours(cli: CommandLine, manager: CannedManager) -> None:
    manager.groups[1] = canned.HEALING
    cli.environment["TERM"] = "xterm"
    assert "\x1b" not in (await cli("status")).out


@pytest.mark.parametrize("columns", [40, 80, 200])
async def test_tables_fit_the_terminal(cli: CommandLine, manager: CannedManager, columns: int) -> None:
    cli.environment |= {"TERM": "xterm", "NO_COLOR": "1"}
    _, received = await on_terminal(cli, "history", columns=columns)
    assert "launch" in received
    _, received = await on_terminal(cli, "instance", "ls", columns=columns)
    rows = [line for line in received.splitlines() if not line.startswith(" ")]
    assert [row.split()[0] for row in rows[:4]] == ["INSTANCE", "web-1", "store-1", "-"]
    assert max(map(len, rows)) <= max(columns, 57)  # the width of the columns that are never dropped
    assert ("NOTE" in received) == (columns >= 80)
    assert ("(this controller runs here) tcp 127.0.0.1:8001 answers" in received) == (columns == 200)


async def test_the_note_of_an_unhealthy_instance_is_always_shown(cli: CommandLine, manager: CannedManager) -> None:
    why = "it has not answered since it was created, and nothing listens at its port"
    manager.listed = (msgspec.structs.replace(canned.MEMBERS[1], note=why), canned.MEMBERS[0])
    cli.environment |= {"TERM": "xterm", "NO_COLOR": "1"}
    _, received = await on_terminal(cli, "instance", "ls", columns=60)
    assert f"store-1: unhealthy: {why}" in " ".join(received.split())
    assert max(map(len, received.splitlines())) <= 60
    assert why in (await cli("instance", "ls")).out
    assert "store-1: unhealthy" not in (await cli("instance", "ls")).out


async def test_events_and_errors_are_wrapped_between_words(cli: CommandLine, manager: CannedManager) -> None:
    cli.environment |= {"TERM": "xterm", "NO_COLOR": "1"}
    for command in (["events"], ["ps"], ["group", "free", "none-of-them"]):
        _, received = await on_terminal(cli, *command, columns=60)
        whole = await cli(*command)
        assert max(map(len, received.splitlines())) <= 60, received
        words = (whole.out + whole.err).split()
        assert max(map(len, words)) > 5
        assert received.split() == words  # no word is split


async def test_a_misspelt_group_is_reported_before_the_confirmation(cli: CommandLine, manager: CannedManager) -> None:
    code, received = await on_terminal(cli, "group", "destroy", "wbe", keys=b"y\n")
    assert code == 1
    assert "there is no group 'wbe'" in received
    assert "[y/N]" not in received


async def test_a_question_is_not_broken_inside_a_word(cli: CommandLine, manager: CannedManager) -> None:
    _, received = await on_terminal(cli, "group", "destroy", "web", columns=40, keys=b"n\n")
    prompt = received[: received.index("[y/N]:") + len("[y/N]:")].splitlines()
    assert len(prompt) > 1
    assert max(map(len, prompt)) <= 40
    assert " ".join(prompt).endswith("Destroy every instance of web, keeping its volumes? [y/N]:")


@pytest.mark.parametrize(("answer", "code", "orders"), [(b"y\n", 0, 1), (b"n\n", 2, 0), (b"\n", 2, 0)])
async def test_a_destructive_command_asks_for_confirmation_on_a_terminal(
    cli: CommandLine, manager: CannedManager, answer: bytes, code: int, orders: int
) -> None:
    exit_code, received = await on_terminal(cli, "group", "destroy", "web", keys=answer)
    assert exit_code == code
    assert "Destroy every instance of web, keeping its volumes? [y/N]" in received
    assert len(manager.orders) == orders


async def test_watch_on_a_terminal_redraws_until_ctrl_c(cli: CommandLine, manager: CannedManager) -> None:
    cli.environment["TERM"] = "xterm"
    polls: list[int] = []
    enough = asyncio.Event()

    def count_poll() -> None:
        polls.append(1)
        if len(polls) > 2:
            enough.set()

    manager.on_status = count_poll
    code, received = await on_terminal(cli, "status", "--watch", interrupt=enough)
    assert code == 130
    assert "converged" in received
    assert "Traceback" not in received


async def test_watch_fits_a_window_that_has_become_narrower(cli: CommandLine, manager: CannedManager) -> None:
    cli.environment |= {"TERM": "xterm", "NO_COLOR": "1"}
    polls: list[int] = []
    drawn, drawn_again = asyncio.Event(), asyncio.Event()

    def count_poll() -> None:
        polls.append(1)
        if len(polls) == 2:
            drawn.set()
        if len(polls) == 4:
            drawn_again.set()

    manager.on_status = count_poll
    code, received = await on_terminal(cli, "status", "--watch", columns=120, resize=(drawn, 60), interrupt=drawn_again)
    assert code == 130
    wide, _, narrow = received.partition("\x1b[?1049l")  # the alternate screen, and what remains after it
    widths = [max(len(click.unstyle(line).rstrip()) for line in each.splitlines()) for each in (wide, narrow)]
    assert widths[0] > 60 >= widths[1]
    assert "web-1" in narrow


async def test_without_rich_watch_clears_the_terminal_and_prints(
    cli: CommandLine, manager: CannedManager, home: Path
) -> None:
    """With a Python that finds only the packages of the base installation."""
    for package in (click, msgspec, infrakit):
        assert package.__file__ is not None
        (home / package.__name__).symlink_to(Path(package.__file__).parent)
    cli.environment |= {"TERM": "xterm", "PYTHONPATH": str(home), "PYTHONNOUSERSITE": "1"}
    cli.python = [sys.executable, "-S"]
    enough = asyncio.Event()
    polls: list[int] = []

    def count_poll() -> None:
        polls.append(1)
        if len(polls) > 1:
            enough.set()

    manager.on_status = count_poll
    code, received = await on_terminal(cli, "status", "--watch", interrupt=enough)
    assert code == 130
    assert received.count("\x1b[2J") >= 1
    assert "box (pid 4711) leads" in received
    assert "Traceback" not in received


@pytest.mark.parametrize("arguments", ["status", "status -o json", "group ls", "instance logs web-1", "events"])
async def test_a_closed_pipe_is_no_error(cli: CommandLine, manager: CannedManager, arguments: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = await cli.start(*arguments.split(), stdout=writer)
    os.close(writer)
    _, stderr = await asyncio.wait_for(process.communicate(), 150)
    assert stderr == b""
    assert process.returncode == 141


async def test_closed_standard_streams_are_no_error(cli: CommandLine, manager: CannedManager) -> None:
    """Some supervisors start programs with their output closed."""
    program = 'exec 1>&- 2>&- 0<&-; exec "$0" -m infrakit status'
    process = await asyncio.create_subprocess_exec("sh", "-c", program, sys.executable, env=cli.environment)
    assert await asyncio.wait_for(process.wait(), 150) == 0
