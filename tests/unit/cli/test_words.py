"""The commands of other tools lead to a suggestion, and every suggested command exists."""

import re
import subprocess
import sys

import click
import pytest

from infrakit.cli import main, words

TABLES = {
    "": words.OF_INFRAKIT,
    "group": words.OF_GROUP,
    "instance": words.OF_INSTANCE,
    "metadata": words.OF_METADATA,
    "plugin": words.OF_PLUGIN,
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
