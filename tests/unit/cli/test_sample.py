"""Samples work with nothing but the package, and the documentation shows the same text."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from infrakit.cli.commands import sample
from infrakit.spec import document
from tests.docs import pages
from tests.unit.cli.command_line import CommandLine

NET = f"127.{os.getpid() >> 14 & 63 | 64}.{os.getpid() >> 7 & 127}.{os.getpid() & 127 | 128}"


def content(text: str) -> str:
    """The text without its leading comment."""
    lines = text.strip().splitlines()
    while lines and lines[0].startswith("#"):
        del lines[0]
    return "\n".join(lines)


async def test_samples_are_listed_with_their_requirements(cli: CommandLine) -> None:
    done = await cli("sample")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == ["etcd", "files", "web"]
    assert done.out.count("Needs ") == 3
    done = await cli("sample", "wbe")
    assert done.code == 1
    assert "the samples are: etcd, files, web" in done.err


@pytest.mark.parametrize("name", sample.names())
async def test_each_sample_is_valid(cli: CommandLine, home: Path, name: str) -> None:
    (home / f"{name}.yaml").write_text((await cli("sample", name)).out)
    done = await cli("validate", f"{name}.yaml")
    assert (done.code, done.out) == (0, f"{name}.yaml: valid, 1 group: {name}\n")


@pytest.mark.parametrize("name", ["web", "files"])
async def test_a_sample_converges_in_an_empty_directory(cli: CommandLine, home: Path, name: str) -> None:
    text = sample.text(name).replace("8200", str(20_000 + os.getpid() % 1000 * 10))
    for last in (11, 12, 13):
        text = text.replace(f"127.0.10.{last}", f"{NET.rpartition('.')[0]}.{last}")
    (home / "sample.yaml").write_text(text)
    process = await cli.start("up", "sample.yaml")
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while b" converged " not in (line := await process.stdout.readline()):
                assert line, "the daemon exited before it converged"
        process.send_signal(signal.SIGINT)
        await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
        assert (await cli("down", "--yes")).code == 0


@pytest.mark.parametrize("name", sample.names())
def test_the_health_check_identifies_the_instance(name: str) -> None:
    (group,) = document.parse(sample.text(name), source=name)
    properties = bytes(group.properties.flavor.properties or b"")
    assert group.properties.flavor.plugin == "etcd" or b"/${ID}" in properties


def test_the_documentation_shows_the_same_text() -> None:
    shown = next(each for each in pages.blocks(pages.ROOT / "README.md") if each.name == "cluster.yaml")
    assert content(shown.text) == content(sample.text("files"))
    assert content((pages.ROOT / "examples/etcd/infrakit.yaml").read_text()) == content(sample.text("etcd"))
