"""The plugin `export`: the exports of a template are facts, rendered again at an interval."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from infrakit.metadata import export
from infrakit.metadata.export import INTERVAL_VARIABLE, TEMPLATE_VARIABLE, Export
from infrakit.spi import errors, paths
from infrakit.spi.metadata import Facts, Metadata
from infrakit.template.engine import Engine
from infrakit.template.loaders import Loader

TEMPLATE = "{{ export('cluster/size', 3) }}{{ export('cluster/names', ['a', 'b']) }}{{ export('zone', 'north') }}"


class FixedFacts:
    """A fixed snapshot of facts."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree

    def keys(self, path: str) -> Sequence[str] | None:
        return paths.keys(paths.find(self.tree, paths.split(path)))

    def get(self, path: str) -> object:
        found = paths.find(self.tree, paths.split(path))
        if found is None:
            raise errors.NotFound("nothing there", where=path)
        return found

    def wait(self, path: str, timeout_s: float) -> object:
        return self.get(path)


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The template that plugins created from now on render."""
    path = tmp_path / "facts.tpl"
    path.write_text(TEMPLATE)
    monkeypatch.setenv(TEMPLATE_VARIABLE, str(path))
    monkeypatch.setenv(INTERVAL_VARIABLE, "0s")
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


async def read(plugin: Metadata, path: str = "") -> Any:
    return json.loads(bytes(await plugin.get(path=path)))


async def test_without_a_template_the_tree_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TEMPLATE_VARIABLE, raising=False)
    assert await read(Export()) == {}
    assert await Export().keys(path="") == []


async def test_the_exports_of_a_template_form_a_tree(template: Path) -> None:
    plugin = Export()
    assert isinstance(plugin, Metadata)
    assert await read(plugin) == {"cluster": {"size": 3, "names": ["a", "b"]}, "zone": "north"}
    assert await plugin.keys(path="cluster") == ["names", "size"]
    assert await read(plugin, "cluster/names[1]") == "b"
    await plugin.close()


async def test_the_template_is_rendered_again_after_the_interval(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = Export()
    monkeypatch.setenv(INTERVAL_VARIABLE, "1h")
    patient = Export()
    assert await read(hasty, "zone") == await read(patient, "zone") == "north"
    write(template, "{{ export('zone', 'south') }}")
    assert await read(hasty, "zone") == "south"
    assert await read(patient, "zone") == "north"


async def test_concurrent_readers_share_a_rendering(template: Path) -> None:
    taken = 0

    async def facts() -> Facts:
        nonlocal taken
        taken += 1
        return FixedFacts({})

    plugin = Export(facts)
    await asyncio.gather(*(plugin.get(path="zone") for _ in range(10)))
    assert taken == 1


async def test_a_template_sees_the_facts_of_other_plugins(template: Path) -> None:
    write(template, "{{ export('upper', metadata('vars/name') | upper) }}")

    async def facts() -> Facts:
        return FixedFacts({"vars": {"name": "blue"}})

    assert await read(Export(facts)) == {"upper": "BLUE"}


async def test_the_shared_engine_fetches_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TEMPLATE_VARIABLE, "s3://bucket/facts.tpl")
    loader = Loader(fetchers={"s3": lambda _address, _timeout_s: b"{{ export('from', 'a bucket') }}"})
    assert await read(Export(engine=Engine(loader))) == {"from": "a bucket"}


async def test_a_reader_that_times_out_does_not_cancel_the_rendering(template: Path) -> None:
    gate = asyncio.Event()
    taken = 0

    async def facts() -> Facts:
        nonlocal taken
        taken += 1
        await gate.wait()
        return FixedFacts({})

    plugin = Export(facts)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await plugin.get(path="zone")
    asyncio.get_running_loop().call_soon(gate.set)
    assert await read(plugin, "zone") == "north"
    assert taken == 1
    gate.clear()
    abandoned = asyncio.create_task(plugin.get(path="zone"))
    await asyncio.sleep(0)  # it has started
    await plugin.close()
    with pytest.raises(asyncio.CancelledError):
        await abandoned


async def test_a_failure_is_reported_with_the_templates_error_and_retried(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "RETRY_S", 0.0)
    monkeypatch.setenv(INTERVAL_VARIABLE, "1h")
    plugin = Export()
    write(template, "x\n{{ export('zone', nowhere ~ '') }}")
    with pytest.raises(errors.InvalidSpec, match="nowhere") as raised:
        await read(plugin)
    assert raised.value.problems[0].line == 2
    write(template, "{{ export('zone', nowhere) }}")
    with pytest.raises((errors.InvalidSpec, errors.Refused), match="not defined"):
        await read(plugin)
    remove(template)
    with pytest.raises(errors.NotFound):
        await read(plugin)
    write(template, TEMPLATE)
    assert await read(plugin, "zone") == "north"


@pytest.mark.parametrize("exports", [{"a": 1, "a/b": 2}, {"a/b": "x", "a/b/c/d": 1}, {"": 1}])
def test_a_path_through_a_value_is_refused(exports: dict[str, object]) -> None:
    with pytest.raises(errors.Refused):
        export.tree(exports)


def test_exports_below_a_map_are_merged_into_it() -> None:
    exports: dict[str, object] = {"a/b/c": 1, "a": {"b": {"x": 2}}}
    assert export.tree(exports) == {"a": {"b": {"x": 2, "c": 1}}}
    assert exports["a"] == {"b": {"x": 2}}


async def test_a_secret_of_a_template_is_not_published(template: Path) -> None:
    write(template.with_name("token"), "SWMTKN-1-secret\n")
    write(template, "{{ export('join/command', 'join --token ' ~ secret('file:token')) }}")
    with pytest.raises(errors.Refused, match="join/command would expose a secret to every reader") as raised:
        await read(Export())
    assert "SWMTKN" not in str(raised.value)


@pytest.mark.parametrize("value", ["join --token s3cret", ["s3cret"], {"s3cret": 1}, {"a": [{"b": "xs3cretx"}]}])
def test_a_secret_is_not_published(value: object) -> None:
    with pytest.raises(errors.Refused, match="join/command would expose a secret to every reader") as raised:
        export.tree({"join/command": value}, frozenset(["", "s3cret"]))
    assert "s3cret" not in str(raised.value)


def test_an_invalid_interval_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERVAL_VARIABLE, "often")
    with pytest.raises(errors.InvalidSpec, match="INFRAKIT_EXPORT_INTERVAL: 'often' is not a duration"):
        Export()
