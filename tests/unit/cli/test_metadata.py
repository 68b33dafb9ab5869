"""`infrakit metadata` against a real tree: its output, its exit codes and its completions."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import yaml

from infrakit.cli import facts
from infrakit.metadata.manager import ManagerFacts
from infrakit.metadata.vars import Vars
from infrakit.rpc import discovery
from infrakit.rpc.server import Server
from infrakit.runtime.registry import Registry
from infrakit.runtime.tree.root import Tree
from infrakit.spi import errors
from infrakit.spi.clock import SystemClock
from infrakit.spi.metadata import Change, Facts, Metadata
from infrakit.stores.memory import MemoryStore
from tests.unit.cli.canned import CannedManager
from tests.unit.cli.command_line import CommandLine
from tests.unit.cli.test_completion import complete
from tests.unit.cli.test_imports import HEAVY, modules_after

LISTED = """\
NAME   KIND        VALUE
name   text        blue
size   number      3
zones  2 elements
"""
DRAWN = """\
vars
└── cluster
    ├── name: blue
    ├── size: 3
    └── zones
        ├── [0]: a
        └── [1]: b
"""


class UnreachablePlugin:
    """A plugin that does not answer."""

    async def keys(self, *, path: str) -> None:
        raise errors.Unreachable("nobody answers there")

    async def get(self, *, path: str) -> msgspec.Raw:
        raise errors.Unreachable("nobody answers there")


@pytest.fixture
async def tree(home: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tree]:
    """A joined tree at the socket that the command line uses, with some values."""
    monkeypatch.setenv(discovery.HOME_VARIABLE, str(home))
    monkeypatch.delenv(discovery.PLUGINS_DIR_VARIABLE, raising=False)
    discovery.plugins_directory().mkdir(parents=True)
    vars_ = Vars(MemoryStore(), SystemClock())
    own: dict[str, Metadata] = {"vars": vars_, "manager": ManagerFacts(CannedManager()), "cloud": UnreachablePlugin()}
    joined = Tree(Registry(home), own)
    async with Server(discovery.manager_socket(), {".": CannedManager(), "metadata": joined, "vars": vars_}):
        await cli("metadata", "set", "vars/cluster", '{"name": "blue", "size": 3, "zones": ["a", "b"]}', "-m", "first")
        yield joined
    await joined.close()


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("cat vars/cluster/name", "blue\n"),
        ("cat vars/cluster/size vars/cluster/zones[1]", "3\nb\n"),
        ("cat vars/cluster/zones", '[\n  "a",\n  "b"\n]\n'),
        ("cat vars/cluster/name -o json", '"blue"\n'),
        ("cat manager/leader/name", "box\n"),
        ("ls vars/cluster", LISTED),
        ("ls vars/cluster/size", "NAME  KIND    VALUE\nsize  number  3\n"),
        ("tree vars", DRAWN),
        ("tree vars/cluster/size", "vars/cluster/size: 3\n"),
        ("history --show 1 -o yaml", "---\ncluster:\n  name: blue\n  size: 3\n  zones:\n  - a\n  - b\n"),
    ],
)
async def test_metadata_is_printed(cli: CommandLine, tree: Tree, line: str, printed: str) -> None:
    done = await cli("metadata", *line.split())
    assert (done.code, done.err) == (0, "")
    assert done.out == printed


async def test_the_root_lists_plugins_and_why_one_is_unreachable(cli: CommandLine, tree: Tree) -> None:
    listed = await cli("metadata", "ls")
    rows = {line.split()[0]: line.split()[1:] for line in listed.out.splitlines()[1:]}
    assert rows["cloud"] == ["away", "no", "-", "nobody", "answers", "there"]
    assert rows["vars"][:2] == ["here", "versioned"]
    shown = await cli("metadata", "tree")
    assert "├── vars" in shown.out.replace("└", "├")
    assert shown.out.endswith("cloud is away: nobody answers there\n")
    failed = await cli("metadata", "cat", "cloud/region")
    assert failed.code == 2
    assert "metadata plugin cloud: it is unavailable: nobody answers there" in failed.err
    assert json.loads((await cli("metadata", "ls", "-o", "json")).out)[0]["State"] == "away"


async def test_values_are_parsed_as_json_if_possible(cli: CommandLine, tree: Tree) -> None:
    pairs = ("vars/a", "5", "vars/b", "five", "vars/c", "[1, true]", "vars/d", "010", "vars/e", "", "vars/f", '"q"')
    assert (await cli("metadata", "set", *pairs)).out == (
        "Set vars/a, vars/b, vars/c, vars/d, vars/e, vars/f: vars version 2\n"
    )
    found = yaml.safe_load((await cli("metadata", "cat", "vars", "-o", "yaml")).out)
    del found["cluster"]
    assert found == {"a": 5, "b": "five", "c": [1, True], "d": "010", "e": "", "f": "q"}
    await cli("metadata", "set", "--string", "vars/a", "5")
    await cli("metadata", "set", "vars/g", "--", "-5")
    assert (await cli("metadata", "cat", "-o", "json", "vars/a", "vars/g")).out == '"5"\n-5\n'


async def test_each_change_is_a_version_that_can_be_restored(cli: CommandLine, tree: Tree) -> None:
    assert (await cli("metadata", "rm", "vars/cluster/size", "-m", "unused")).out == (
        "Removed vars/cluster/size: vars version 2\n"
    )
    listed = (await cli("metadata", "history")).out.splitlines()
    assert listed[1].split()[0] == "2"
    assert listed[1].endswith("ann  remove cluster/size  unused")
    conflict = await cli("metadata", "set", "vars/x", "1", "--expect", "1")
    assert (conflict.code, conflict.out) == (2, "")
    assert "version 2 (by ann: unused), not 1; changed since: cluster/size" in conflict.err
    restored = await cli("metadata", "restore", "1", "-m", "back", "-o", "json")
    assert json.loads(restored.out) == {"Version": 3}
    assert (await cli("metadata", "cat", "vars/cluster/size")).out == "3\n"
    assert len(json.loads((await cli("metadata", "history", "-n", "2", "-o", "json")).out)) == 2


@pytest.mark.parametrize(
    ("line", "code", "why"),
    [
        ("cat vars/cluster/nane", 1, "did you mean vars/cluster/name?"),
        ("cat vras", 1, "did you mean vars?"),
        ("ls vars/nope", 1, "in vars is: cluster"),
        ("tree vars/cluster/name/x", 1, "in vars/cluster/name is: nothing"),
        ("rm vars/nope", 1, "vars/nope: there is nothing at this path"),
        ("set vars/x", 1, "'vars/x' has none"),
        ("set vars/x 1 vars/x 2", 1, "twice"),
        ("set vars/a[b 1", 1, "no brackets"),
        ("set manager/leader 1", 2, "manager is read-only"),
        ("set vars/cluster/name/x 1", 2, "vars/cluster/name/x: the path leads through a value"),
        ("set vars/x null", 2, "null means a missing value"),
        ("set cloud/x 1", 2, "cloud: it is unavailable"),
        ("history --plugin manager", 2, "manager stores no versions"),
        ("restore 9 -m x", 1, "no version 9"),
        ("restore 1", 1, "-m"),
    ],
)
async def test_errors_are_reported(cli: CommandLine, tree: Tree, line: str, code: int, why: str) -> None:
    done = await cli("metadata", *line.split())
    assert (done.code, done.out) == (code, "")
    assert why in done.err
    assert "Traceback" not in done.err


async def test_without_a_daemon_commands_exit_3(cli: CommandLine) -> None:
    for line in ("ls", "cat vars", "tree", "watch vars", "set vars/a 1", "rm vars/a", "history", "restore 1 -m x"):
        done = await cli("metadata", *line.split())
        assert done.code == 3
        assert "infrakit up" in done.err


async def test_paths_are_completed(cli: CommandLine, tree: Tree) -> None:
    assert await complete(cli, "infrakit", "metadata", "cat", "v") == ["vars", "vars/cluster"]
    assert await complete(cli, "infrakit", "metadata", "cat", "vars/cluster/") == [
        "vars/cluster/name", "vars/cluster/size", "vars/cluster/zones",
    ]  # fmt: skip
    assert await complete(cli, "infrakit", "metadata", "set", "vars/cluster/n") == ["vars/cluster/name"]
    assert await complete(cli, "infrakit", "metadata", "ls", "cloud/") == []


async def test_watch_prints_each_change(cli: CommandLine, tree: Tree) -> None:
    process = await cli.start("metadata", "watch", "vars/cluster/name", "--interval", "0.05", "-o", "json")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(50):
            assert json.loads(await process.stdout.readline())["Value"] == "blue"
            green = (Change(path="vars/cluster/name", value=msgspec.Raw(b'"green"')),)
            await tree.write(changes=green, remove=(), who="ann", why="")
            assert json.loads(await process.stdout.readline())["Value"] == "green"
            await tree.write(changes=(), remove=("vars/cluster",), who="ann", why="")
            assert json.loads(await process.stdout.readline())["Value"] is None
    finally:
        process.kill()
        await process.wait()
    away = await cli.start("metadata", "watch", "cloud/region")
    assert away.stdout is not None
    try:
        async with asyncio.timeout(50):
            assert b"it is unavailable: nobody answers there" in await away.stdout.readline()
    finally:
        away.kill()
        await away.wait()


@pytest.mark.parametrize("line", ["ls", "cat vars", "tree vars", "set vars/x 1", "history", "--help"])
async def test_it_imports_nothing_heavy(cli: CommandLine, tree: Tree, line: str) -> None:
    assert not await modules_after(cli, "metadata", *line.split()) & HEAVY


async def test_a_template_reads_metadata_from_the_daemon(cli: CommandLine, tree: Tree) -> None:
    calls = (
        "('vars/cluster/name')",
        "('vars/nope', 'none')",
        ".wait('vars/cluster/size', '1s')",
    )
    done = await cli("template", "-", stdin=" ".join(f"{{{{ metadata{call} }}}}" for call in calls).encode())
    assert (done.code, done.out, done.err) == (0, "blue none 3", "")
    away = await cli("template", "-", stdin=b"{{ metadata('cloud/region', 'none') }}")
    assert away.code == 1
    assert "metadata plugin cloud: it is unavailable: nobody answers there" in away.err
    near = await cli("template", "-", stdin=b"{{ metadata('vars/cluster/nane') }}")
    assert "line 1" in near.err
    assert "name" in near.err


async def test_without_a_daemon_a_template_uses_its_defaults(cli: CommandLine) -> None:
    for _ in range(2):
        done = await cli("template", "-", stdin=b"{{ metadata('vars/name', 'none') }} {{ var('size', 3) }}")
        assert (done.code, done.out) == (0, "none 3")
        leave_stale_socket(cli.home / "plugins" / "group")  # by a daemon that was killed
    refused = await cli("template", "-", stdin=b"{{ metadata('vars/name') }}")
    assert refused.code == 1
    assert "no daemon answers" in refused.err


def leave_stale_socket(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path)) if not path.exists() else None


async def test_templates_of_the_command_line_read_the_same_tree(tree: Tree) -> None:
    """From a thread, because a request blocks until the daemon answers, and the daemon runs in this event loop."""
    known = facts.DaemonFacts()
    assert isinstance(known, Facts)
    assert await asyncio.to_thread(known.get, "vars/cluster/name") == "blue"
    assert await asyncio.to_thread(known.keys, "vars/cluster") == ["name", "size", "zones"]
    assert await asyncio.to_thread(known.keys, "vars/x") is None
    assert "vars" in (await asyncio.to_thread(known.keys, "") or ())
    with pytest.raises(errors.NotFound, match="did you mean vars/cluster/name"):
        await asyncio.to_thread(known.get, "vars/cluster/nam")
    with pytest.raises(errors.Unreachable, match="unavailable"):
        await asyncio.to_thread(known.get, "cloud/region")
    waiting = asyncio.create_task(asyncio.to_thread(known.wait, "vars/ready", 30.0))
    await tree.write(changes=(Change(path="vars/ready", value=msgspec.Raw(b"1")),), remove=(), who="ann", why="")
    assert await waiting == 1
    with pytest.raises(errors.NotFound):
        await asyncio.to_thread(known.wait, "vars/never", 0.01)
    assert await asyncio.to_thread(known.get, "vars/cluster/name") == "blue"
