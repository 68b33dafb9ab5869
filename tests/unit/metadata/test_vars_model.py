"""Any sequence of set, remove and restore has the same result as on a plain dict."""

import asyncio
import copy
import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from infrakit.metadata.vars import Vars
from infrakit.spi import errors, paths
from infrakit.spi.metadata import Change
from infrakit.stores.memory import MemoryStore
from tests.unit.metadata.test_vars import Clock

names = st.sampled_from(["a", "b", "c d", "10.0.0.1", "é"])
path = st.lists(names, min_size=1, max_size=3).map("/".join)
scalars = st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3))
steps = st.lists(
    st.tuples(st.just("set"), path, values)
    | st.tuples(st.just("rm"), path, st.none())
    | st.tuples(st.just("restore"), st.integers(1, 5), st.none()),
    max_size=12,
)


class Model:
    """The expected behaviour, on nested dicts."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}

    def set(self, path: str, value: Any) -> None:
        *before, last = path.split("/")
        at = self.tree
        for name in before:
            at = at.setdefault(name, {})
            if not isinstance(at, dict):
                raise errors.Refused("in the way")
        at[last] = value

    def rm(self, path: str) -> None:
        *before, last = path.split("/")
        at: Any = self.tree
        for name in before:
            at = at[name] if isinstance(at, dict) and name in at else {}
        if not isinstance(at, dict) or last not in at:
            raise errors.NotFound("not there")
        del at[last]


@given(steps)
def test_vars_behave_like_nested_dicts(commands: list[tuple[str, Any, Any]]) -> None:
    asyncio.run(_compare(commands))


async def _compare(commands: list[tuple[str, Any, Any]]) -> None:
    vars_, model, versions = Vars(MemoryStore(), Clock()), Model(), [b"{}"]
    for verb, path, value in commands:
        before = copy.deepcopy(model.tree)
        refused = done = False
        try:
            if verb == "restore":
                if not 0 < path < len(versions):
                    raise errors.NotFound("no such version")  # noqa: TRY301
                model.tree = json.loads(versions[path])
            else:
                model.set(path, value) if verb == "set" else model.rm(path)
        except (errors.Refused, errors.NotFound):
            model.tree, refused = before, True
        try:
            version = await _do(vars_, verb, path, value)
            done = True
        except (errors.Refused, errors.NotFound):
            pass
        assert done is not refused, (verb, path)
        text = bytes(await vars_.get(path=""))
        assert text == msgspec.json.encode(model.tree, order="sorted")
        if done and version == len(versions):
            versions.append(text)
        assert len(await vars_.history()) == len(versions) - 1
        await _compare_paths(vars_, model.tree)


async def _do(vars_: Vars, verb: str, path: Any, value: Any) -> int:
    if verb == "restore":
        return (await vars_.restore(version=path, who="ann", why="x")).version
    changes = (Change(path=path, value=msgspec.Raw(msgspec.json.encode(value))),) if verb == "set" else ()
    return (await vars_.write(changes=changes, remove=() if changes else (path,), who="ann", why="x")).version


async def _compare_paths(vars_: Vars, value: Any, above: tuple[str, ...] = ()) -> None:
    """Every key resolves to the value of the model."""
    assert bytes(await vars_.get(path=paths.join(above))) == msgspec.json.encode(value, order="sorted")
    assert await vars_.keys(path=paths.join(above)) == paths.keys(value)
    if isinstance(value, dict):
        for name, each in value.items():
            await _compare_paths(vars_, each, (*above, name))
