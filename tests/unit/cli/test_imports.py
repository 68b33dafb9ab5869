"""Imports of the commands: they dominate the start-up time, so short commands import nothing heavy."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.unit.cli.canned import CannedManager
from tests.unit.cli.command_line import CommandLine

# Modules that no short command may import, because each takes longer than the command itself.
HEAVY = {
    "aiohttp",
    "asyncio",
    "importlib.metadata",
    "jinja2",
    "jsonschema",
    "logging",
    "psutil",
    "rich",
    "subprocess",
    "yaml",
}
SPEC = "infrakit.spec"  # reads the files of variables
OURS = ("infrakit.cli", "infrakit.rpc", "infrakit.spi", "infrakit.template")

MODULES_AFTER = """
import json, sys
before = set(sys.modules)
from infrakit.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(set(sys.modules) - before)]), file=sys.stderr)
"""


IN_THIS_PROCESS = """
from infrakit.cli import confinement
confinement.run = lambda work, type_: work()
"""


async def modules_after(cli: CommandLine, *arguments: str, before: str = "") -> set[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        before + MODULES_AFTER,
        *arguments,
        env=cli.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), 60)
    code, modules = json.loads(err.splitlines()[-1])
    assert code == 0, err
    return set(modules)


@pytest.mark.parametrize("arguments", ["--help", "--version", "-h"])
async def test_the_help_imports_no_command_and_no_package_but_click(cli: CommandLine, arguments: str) -> None:
    modules = await modules_after(cli, arguments)
    assert not modules & HEAVY
    assert not {name for name in modules if name.startswith(("infrakit.cli.commands", "infrakit.spi"))}
    outside = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    assert outside == {"click", "infrakit"}


@pytest.mark.parametrize(
    "arguments",
    [
        "status",
        "status --help",
        "status -o json",
        "events",
        "group ls",
        "group scale web 5",
        "instance ls",
        "why web",
        "history",
        "halt -m x",
        "commit /dev/null",
        "plan /dev/null",
    ],
)
async def test_a_client_command_imports_nothing_heavy(cli: CommandLine, manager: CannedManager, arguments: str) -> None:
    modules = await modules_after(cli, *arguments.split())
    assert not modules & HEAVY
    assert {name for name in modules if name.startswith("infrakit.") and not name.startswith(OURS)} == set()
    outside = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    assert outside <= {"click", "infrakit", "msgspec", "typing_extensions"}


@pytest.mark.parametrize("arguments", ["plugin ls", "plugin ls --help", "plugin ls -o json"])
async def test_listing_plugins_imports_nothing_heavy(cli: CommandLine, manager: CannedManager, arguments: str) -> None:
    modules = await modules_after(cli, *arguments.split())
    assert modules & HEAVY <= {"importlib.metadata"}  # which finds the installed plugins
    ours = {name for name in modules if name.startswith("infrakit.") and not name.startswith(OURS)}
    assert ours <= {"infrakit.runtime", "infrakit.runtime.installed"}


async def test_rendering_a_template_imports_nothing_heavy_but_jinja(cli: CommandLine, home: Path) -> None:
    (home / "greeting.j2").write_text("hello {{ var('name') }}")
    (home / "values.json").write_text('{"name": "world"}')
    arguments = ("template", str(home / "greeting.j2"), "--vars", str(home / "values.json"))
    modules = await modules_after(cli, *arguments)
    assert modules & HEAVY == set()
    assert {name for name in modules if name.startswith("infrakit.") and not name.startswith((*OURS, SPEC))} == set()
    assert "jinja2.compiler" not in modules  # only the child process, which renders, imports it
    modules = await modules_after(cli, *arguments, before=IN_THIS_PROCESS)
    assert modules & HEAVY == {"jinja2"}
