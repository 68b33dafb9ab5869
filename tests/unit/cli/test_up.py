"""`infrakit up` with a real daemon; its instances exist in the simulator, and are gone when it exits."""

import asyncio
import contextlib
import errno
import io
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infrakit.lifecycle import up as lifecycle
from infrakit.spi.errors import InvalidSpec
from tests.unit.cli.command_line import CommandLine

DOCUMENT = """\
- kind: group
  metadata: {name: web}
  properties:
    Allocation: {Size: 2}
    Instance: {Plugin: simulator}
    Flavor: {Plugin: vanilla}
"""


@pytest.fixture
def document(home: Path) -> str:
    (home / "sim.yaml").write_text(DOCUMENT)
    return "sim.yaml"


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


@contextlib.asynccontextmanager
async def up(cli: CommandLine, document: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A daemon that has converged."""
    process = await cli.start("up", document)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(150):
            while b" converged " not in (line := await process.stdout.readline()):
                assert line, "the daemon exited before it converged"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_ctrl_c_prints_what_keeps_running_and_how_to_continue(cli: CommandLine, document: str) -> None:
    async with up(cli, document) as process:
        status = await cli("status")
        assert status.code == 0
        assert "web    cattle  2     2     2        2" in status.out
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 150)
    assert (process.returncode, err) == (0, b"")
    last = out.decode().splitlines()[-3:]
    assert last[0] == "Stopped. The instances keep running without supervision: 2 of web."
    assert "infrakit up  " in last[1]
    assert "infrakit down " in last[2]
    assert all(line.strip().startswith("INFRAKIT_HOME=/") for line in last[1:])
    assert (await cli("status")).code == 3


async def test_a_second_daemon_is_refused_and_down_stops_the_first(cli: CommandLine, document: str) -> None:
    async with up(cli, document) as process:
        second = await cli("up", document)
        assert second.code == 2
        assert f"the daemon with pid {process.pid} on {os.uname().nodename}, started 20" in second.err
        assert len(second.err.splitlines()) == 1
        down = await cli("down", "--yes")
        assert (down.code, down.err) == (0, "")
        assert down.out.splitlines()[-2:] == ["web is destroyed", "the daemon has stopped"]
        _, err = await asyncio.wait_for(process.communicate(), 150)
    assert (process.returncode, err) == (0, b"")


async def test_a_document_with_errors_starts_nothing(cli: CommandLine, home: Path) -> None:
    done = await cli("up", "-", stdin=DOCUMENT.replace("Size", "Sise").encode())
    assert done.code == 1
    assert 'stdin: line 4: groups[0].properties.Allocation.Sise: unknown field (did you mean "Size"?)' in done.err
    assert names_in(home) == []


async def test_a_directory_stands_for_the_document_in_it(cli: CommandLine, home: Path) -> None:
    (home / "web").mkdir()
    done = await cli("validate", "web")
    assert done.code == 1
    assert "web/infrakit.yaml" in done.err
    (home / "web" / "infrakit.yaml").write_text(DOCUMENT.replace("Size", "Sise"))
    done = await cli("up", "web")
    assert done.code == 1
    assert "web/infrakit.yaml: line 4: groups[0]" in done.err


async def test_a_home_that_is_not_a_directory_is_refused(cli: CommandLine, document: str, home: Path) -> None:
    for place in (home / document, home / document / "below"):
        cli.environment["INFRAKIT_HOME"] = str(place)
        done = await cli("up", document)
        assert (done.code, len(done.err.splitlines())) == (1, 1)
        assert f"INFRAKIT_HOME: {place} cannot store" in done.err
        assert f"no file can be created in {home / document}: Not a directory" in done.err
        assert not done.out
        done = await cli("status")
        assert done.code == 3
        assert "Not a directory" in done.err
    assert names_in(home) == [document]


async def test_a_home_without_space_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def full(**_: object) -> io.BytesIO:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(InvalidSpec, match=rf"{home}: No space left on device \(free space there, or set"):
        lifecycle.check_home(home / "below")


@pytest.mark.parametrize(
    "options",
    [
        ["--listen", "nonsense"],
        ["--store", "nonsense:x"],
        ["--store", "etcd://"],
        ["--leadership", "nonsense"],
        ["--advertise", "10.0.0.1:24864", "--listen", "127.0.0.1:1"],
    ],
    ids=" ".join,
)
async def test_an_invalid_option_is_a_user_error_before_anything_is_shown(
    cli: CommandLine, document: str, home: Path, options: list[str]
) -> None:
    done = await cli("up", document, *options)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(options[0])
    assert names_in(home) == [document]


async def test_a_closed_standard_output_stops_it_silently(cli: CommandLine, document: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = await cli.start("up", document, stdout=writer)
    os.close(writer)
    _, err = await asyncio.wait_for(process.communicate(), 150)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize("words", [("--supervise", "sim.yaml"), ("sim.yaml", "--supervise=30s")])
async def test_a_file_that_is_to_be_supervised_is_refused_with_the_commands_to_use(
    cli: CommandLine, document: str, words: tuple[str, ...]
) -> None:
    done = await cli("up", *words)
    assert done.code == 1
    assert "`infrakit up --supervise" in done.err
    assert f"`infrakit commit {document}`" in done.err


async def test_a_supervised_daemon_that_is_refused_is_not_restarted(cli: CommandLine, document: str) -> None:
    async with up(cli, document) as process:
        second = await asyncio.wait_for(cli("up", "--supervise=30s"), 60)
    assert second.code == 2
    assert f"in use by the daemon with pid {process.pid}" in second.err
    wrong = await asyncio.wait_for(cli("up", "--supervise=30s", "--store", "nonsense://x"), 60)
    assert wrong.code in (1, 2)
    assert "it is not restarted" in wrong.err
