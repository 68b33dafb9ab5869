"""The program as a whole: its help, its table of commands, and usage errors."""

import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from infrakit.cli import failures, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infrakit", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def every_command() -> list[list[str]]:
    paths = [[name] for name in main.COMMANDS]
    for name in ("group", "instance", "plugin", "remote"):
        command = load(name)
        assert isinstance(command, click.Group)
        paths += [[name, verb] for verb in command.commands]
    return paths


def load(name: str) -> click.Command:
    context = click.Context(main.commands)
    command = main.commands.get_command(context, name)
    assert command is not None
    return command


def test_the_help_lists_every_command_in_its_section() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    position = 0
    for title, section in main.SECTIONS.items():
        position = done.stdout.index(f"\n{title}:\n", position)
        for name, (_, line) in section.items():
            position = done.stdout.index(f"\n  {name} ", position)
            assert line in done.stdout[position:]
    assert "3 no daemon" in " ".join(done.stdout.split())


def test_no_arguments_show_the_help_and_exit_1() -> None:
    done = run()
    assert done.returncode == 1
    assert "Usage: infrakit" in done.stderr


def test_the_version_is_that_of_the_package() -> None:
    from infrakit import __version__

    assert run("--version").stdout == f"infrakit {__version__}\n"


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_table_of_commands_matches_the_help_of_each_command(name: str) -> None:
    command = load(name)
    assert command.name == name
    assert command.help is not None
    assert command.help.splitlines()[0] == main.COMMANDS[name][1]


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_every_help_has_an_example_of_that_command_within_80_columns(path: list[str]) -> None:
    result = CliRunner().invoke(main.commands, [*path, "--help"], prog_name="infrakit")
    assert result.exit_code == 0
    example = result.output.partition("Example:\n")[2].splitlines()[0]
    assert f"infrakit {' '.join(path)}" in example
    assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stauts"], "Did you mean 'status'?"),
        (["xyzzy"], "No such command 'xyzzy'."),
        (["--nope"], "--nope"),
        (["status", "--wait", "soon"], "'soon' is not a duration"),
        (["status", "--wait", "1s", "--watch"], "exclude each other"),
        (["halt"], "--message"),
        (["restore", "3"], "--message"),
        (["group", "scale", "web"], "SIZE"),
        (["group", "scale", "web", "-1"], "-1"),
        (["status", "-o", "xml"], "xml"),
        (["events", "--since", "yesterday"], "'yesterday' is not"),
    ],
)
def test_a_wrong_command_line_is_explained_and_exits_1(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_internal_error_is_one_line_unless_debugging_is_enabled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> int:
        try:
            return os.environ["NOWHERE"] == ""
        except KeyError as error:
            return failures.report(error)

    monkeypatch.delenv(failures.DEBUG_VARIABLE, raising=False)
    assert broken() == 70
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["infrakit: KeyError: 'NOWHERE'; this is a bug in infrakit (INFRAKIT_DEBUG=1 prints the traceback)"]
    monkeypatch.setenv(failures.DEBUG_VARIABLE, "1")
    assert broken() == 70
    assert "in broken" in capsys.readouterr().err


def test_a_closed_standard_output_is_no_error() -> None:
    command = [sys.executable, "-m", "infrakit", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    _, stderr = process.communicate(timeout=60)
    assert stderr == ""
    assert process.returncode == 141
