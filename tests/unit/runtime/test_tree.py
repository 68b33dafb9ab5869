"""The joined tree: every plugin under its name; an unreachable or slow plugin affects only its own branch."""

import asyncio
import functools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.metadata.vars import Vars
from infrakit.rpc import discovery
from infrakit.rpc.server import Server
from infrakit.runtime.registry import Registry
from infrakit.runtime.tree import branches
from infrakit.runtime.tree import root as module
from infrakit.runtime.tree.root import Tree
from infrakit.spi import errors, metadata, paths
from infrakit.spi.instance import Instance
from infrakit.spi.metadata import Change, Facts, Metadata
from infrakit.stores.memory import MemoryStore
from tests.integration.conformance.good import ReadableTree
from tests.integration.conformance.good import Tree as Updatable
from tests.unit.metadata.test_vars import Clock
from tests.unit.rpc.plugins import Provider


class ScriptedFacts:
    """Facts that a test sets; `gate` blocks responses while it is cleared."""

    def __init__(self, **facts: Any) -> None:
        self.facts: Any = facts
        self.gate = asyncio.Event()
        self.gate.set()
        self.started = asyncio.Event()
        self.calls = 0
        self.failure: Exception | None = None

    async def keys(self, *, path: str) -> Sequence[str] | None:
        return paths.keys(paths.find(self.facts, paths.split(path)))

    async def get(self, *, path: str) -> msgspec.Raw:
        self.calls += 1
        self.started.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return msgspec.Raw(msgspec.json.encode(paths.find(self.facts, paths.split(path))))


class FactualProvider(Provider, ReadableTree):
    """An instance plugin that has metadata, too."""

    def __init__(self) -> None:
        Provider.__init__(self)
        ReadableTree.__init__(self)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    monkeypatch.setenv(discovery.HOME_VARIABLE, str(path))
    monkeypatch.delenv(discovery.PLUGINS_DIR_VARIABLE, raising=False)
    discovery.plugins_directory().mkdir(parents=True)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def own() -> dict[str, Metadata]:
    return {"vars": Vars(MemoryStore(), Clock()), "manager": ScriptedFacts(leader={"name": "a"})}


@pytest.fixture
async def tree(home: Path, own: dict[str, Metadata], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tree]:
    for limit in ("READ_S", "CYCLE_S"):
        monkeypatch.setattr(module, limit, -1.0)  # nothing is cached, unless a test sets the limit
    created = Tree(Registry(home, clock=Clock()), own)
    yield created
    await created.close()


def socket(name: str) -> Path:
    return discovery.plugins_directory() / name


async def get(tree: Metadata, path: str = "") -> Any:
    return json.loads(bytes(await tree.get(path=path)))


def change(path: str, value: Any) -> tuple[Change, ...]:
    return (Change(path=path, value=msgspec.Raw(msgspec.json.encode(value))),)


async def states(tree: Tree) -> dict[str, str]:
    return {each.name: each.state for each in await tree.branches()}


# -- joining ---------------------------------------------------------------------------------------------------------


async def test_every_plugin_is_a_branch_under_its_name(tree: Tree) -> None:
    assert isinstance(tree, Metadata)
    assert isinstance(tree, metadata.Tree)
    assert {"host", "manager", "vars"} <= set(await tree.keys(path="") or ())
    assert await get(tree, "manager/leader/name") == "a"
    assert await tree.keys(path="manager/leader") == ["name"]
    assert await get(tree, "host/name")
    assert await tree.keys(path="nope") is None
    assert await get(tree, "nope/x") is None
    whole = await get(tree)
    assert whole["vars"] == {}
    assert whole["manager"] == {"leader": {"name": "a"}}


async def test_remote_plugins_join_with_every_object_they_serve(tree: Tree) -> None:
    objects = {".": ScriptedFacts(region="north"), "zones": ScriptedFacts(a=1), "shelf": Updatable()}
    async with Server(socket("cloud"), objects), Server(socket("machines"), {".": Provider()}):
        assert "cloud" in (await tree.keys(path="") or ())
        assert "machines" not in (await tree.keys(path="") or ())  # it has no metadata
        assert await get(tree, "cloud/region") == "north"
        assert await get(tree, "cloud/zones/a") == 1
        assert await get(tree, "cloud/shelf/b/c") == 2
        await tree.write(changes=change("cloud/shelf/b/c", 3), remove=(), who="ann", why="")
        assert await get(tree, "cloud/shelf/b") == {"c": 3}
        with pytest.raises(errors.Refused, match="cloud is read-only"):
            await tree.write(changes=change("cloud/zones/a", 2), remove=(), who="ann", why="")
        both = change("cloud/zones/a", 2) + change("cloud/shelf/b/c", 2)
        with pytest.raises(errors.Refused, match="a change applies to one object"):
            await tree.write(changes=both, remove=(), who="ann", why="")
    assert (await states(tree)).get("cloud") is None  # it has stopped, and removed its socket


async def test_instance_plugins_in_use_add_their_metadata(tree: Tree, home: Path) -> None:
    registry = Registry(home)
    registry._plugins[Instance, "cloud/compute"] = FactualProvider()
    registry._plugins[Instance, "plain"] = Provider()
    joined = Tree(registry, {})
    assert await get(joined, "cloud/compute/b/c") == 2
    assert await joined.keys(path="plain") is None
    await joined.close()


async def test_no_plugin_replaces_a_branch_of_the_daemon(tree: Tree) -> None:
    async with Server(socket("vars"), {".": ScriptedFacts(mine=1)}):
        assert await get(tree, "vars") == {}


# -- unreachable and slow plugins -------------------------------------------------------------------------------------


async def test_an_unreachable_plugin_affects_only_its_own_branch(tree: Tree, own: dict[str, Any]) -> None:
    own["manager"].failure = ValueError("a fault of the plugin")
    assert (await states(tree))["manager"] == "away"
    (branch,) = [each for each in await tree.branches() if each.name == "manager"]
    assert branch.note == "a fault of the plugin"
    message = r"manager: it is unavailable: a fault of the plugin; see: infrakit metadata"
    with pytest.raises(errors.Unreachable, match=message):
        await get(tree, "manager/leader")
    assert await get(tree, "vars") == {}
    assert set(await get(tree)) == {"export", "host", "swarm", "vars"}
    assert "manager" in (await tree.keys(path="") or ())
    own["manager"].failure = None
    assert await get(tree, "manager/leader/name") == "a"


async def test_a_plugin_is_away_until_its_socket_is_served(tree: Tree) -> None:
    import socket as sockets

    with sockets.socket(sockets.AF_UNIX) as stale:
        stale.bind(str(socket("cloud")))
    assert (await states(tree))["cloud"] == "away"
    socket("cloud").unlink()
    async with Server(socket("cloud"), {".": ScriptedFacts(region="north")}):
        assert await get(tree, "cloud/region") == "north"
    async with Server(socket("cloud"), {".": ScriptedFacts(region="south"), "more": ScriptedFacts(x=1)}):
        assert await get(tree, "cloud") == {
            "region": "south",
            "more": {"x": 1},
        }  # a new process, which is queried again


async def test_a_slow_plugin_times_out(tree: Tree, own: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEADLINE_S", 0.05)
    own["manager"].gate.clear()
    with pytest.raises(errors.Unreachable, match=r"no answer within 0\.05 s"):
        await get(tree, "manager/leader")
    assert (await states(tree))["vars"] == "here"


async def test_an_oversized_tree_is_unreachable(
    tree: Tree, own: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branches, "BYTES_MAX", 1000)
    own["manager"].facts = {"x": "y" * 2000}
    with pytest.raises(errors.Unreachable, match="at most 1000 are read"):
        await get(tree, "manager/x")


# -- caching ---------------------------------------------------------------------------------------------------------


async def test_a_plugin_is_queried_once_per_cycle(
    tree: Tree, own: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_S", 3600.0)
    monkeypatch.setattr(module, "CYCLE_S", 3600.0)
    await asyncio.gather(*(get(tree, "manager/leader") for _ in range(20)), *(tree.snapshot() for _ in range(20)))
    assert own["manager"].calls == 1
    await tree.write(changes=change("vars/a", 1), remove=(), who="ann", why="")
    assert await get(tree, "vars/a") == 1  # a write is visible to the next read
    assert own["manager"].calls == 1


async def test_a_snapshot_does_not_wait_for_unreachable_or_slow_plugins(
    tree: Tree, own: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decisions about infrastructure use snapshots: a plugin that never answers must not delay them."""
    manager = own["manager"]
    monkeypatch.setattr(module, "DEADLINE_S", 0.05)
    monkeypatch.setattr(module, "SNAPSHOT_WAIT_S", 0.0)
    await tree.snapshot()
    manager.facts = {"leader": {"name": "b"}}
    manager.gate.clear()
    assert (await tree.snapshot()).get("manager/leader/name") == "a"  # cached
    with pytest.raises(errors.Unreachable):
        await get(tree, "manager")
    monkeypatch.setattr(module, "DEADLINE_S", 3600.0)  # a wait would now be endless
    monkeypatch.setattr(module, "SNAPSHOT_WAIT_S", 3600.0)
    facts = await tree.snapshot()
    with pytest.raises(errors.Unreachable, match="unavailable"):
        facts.get("manager/leader/name")
    assert facts.get("vars") == {}
    manager.gate.set()


async def test_a_read_that_overlaps_a_write_is_not_cached(
    tree: Tree, own: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_S", 3600.0)
    monkeypatch.setattr(module, "STALE_S", 7200.0)
    scripted = own["vars"] = ScriptedFacts(a=1)  # changed without a write: only the order of events matters
    scripted.gate.clear()
    reading = asyncio.create_task(get(tree, "vars/a"))
    await scripted.started.wait()
    tree._find()["vars"].invalidate()
    scripted.gate.set()
    assert await reading == 1
    scripted.facts = {"a": 2}
    assert await get(tree, "vars/a") == 2  # the old answer was not cached as a new one
    assert await get(tree, "vars/a") == 2
    assert scripted.calls == 2


# -- for templates ---------------------------------------------------------------------------------------------------


async def test_a_snapshot_does_not_change(tree: Tree, own: dict[str, Any]) -> None:
    facts = await tree.snapshot()
    assert isinstance(facts, Facts)
    own["manager"].facts = {"leader": {"name": "b"}}
    assert await get(tree, "manager/leader/name") == "b"
    assert facts.get("manager/leader/name") == "a"
    assert facts.keys("manager/leader") == ["name"]
    assert facts.keys("manager/x") is None
    assert facts.keys("x") is None
    assert set(facts.keys("") or ()) == {"export", "host", "manager", "swarm", "vars"}
    whole = facts.get(".")
    assert isinstance(whole, dict)
    assert whole["vars"] == {}
    with pytest.raises(errors.NotFound, match=r"did you mean manager/leader/name\?"):
        facts.get("manager/leader/nam")
    with pytest.raises(errors.NotFound, match=r"did you mean manager\?"):
        facts.get("manger/leader")
    with pytest.raises(errors.NotFound, match=r"in manager/leader/name is: nothing"):
        facts.get("manager/leader/name/x/y")


async def test_a_thread_waits_until_a_value_is_set(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CYCLE_S", 0.01)
    facts = await tree.snapshot()
    waiting = asyncio.create_task(asyncio.to_thread(facts.wait, "vars/ready", 30.0))
    await tree.write(changes=change("vars/other", 1), remove=(), who="ann", why="")
    assert not waiting.done()
    await tree.write(changes=change("vars/ready", "yes"), remove=(), who="ann", why="")
    assert await waiting == "yes"
    with pytest.raises(errors.NotFound):
        await asyncio.to_thread(facts.wait, "vars/never", 0.02)
    with pytest.raises(errors.Refused, match="block the loop"):
        facts.wait("vars/ready", 1.0)


async def test_a_plugin_that_takes_a_snapshot_does_not_wait_for_itself(tree: Tree) -> None:
    facts = await tree.snapshot(without="vars")
    assert "vars" not in (facts.keys("") or ())


# -- writing ---------------------------------------------------------------------------------------------------------


async def test_a_versioned_plugin_is_written_with_its_history(tree: Tree) -> None:
    write = functools.partial(tree.write, who="ann", why="because")
    assert (await write(changes=change("vars/a/b", 1), remove=())).version == 1
    assert (await write(changes=(), remove=("vars/a/b",), expected=1)).version == 2
    with pytest.raises(errors.Conflict, match="vars: it is at version 2"):
        await write(changes=change("vars/x", 1), remove=(), expected=1)
    assert [each.version for each in await tree.history(plugin="vars")] == [2, 1]
    assert bytes(await tree.show(plugin="vars", version=1)) == b'{"a":{"b":1}}'
    await tree.restore(plugin="vars", version=1, who="ann", why="back")
    assert await get(tree, "vars/a/b") == 1


@pytest.mark.parametrize(
    ("set_", "remove", "why"),
    [
        ("host/x", (), "host is read-only"),
        ("vars/x", ("manager/leader",), "a change applies to one plugin, found manager, vars"),
        ("", (), "the root holds the plugins"),
        ("vras/x", (), r"did you mean vars\?"),
        ("vars/x", ("vars/no/y",), "vars/no/y: there is nothing"),
    ],
)
async def test_an_invalid_write_is_refused_with_the_reason(
    tree: Tree, set_: str, remove: tuple[str, ...], why: str
) -> None:
    with pytest.raises((errors.Refused, errors.InvalidSpec, errors.NotFound), match=why):
        await tree.write(changes=change(set_, 1), remove=remove, who="ann", why="")
    assert await get(tree, "vars") == {}


async def test_plugins_without_versions_refuse_removals_expected_versions_and_history(tree: Tree) -> None:
    async with Server(socket("shelf"), {".": Updatable()}), Server(socket("leaves"), {".": ReadableTree()}):
        write = functools.partial(tree.write, who="ann", why="")
        assert (await write(changes=change("shelf/b/c", 9), remove=())).version == 0
        assert await get(tree, "shelf/b/c") == 9
        with pytest.raises(errors.Refused, match="does not support removal"):
            await write(changes=(), remove=("shelf/b",))
        with pytest.raises(errors.Refused, match="stores no versions"):
            await write(changes=change("shelf/b/c", 1), remove=(), expected=1)
        with pytest.raises(errors.Refused, match="stores no versions"):
            await tree.history(plugin="shelf")
        with pytest.raises(errors.NotFound, match="nothing at this path"):
            await tree.show(plugin="nope", version=1)
        assert {b.name: (b.writable, b.versioned) for b in await tree.branches()} == {
            **dict.fromkeys(("export", "host", "leaves", "manager", "swarm"), (False, False)),
            "shelf": (True, False),
            "vars": (True, True),
        }
