"""All needs of a template at once, without rendering it."""

from pathlib import Path

import pytest

from infrakit.spi.errors import NotFound
from infrakit.template.engine import Engine
from infrakit.template.loaders import Loader
from infrakit.template.scope import Scope


class Tree:
    """Metadata of one value."""

    def keys(self, path: str) -> list[str] | None:
        return ["region"] if path in ("", "host") else None

    def get(self, path: str) -> object:
        if path != "host/region":
            raise NotFound("there is none", where=path)
        return "north"

    def wait(self, path: str, timeout_s: float) -> object:
        raise AssertionError("the needs are collected without waiting")


BOOT = """\
{{ var('/cluster/name') }} {{ var('zone', 'a') }} {{ var('size') }}
{{ metadata('host/region') }} {{ metadata('host/x') }} {{ metadata.wait('host/y', '9s') }}
{{ env('SHELF') }} {{ env('PATH') }} {{ file('motd') }} {{ file('gone') }}
{{ secret('file:motd') }} {{ secret('cmd:touch ran') }} {{ secret('env:SHELF') }}
{{ source('lib') }} {{ include('part', given=1) }} {{ include('nothing') }} {{ include(var('zone')) }}
{{ logical_id }} {{ free }} {{ up('x') }} {{ plain }}{% set own = 1 %}{{ own }}
"""


def test_all_needs_are_found_and_missing_ones_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELF", "x")
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "boot": BOOT,
        "motd": "hello",
        "lib": "{{ set('size', 3) }}{% macro up(x) %}{{ x }}{% endmacro %}",
        "part": "{{ given }}{{ var('deep') }}",
    }.items():
        (tmp_path / name).write_text(text)
    scope = Scope(
        variables={"cluster/name": "b", "plain": 1},
        functions={"logical_id": "1"},
        facts=Tree(),
        env=frozenset(("SHELF",)),
    )
    engine = Engine(Loader())
    found = engine.needs(engine.template("boot"), scope)
    needs = {(each.kind, each.name): (each.template, each.line, each.found_in) for each in found}
    assert needs == {
        ("variable", "cluster/name"): ("boot", 1, "variables"),
        ("variable", "zone"): ("boot", 1, "default"),
        ("variable", "size"): ("boot", 1, "lib"),
        ("metadata", "host/region"): ("boot", 2, "metadata"),
        ("metadata", "host/x"): ("boot", 2, ""),
        ("metadata", "host/y"): ("boot", 2, ""),
        ("env", "SHELF"): ("boot", 3, "environment"),
        ("env", "PATH"): ("boot", 3, ""),
        ("file", "motd"): ("boot", 3, "motd"),
        ("file", "gone"): ("boot", 3, ""),
        ("secret", "file:motd"): ("boot", 4, "file"),
        ("secret", "cmd:touch"): ("boot", 4, "cmd"),
        ("secret", "env:SHELF"): ("boot", 4, "env"),
        ("source", "lib"): ("boot", 5, "lib"),
        ("include", "part"): ("boot", 5, "part"),
        ("include", "nothing"): ("boot", 5, ""),
        ("include", "(computed)"): ("boot", 5, "(computed)"),
        ("variable", "deep"): ("part", 1, ""),
        ("variable", "free"): ("boot", 6, ""),
        ("variable", "plain"): ("boot", 6, "variables"),
        ("variable", "given"): ("part", 1, "boot"),
    }
    assert {each.name for each in found if each.missing} == {
        "host/x",
        "host/y",
        "PATH",
        "gone",
        "nothing",
        "deep",
        "free",
    }
    assert not (tmp_path / "ran").exists()


def test_templates_that_include_each_other_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("{{ include('b') }}{{ x }}")
    (tmp_path / "b").write_text("{{ include('a') }}{{ y }}")
    engine = Engine(Loader())
    found = engine.needs(engine.template(str(tmp_path / "a")), Scope())
    assert sorted(each.name for each in found) == ["a", "b", "x", "y"]
    assert engine.needs(engine.inline("plain", name="p"), Scope()) == ()
