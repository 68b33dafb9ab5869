"""Every command of the command tree with invalid command lines: exit code, message, and no internal error.

No daemon runs, and none can be started: INFRAKIT_HOME leads through a regular file.
"""

import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

import infrakit.cli
from infrakit.cli import arguments, exit_codes, numbers
from infrakit.cli.commands import up
from infrakit.cli.main import commands, main


class Completed(NamedTuple):
    """The exit code and the output of a command line."""

    code: int
    out: str
    err: str


Run = Callable[..., Completed]

HOSTILE = {
    "empty": "",
    "space": " ",
    "escape": "\x1b[31mred",
    "newline": "one\ntwo",
    "unicode": "gr\u00fcppe-\u65e5\u672c-\U0001f600",
    "bidi": "\u202egroup",
    "NUL": "a\0b",
    "byte": "caf\udce9",
    "slashes": "../../../etc/passwd",
    "braces": "{{ 1/0 }} {% for %}",
    "long": "x" * 100_000,
    "none": "None",
    "null": "null",
}
WRONG_NUMBERS = ("x", "", "1.5", "-1", "nan", "inf", "1e3", "0x10", str(2**63), "9" * 400, "\u0663x")
LONG = "9" * 400
WRONG_DURATIONS = ("x", "", "-1s", "nan", "inf", "infs", "1e3", "5 m", "10y", LONG, f"{LONG}s", "99999999h", "1m\n")


def walk(command: click.Command, context: click.Context, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command that is not a group."""
    if not isinstance(command, click.Group):
        yield path
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from walk(found, click.Context(found, parent=context, info_name=name), (*path, name))


def command_at(path: tuple[str, ...]) -> click.Command:
    found: click.Command = commands
    for name in path:
        assert isinstance(found, click.Group)
        below = found.get_command(click.Context(found), name)
        assert below is not None
        found = below
    return found


def parts(path: tuple[str, ...], kind: type[click.Parameter]) -> list[Any]:
    return [each for each in command_at(path).params if isinstance(each, kind) and each.name != "help"]


def metavar(parameter: click.Parameter) -> str:
    """The name of an argument in messages. From click 8.2 on, a context is required."""
    takes_context = bool(inspect.signature(parameter.make_metavar).parameters)
    return str(parameter.make_metavar(*([click.Context(commands)] if takes_context else [])))


def is_duration(parameter: click.Parameter) -> bool:
    return getattr(parameter.type, "func", None) in (numbers.duration, up.supervise_timeout)


def valid(parameter: click.Parameter) -> str:
    """A value that the parameter's type accepts."""
    if isinstance(parameter.type, click.Choice):
        return str(parameter.type.choices[0])
    return "1" if isinstance(parameter.type, click.types.IntParamType) else "nothing"


def needed(path: tuple[str, ...], *, but: click.Option | None = None) -> list[str]:
    """All required options and arguments of the command, options first, except `but`."""
    every = [each for each in parts(path, click.Option) if each.required and each is not but]
    found = [word for each in every for word in (each.opts[-1], valid(each))]
    return [*found, "--", *[valid(each) for each in parts(path, click.Argument) if each.required]]


def wrong(parameter: click.Parameter) -> tuple[str, ...]:
    """Texts that the parameter's type must reject."""
    if isinstance(parameter.type, click.Choice):
        return ("x", "", "None", "NULL")
    if isinstance(parameter.type, click.types.IntParamType):
        return WRONG_NUMBERS
    return WRONG_DURATIONS if is_duration(parameter) else ()


PATHS = list(walk(commands, click.Context(commands)))
OPTIONS = [(path, each) for path in PATHS for each in parts(path, click.Option)]
ARGUMENTS = [(path, each) for path in PATHS for each in parts(path, click.Argument)]
TYPED_OPTIONS = [(path, each) for path, each in OPTIONS if wrong(each)]
TYPED_ARGUMENTS = [(path, each) for path, each in ARGUMENTS if wrong(each)]


GROUPS: list[tuple[str, ...]] = [(), *sorted({path[:-1] for path in PATHS if len(path) > 1})]


def named(value: object) -> str | None:
    if isinstance(value, click.Option):
        return value.opts[-1]
    if isinstance(value, click.Argument):
        return value.name
    return "-".join(value) if isinstance(value, tuple) else None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, where no daemon runs and none can be started."""
    (tmp_path / "file").write_text("")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in [each for each in os.environ if each.startswith("INFRAKIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("INFRAKIT_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file" / "config"))
    monkeypatch.setenv("COLUMNS", "300")

    def line(*words: str) -> Completed:
        code = main(words)
        done = Completed(code, *capsys.readouterr())
        output = done.out + done.err
        assert code in (exit_codes.DONE, exit_codes.USER_ERROR, exit_codes.NOT_DONE, exit_codes.NO_DAEMON), output
        for word in ("defect", "Traceback", "`null`", "got `", "UNSET", "Sentinel"):
            assert word not in output
        assert "\x1b" not in output
        return done

    return line


def rejected(done: Completed, *names: str) -> None:
    """Assert a usage error that contains these names, on standard error only."""
    assert (done.code, done.out) == (exit_codes.USER_ERROR, ""), done.err
    last = done.err[done.err.index("Error: ") :]
    assert "None" not in last.replace("'None'", "")
    for name in names:
        assert name.lower() in last.lower()


def test_only_one_module_declares_arguments() -> None:
    root = Path(infrakit.cli.__file__).parent
    found = [path.name for path in root.rglob("*.py") if "click.argument" in path.read_text()]
    assert found == [f"{arguments.__name__.rpartition('.')[2]}.py"]


def test_the_walk_finds_commands_of_every_depth() -> None:
    assert {("why",), ("group", "destroy"), ("metadata", "set"), ("plugin", "new")} <= set(PATHS)
    assert len(PATHS) > 40


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_without_arguments(run: Run, path: tuple[str, ...]) -> None:
    done = run(*path)
    missing = [each for each in command_at(path).params if each.required]
    if missing:
        names = [each.opts[-1] if isinstance(each, click.Option) else metavar(each) for each in missing]
        rejected(done, "Missing")
        assert any(name.lower() in done.err.lower() for name in names)
    else:
        assert "None" not in done.err


@pytest.mark.parametrize("path", GROUPS, ids=named)
def test_a_group_of_commands_without_one_of_them_shows_its_help(run: Run, path: tuple[str, ...]) -> None:
    found = command_at(path)
    if isinstance(found, click.Group) and found.invoke_without_command:
        return
    done = run(*path)
    rejected(done, "Missing command")
    help_lines = run(*path, "--help").out.splitlines()
    assert len(help_lines) > 10
    assert done.err.splitlines()[: len(help_lines)] == help_lines


@pytest.mark.parametrize(("path", "argument"), ARGUMENTS, ids=named)
def test_a_missing_required_argument_is_reported_by_name(
    run: Run, path: tuple[str, ...], argument: click.Argument
) -> None:
    if not argument.required:
        return
    every = [each for each in parts(path, click.Argument) if each.required]
    words = [*path, *needed(path)[: -len(every)], *map(valid, every[: every.index(argument)])]
    rejected(run(*words), "Missing argument", metavar(argument))


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_too_many_arguments(run: Run, path: tuple[str, ...]) -> None:
    if any(each.nargs == -1 for each in parts(path, click.Argument)):
        return
    room = len(parts(path, click.Argument)) - sum(each.required for each in parts(path, click.Argument))
    rejected(run(*path, *needed(path), *["extra"] * (room + 1)), "unexpected extra argument", "extra")
    rejected(run(*path, *needed(path), *["extra"] * room, "-n"), "unexpected extra argument", "-n")


@pytest.mark.parametrize(("path", "option"), TYPED_OPTIONS, ids=named)
def test_an_option_with_a_value_of_the_wrong_type(run: Run, path: tuple[str, ...], option: click.Option) -> None:
    for spelling in (each for each in option.opts if each.startswith("--")):
        for value in wrong(option):
            done = run(*path, f"{spelling}={value}", *needed(path, but=option))
            # Where the value is optional, click parses `--wait=-1` as two options.
            rejected(done, "-1" if value.startswith("-") and isinstance(option.flag_value, str) else option.opts[-1])


@pytest.mark.parametrize(("path", "argument"), TYPED_ARGUMENTS, ids=named)
def test_an_argument_of_the_wrong_type(run: Run, path: tuple[str, ...], argument: click.Argument) -> None:
    every = parts(path, click.Argument)
    for value in wrong(argument):
        words = [value if each is argument else valid(each) for each in every]
        rejected(run(*path, *needed(path)[: -len(every)], *words), metavar(argument))


@pytest.mark.parametrize(("path", "option"), OPTIONS, ids=named)
def test_an_option_without_its_value(run: Run, path: tuple[str, ...], option: click.Option) -> None:
    if option.is_flag or isinstance(option.flag_value, str):
        return
    words = [word for word in needed(path, but=option) if word != "--"]
    rejected(run(*path, *words, option.opts[-1]), option.opts[-1], "requires an argument")


@pytest.mark.parametrize(("path", "option"), OPTIONS, ids=named)
def test_a_flag_with_a_value_and_an_option_that_is_misspelt(
    run: Run, path: tuple[str, ...], option: click.Option
) -> None:
    long = next(each for each in option.opts if each.startswith("--"))
    if option.is_flag:
        rejected(run(*path, f"{long}=x", *needed(path)), long, "does not take a value")
    misspelt = f"{long[:-1]}{'' if len(long) > 6 else long[-1]}zq"
    rejected(run(*path, misspelt, *needed(path)), "No such option", misspelt)
    if len(long) > 8:
        rejected(run(*path, long[:-2] + long[-1], *needed(path)), "No such option", long)


def test_a_negative_number_is_reported_as_negative(run: Run) -> None:
    rejected(run("group", "scale", "web", "-1"), "'-1' is negative")
    rejected(run("history", "--limit", "-1"), "-1 is not in the range")


@pytest.mark.parametrize(("path", "argument"), ARGUMENTS, ids=named)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_an_argument_with_any_text(run: Run, path: tuple[str, ...], argument: click.Argument, hostile: str) -> None:
    if path[-1] == "new":  # it writes to the path in its argument
        return
    every = [each for each in parts(path, click.Argument) if each.required or each is argument]
    words = [HOSTILE[hostile] if each is argument else valid(each) for each in every]
    options = [word for word in needed(path) if word != "--"][: -sum(a.required for a in every) or None]
    done = run(*path, *options, "--", *words)
    if hostile == "empty" and not wrong(argument) and path[0] != "metadata":
        rejected(done, metavar(argument), "empty")


@pytest.mark.parametrize(("path", "option"), [each for each in OPTIONS if not each[1].is_flag], ids=named)
def test_an_option_with_any_text(run: Run, path: tuple[str, ...], option: click.Option) -> None:
    if path[-1] == "new":
        return
    for hostile in HOSTILE.values():
        run(*path, f"{option.opts[-1]}={hostile}", *needed(path, but=option))


@pytest.mark.parametrize(("path", "option"), OPTIONS, ids=named)
def test_a_repeated_option(run: Run, path: tuple[str, ...], option: click.Option) -> None:
    if path[-1] == "new" or option.name == "supervise":  # it runs until it is stopped
        return
    value = "1" if is_duration(option) else valid(option)
    each = [option.opts[-1]] if option.is_flag else [f"{option.opts[-1]}={value}"]
    run(*path, *each, *each, *needed(path, but=option))


@pytest.mark.parametrize("path", GROUPS, ids=named)
def test_a_command_that_does_not_exist(run: Run, path: tuple[str, ...]) -> None:
    for name in ("nonsense", "", "None", "\u00fc"):
        rejected(run(*path, "--", name), "No such command")
    assert run(*path, "--help").code == exit_codes.DONE
