"""Shell completion: the scripts in real shells, and the completions that they receive."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from infrakit.cli import main
from tests.unit.cli.canned import CannedManager
from tests.unit.cli.command_line import CommandLine

CHECKS = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


@pytest.mark.parametrize("shell", CHECKS)
async def test_the_script_calls_the_program_and_its_shell_accepts_it(cli: CommandLine, home: Path, shell: str) -> None:
    done = await cli("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert f"_INFRAKIT_COMPLETE={shell}_complete" in done.out
    if shutil.which(shell):
        script = home / "completion"
        script.write_text(done.out)
        process = await asyncio.create_subprocess_exec(*CHECKS[shell], str(script))
        assert await process.wait() == 0


async def complete(cli: CommandLine, *words: str) -> list[str]:
    """The completions after these words, in the protocol of bash."""
    cli.environment |= {
        "_INFRAKIT_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = await cli()
    assert (done.code, done.err) == (0, "")
    return [line.partition(",")[2] for line in done.out.split("\n") if line.startswith("plain,")]


async def test_every_command_and_subcommand_is_completed(cli: CommandLine) -> None:
    assert await complete(cli, "infrakit", "") == list(main.COMMANDS)
    assert await complete(cli, "infrakit", "un") == ["unhalt"]
    assert await complete(cli, "infrakit", "group", "r") == ["resume", "rollback"]
    assert await complete(cli, "infrakit", "status", "--wa") == ["--watch", "--wait"]


async def test_groups_and_instances_are_completed_while_a_daemon_runs(cli: CommandLine, manager: CannedManager) -> None:
    assert await complete(cli, "infrakit", "why", "") == ["store", "web"]
    assert await complete(cli, "infrakit", "group", "scale", "w") == ["web"]
    assert await complete(cli, "infrakit", "instance", "logs", "s") == ["store-1"]


async def test_without_a_daemon_nothing_is_completed_and_no_error_is_printed(cli: CommandLine) -> None:
    assert await complete(cli, "infrakit", "why", "") == []
    assert await complete(cli, "infrakit", "instance", "logs", "") == []


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
async def test_bash_completes_with_the_script(cli: CommandLine) -> None:
    cli.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = """
    eval "$(infrakit completion bash)"
    COMP_WORDS=(infrakit group dest) COMP_CWORD=2
    _infrakit_completion infrakit
    echo "${COMPREPLY[@]}"
    """
    process = await asyncio.create_subprocess_exec(
        "bash", "--norc", "-c", script, env=cli.environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert out.decode().split() == ["destroy"]
