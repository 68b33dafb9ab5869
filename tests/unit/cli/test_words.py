"""The commands of other tools lead to a suggestion, and every suggested command exists."""

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from infrakit.cli import main, words

TABLES = {
    "": words.OF_INFRAKIT,
    "group": words.OF_GROUP,
    "instance": words.OF_INSTANCE,
    "metadata": words.OF_METADATA,
    "plugin": words.OF_PLUGIN,
    "remote": words.OF_REMOTE,
}
EVERY = [(name, word) for name, table in TABLES.items() for word in table]


def find(typed: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words name, and the remaining words."""
    command: click.Command = main.commands
    while isinstance(command, click.Group) and typed and not typed[0].startswith("-"):
        found = command.get_command(click.Context(command), typed[0])
        assert found is not None
        command, typed = found, typed[1:]
    return command, typed


@pytest.mark.parametrize(("name", "word"), EVERY)
def test_every_suggested_command_exists(name: str, word: str) -> None:
    if not name:
        assert word not in main.COMMANDS
    else:
        group, _ = find([name])
        assert isinstance(group, click.Group)
        assert word not in group.commands
    suggestions = re.findall(r"`infrakit ([^`]*)`", TABLES[name][word])
    assert suggestions
    for line in suggestions:
        if line == "COMMAND --help":
            continue
        command, rest = find(line.split())
        options = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
        assert {each for each in rest if each.startswith("-")} <= options, line
        arguments = [each for each in rest if not each.startswith("-")]
        assert bool(arguments) <= bool(command.params), line


@pytest.mark.parametrize(
    ("typed", "suggestion"),
    [
        (["apply", "-f", "x.yaml"], "No such command 'apply'. In InfraKit: `infrakit commit FILE` declares the groups"),
        (["group", "list"], "No such command 'list'. In InfraKit: `infrakit group ls`."),
        (["instance", "restart", "i-1"], "`infrakit instance destroy ID` replaces it."),
        (["metadata", "get", "x"], "No such command 'get'. In InfraKit: `infrakit metadata cat PATH`."),
        (["plugin", "run"], "`infrakit plugin start NAME`."),
        (["group", "scael", "web", "3"], "No such command 'scael'. Did you mean 'scale'?"),
    ],
)
def test_a_command_of_another_tool_is_an_error_with_a_suggestion(typed: list[str], suggestion: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infrakit", *typed], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert suggestion in " ".join(done.stderr.split())


def test_the_help_names_the_documentation() -> None:
    import infrakit

    done = subprocess.run(
        [sys.executable, "-m", "infrakit", "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert infrakit.HOMEPAGE in done.stdout


def every_command(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below, _ = find([*path, name])
            yield from every_command(below, (*path, name))


@pytest.mark.parametrize("option", words.OPTIONS)
def test_an_option_of_other_tools_leads_to_one_that_the_command_has(option: str) -> None:
    led = 0
    for path, command in every_command(main.commands):
        if any(option in each.opts for each in command.params):
            continue
        hint = words.unknown_option(option, command)
        led += bool(hint)
        for needed, text in words.OPTIONS[option]:
            if text == hint and needed.startswith("--"):
                assert any(needed in each.opts for each in command.params), path
        for typed in re.findall(r"`infrakit ([^`]*)`", hint):
            find(typed.split())
    assert led, f"no command leads on from {option}: remove it"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["commit", "--yes", "f.yaml"], "No such option '--yes'. In InfraKit: `--destroys N` permits"),
        (["status", "--json"], "No such option '--json'. In InfraKit: `-o json`"),
        (["adopt", "--yes", "x"], "this command asks for no confirmation"),
        (["commit", "-f", "f.yaml"], "FILE is written without an option"),
        (["status", "-v"], "`infrakit why GROUP`"),
        (["-v"], "`-V` prints the version"),
        (["status", "--nonsense"], "No such option '--nonsense'."),
    ],
)
def test_an_unknown_option_is_explained(capsys: pytest.CaptureFixture[str], typed: list[str], expected: str) -> None:
    assert main.main(typed) == 1
    assert expected in " ".join(capsys.readouterr().err.split())
