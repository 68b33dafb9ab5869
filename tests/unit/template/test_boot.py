"""Boot scripts as templates: their variables, their validation at commit, and their cost."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.spi import errors
from infrakit.spi.values import Allocation, Attachment, GroupID, Index, InstanceSpec, LogicalID
from infrakit.template import boot
from infrakit.template.boot import BootScripts, Instance, Script
from infrakit.template.engine import Engine
from infrakit.template.loaders import Loader
from infrakit.template.scope import Scope
from infrakit.template.values import Template
from tests.unit.template.known import Tree, snapshots

PETS = Allocation(logical_ids=(LogicalID("10.0.0.1"), LogicalID("10.0.0.2")))


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def instance(allocation: Allocation = PETS, **more: object) -> Instance:
    spec = InstanceSpec(
        logical_id=LogicalID("10.0.0.2") if allocation.logical_ids else None,
        tags={"infrakit.group": "db", "tier": "store"},
        attachments=(Attachment(id="vol-2", type="volume"),),
    )
    index = Index(group=GroupID("db"), sequence=2)
    return Instance(properties=raw({"Color": "blue"}), spec=spec, allocation=allocation, index=index, more=more)


async def rendered(text: str, target: Instance | None = None, *, facts: Tree | None = None) -> str:
    scripts = BootScripts(snapshots(facts) if facts is not None else None)
    (found,) = await scripts.render([Script(path="Init", text=text)], target or instance())
    scripts.close()
    return found


async def problems_of(text: str, *, facts: Tree | None = None, target: Instance | None = None) -> list[str]:
    scripts = BootScripts(snapshots(facts) if facts is not None else None)
    found = await scripts.problems({Script(path="Init", text=text): [target or instance()]})
    scripts.close()
    return [str(each) for each in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ logical_id }}", "10.0.0.2"),
        ("{{ index.group }} {{ index.sequence }}", "db 2"),
        ("{{ allocation.size }}: {{ allocation.logical_ids | join(' ') }}", "2: 10.0.0.1 10.0.0.2"),
        ("{{ tags.tier }} {{ tags['infrakit.group'] }}", "store db"),
        ("{% for each in attachments %}{{ each.type }} {{ each.id }}{% endfor %}", "volume vol-2"),
        ("{{ spec.Color }}", "blue"),
        ("{{ SPEC.Color }} {{ INSTANCE_LOGICAL_ID }} {{ INDEX.Group }} {{ INDEX.Sequence }}", "blue 10.0.0.2 db 2"),
        ("{{ ALLOCATIONS.LogicalIDs[0] }} {{ ALLOCATIONS.Size }}", "10.0.0.1 0"),
        ("{{ logical_id == allocation.logical_ids[0] }}", "false"),
    ],
)
async def test_the_variables_of_an_instance(text: str, expected: str) -> None:
    assert await rendered(text) == expected


async def test_cattle_has_no_logical_id() -> None:
    of_three = instance(Allocation(size=3))
    assert await rendered("[{{ logical_id }}] {{ allocation.size }} {{ ALLOCATIONS.Size }}", of_three) == "[] 3 3"


async def test_functions_of_a_flavor_and_metadata_are_available() -> None:
    target = instance(peers=["a", "b"], greet=lambda name: f"hello {name}")
    facts = Tree(vars={"cluster": {"name": "blue"}})
    text = (
        "{{ peers | join(',') }} {{ greet('you') }} {{ metadata('vars/cluster/name') }} {{ var('vars/cluster/name') }}"
    )
    assert await rendered(text, target, facts=facts) == "a,b hello you blue blue"


@pytest.mark.parametrize("text", ["", "plain\n", "${#x} {#not a comment#} $$ %s\\n\n", "{ { } }"])
async def test_text_without_delimiters_is_unchanged_and_reads_no_metadata(text: str) -> None:
    async def never() -> Any:
        raise AssertionError("no metadata is needed")

    scripts = BootScripts(never)
    assert await scripts.render([Script(path="Init", text=text)], instance()) == (text,)
    assert await scripts.problems({Script(path="Init", text=text): [instance()]}) == []


async def test_scripts_are_rendered_in_a_separate_thread() -> None:
    assert await rendered("{{ name() }}", instance(name=lambda: threading.current_thread().name)) == "boot-scripts_0"


async def test_a_waiting_script_blocks_no_other_thread_of_the_process() -> None:
    gate = threading.Event()
    slow = instance(stay=lambda: str(gate.wait(30)))
    scripts = BootScripts()
    try:
        waiting = [
            asyncio.create_task(scripts.render([Script(path="Init", text="{{ stay() }}")], slow)) for _ in range(50)
        ]
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(lambda: "done") == "done"
            assert not any(each.done() for each in waiting)
            gate.set()
            await asyncio.gather(*waiting)
    finally:
        gate.set()
        scripts.close()


async def test_the_script_of_many_instances_is_compiled_once() -> None:
    class Counting(Engine):
        compiled_new = 0

        def compiled(self, source: Any, name: str) -> Template:
            before = len(self._cache)
            found = super().compiled(source, name)
            self.compiled_new += len(self._cache) - before
            return found

    engine = Counting(Loader())
    scripts = BootScripts(engine=engine)
    await scripts.render([Script(path="Init", text="{{ index.sequence }}")], instance())
    texts = await asyncio.gather(
        *(
            scripts.render(
                [Script(path="Init", text="{{ index.sequence }}")],
                msgspec.structs.replace(instance(), index=Index(group=GroupID("db"), sequence=number)),
            )
            for number in range(200)
        )
    )
    assert texts == [(str(number),) for number in range(200)], "each instance has its own text"
    assert engine.compiled_new == 1
    scripts.close()


# -- validation at commit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo\n{{ logical_it }}", "Init: line 2: 'logical_it' is not defined (did you mean 'logical_id'?)"),
        ("{{ spec.Colour }}", "there is no 'Colour' in this mapping (did you mean 'Color'?)"),
        ("{% if %}", "Init: line 1: "),
        ("{{ include('/nowhere/x') }}", "/nowhere/x: no such file (named in line 1 of Init)"),
        ("{{ metadata('a', 'b') }}{{ nope }}", "'nope' is not defined"),
        ("{{ metadata('a') }}{{ nope }}", "'nope' is not defined"),
        ("{{ metadata.wait('a', '30s') }}{{ nope }}", "'nope' is not defined"),
    ],
)
@pytest.mark.parametrize("facts", [None, Tree(a="there"), Tree(a=errors.Unreachable("away"))])
async def test_an_error_is_reported_with_its_line(text: str, message: str, facts: Tree | None) -> None:
    found = await problems_of(text, facts=facts)
    assert len(found) == 1
    assert message in found[0]


MISSING_METADATA = [
    "{{ metadata('vars/a') }}",
    "{% for each in metadata('vars/a') %}{{ each.address }}{% endfor %}",
    "{{ metadata('vars/a').address.host }}",
    "{{ metadata('vars/a') + 1 }}{{ metadata('vars/b') ~ 'x' }}",
]


@pytest.mark.parametrize("text", MISSING_METADATA)
async def test_without_a_daemon_missing_metadata_is_accepted(text: str) -> None:
    assert await problems_of(text) == []


@pytest.mark.parametrize("text", MISSING_METADATA)
async def test_missing_metadata_of_an_unreachable_plugin_is_accepted(text: str) -> None:
    assert await problems_of(text, facts=Tree(vars=errors.Unreachable("away"))) == []


async def test_with_a_daemon_missing_metadata_is_an_error_unless_the_script_waits_for_it() -> None:
    facts = Tree(vars={"name": "x"})
    assert await problems_of("{{ metadata('vars/name') }}", facts=facts) == []
    (found,) = await problems_of("{{ metadata('vars/nam') }}", facts=facts)
    assert "there is no metadata at 'vars/nam' (did you mean 'name'?)" in found
    assert await problems_of("{{ metadata.wait('vars/later', '30s') }}", facts=facts) == []
    assert facts.waited == [], "a commit does not wait"


async def test_each_error_is_reported_once_for_all_examples(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("{{ nope }}")
    scripts = BootScripts()
    script = Script(path="InitScriptTemplateURL", address=str(tmp_path / "t"))
    examples = boot.examples(raw({}), PETS)
    assert [str(each.spec.logical_id) for each in examples] == ["10.0.0.1", "10.0.0.2"]
    (found,) = await scripts.problems({script: examples})
    assert found.path == "InitScriptTemplateURL"
    assert found.message == f"{tmp_path}/t, line 1: 'nope' is not defined"
    assert len(boot.examples(raw({}), Allocation(logical_ids=tuple(map(LogicalID, map(str, range(99))))))) == 16
    scripts.close()


async def test_an_error_in_the_script_of_only_one_pet_is_found() -> None:
    scripts = BootScripts()
    script = Script(path="Init", text="{% if logical_id == '10.0.0.2' %}{{ nope }}{% endif %}")
    assert len(await scripts.problems({script: boot.examples(raw({}), PETS)})) == 1
    scripts.close()


async def test_properties_are_shared_and_cannot_be_changed() -> None:
    target = instance()
    with pytest.raises(errors.InvalidSpec):
        await rendered("{{ spec.update({'Color': 'red'}) }}", target)
    assert await rendered("{{ spec.Color }}", target) == "blue"
    assert Scope(functions=target.functions()).functions["spec"] == {"Color": "blue"}
