"""A FILE that is a template of a declaration: the command line renders it on request only."""

import asyncio
from pathlib import Path

import pytest

from infrakit.spi.errors import InvalidSpec, Problem
from tests.unit.cli.canned import CannedManager
from tests.unit.cli.command_line import CommandLine

TEMPLATE = """\
{{/* One group, {{ as big }} as wanted. */}}
{% for name in ['web'] %}
- kind: group
  metadata: {name: {{ name }}}
  properties:
    Allocation: {Size: {{ var('size', 2) }}}
    Instance: {Plugin: local}
    Flavor:
      Plugin: vanilla
      Properties:
        Init: echo {% raw %}{{ index.sequence }}{% endraw %}

{% endfor %}
"""
RENDERED = """\
- kind: group
  metadata: {name: web}
  properties:
    Allocation: {Size: SIZE}
    Instance: {Plugin: local}
    Flavor:
      Plugin: vanilla
      Properties:
        Init: echo {{ index.sequence }}
"""


def received_text(manager: CannedManager, method: str) -> str:
    return next(str(parameters["text"]) for name, parameters in manager.orders if name == method)


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("infrakit.yaml.j2", (), "2"),
        ("infrakit.yaml.tmpl", (), "2"),
        ("infrakit.yaml", ("--template",), "2"),
        ("infrakit.yaml", ("--var", "size=7"), "7"),
        ("infrakit.yaml", ("--vars", "v.json"), "5"),
        ("infrakit.yaml", ("--env", "HOME"), "2"),
    ],
)
async def test_a_document_is_rendered_by_its_extension_or_a_template_option(
    cli: CommandLine, manager: CannedManager, name: str, options: tuple[str, ...], size: str
) -> None:
    (cli.home / name).write_text(TEMPLATE)
    (cli.home / "v.json").write_text('{"size": 5}')
    done = await cli("commit", name, *options)
    assert (done.code, done.err) == (0, "")
    assert received_text(manager, "commit") == RENDERED.replace("SIZE", size)


async def test_any_other_document_keeps_its_braces(cli: CommandLine, manager: CannedManager) -> None:
    """The flavor renders them, for each instance."""
    document = RENDERED.replace("SIZE", "2")
    (cli.home / "infrakit.yaml").write_text(document)
    assert (await cli("commit", "infrakit.yaml")).code == 0
    assert (await cli("commit", "-", stdin=document.encode())).code == 0
    assert [parameters["text"] for _, parameters in manager.orders] == [document, document]


async def test_a_plan_shows_the_rendered_document_on_request(cli: CommandLine, manager: CannedManager) -> None:
    (cli.home / "infrakit.yaml.j2").write_text(TEMPLATE)
    plain = await cli("plan", "infrakit.yaml.j2", "--var", "size=7")
    shown = await cli("plan", "infrakit.yaml.j2", "--var", "size=7", "--rendered")
    assert shown.out == RENDERED.replace("SIZE", "7") + "\n" + plain.out
    refused = await cli("plan", "infrakit.yaml.j2", "--rendered", "-o", "json")
    assert refused.code == 1
    assert "use `infrakit template FILE` in programs" in refused.err


@pytest.mark.parametrize("command", ["commit", "plan", "validate", "up", "bootstrap --store=memory:"])
async def test_a_template_error_is_reported_with_the_line_of_the_template(cli: CommandLine, command: str) -> None:
    (cli.home / "i.yaml.j2").write_text(TEMPLATE.replace("Allocation", "Alocation").replace("local", "{{ nobody }}"))
    done = await cli(*command.split(), "i.yaml.j2")
    assert (done.code, done.out) == (1, "")
    assert done.err == "i.yaml.j2: line 7: 'nobody' is not defined\n"


@pytest.mark.parametrize("command", ["validate", "up", "bootstrap --store=memory:"])
async def test_a_problem_of_the_declaration_names_both_lines(cli: CommandLine, command: str) -> None:
    (cli.home / "part.yaml").write_text("{{/* a part */}}\n    Alocation: {Size: {{ var('size') }}}\n")
    text = TEMPLATE.replace("    Allocation: {Size: {{ var('size', 2) }}}\n", "{{ include('part.yaml') }}\n")
    (cli.home / "i.yaml.j2").write_text(text.replace("Plugin: local", "Plugn: local"))
    done = await cli(*command.split(), "i.yaml.j2", "--var=size=1")
    assert done.code == 1
    lines = done.err.splitlines()
    assert (
        'part.yaml: line 2: groups[0].properties.Alocation: unknown field (did you mean "Allocation"?; '
        "line 4 of the rendered text)"
    ) in lines
    assert any(line.startswith("i.yaml.j2: line 7: groups[0].properties.Instance.Plugn: ") for line in lines)
    assert "Traceback" not in done.err


async def test_a_refusal_of_the_daemon_is_reported_with_the_line_of_the_template(
    cli: CommandLine, manager: CannedManager
) -> None:
    (cli.home / "i.yaml.j2").write_text(TEMPLATE)
    problem = Problem(path="groups[0].properties.Instance", message="no such plugin", line=5)
    manager.failures["commit"] = InvalidSpec([problem], where="i.yaml.j2")
    done = await cli("commit", "i.yaml.j2")
    assert done.code == 1
    assert done.err == (
        "i.yaml.j2: line 7: groups[0].properties.Instance: no such plugin (line 5 of the rendered text)\n"
    )


async def test_standard_input_may_be_a_template(cli: CommandLine) -> None:
    done = await cli("validate", "-", "--template", stdin=TEMPLATE.encode())
    assert (done.code, done.out) == (0, "stdin: valid, 1 group: web\n")


async def test_concurrent_commands_do_not_interfere(cli: CommandLine) -> None:
    (cli.home / "i.yaml.j2").write_text(TEMPLATE)
    done = await asyncio.gather(*(cli("template", "i.yaml.j2", f"--var=size={size}") for size in (1, 2)))
    assert [each.out for each in done] == [RENDERED.replace("SIZE", "1"), RENDERED.replace("SIZE", "2")]


def test_only_the_path_of_an_address_decides_whether_it_is_a_template(tmp_path: Path) -> None:
    from infrakit.cli.rendering import TemplateOptions

    assert TemplateOptions().renders("https://host/a.yaml.j2?token=x")
    assert not TemplateOptions().renders("https://host/a.yaml?x=.j2")
    assert not TemplateOptions().renders("a.j2/infrakit.yaml")
    assert not TemplateOptions().renders("-")


async def test_metadata_is_read_from_the_daemon(cli: CommandLine, manager: CannedManager) -> None:
    done = await cli("template", "-", stdin=b"{{ metadata('host/zone') }} {{ var('host/zone') }} {{ var('a/b', 'c') }}")
    assert (done.code, done.out, done.err) == (0, "north north c", "")
    done = await cli("template", "-", stdin=b"{{ metadata('host/zones') }}")
    assert (done.code, done.out) == (1, "")
    assert done.err == "stdin: line 1: there is no metadata at 'host/zones' (did you mean 'zone'?)\n"


async def test_an_unrendered_template_is_refused_with_a_hint_how_to_render_it(cli: CommandLine) -> None:
    for first, kind in (("{% for name in ['web'] %}", "JSON"), ("# Groups\n{% for name in ['web'] %}", "YAML")):
        (cli.home / "infrakit.yaml").write_text(f"{first}\n- kind: group\n{{% endfor %}}\n")
        done = await cli("validate", "infrakit.yaml")
        assert done.code == 1
        assert f": not {kind}: " in done.err
        assert "if it is a template, pass --template or name it .j2" in done.err
    (cli.home / "infrakit.yaml").write_text("- kind: [\n")
    assert "template" not in (await cli("validate", "infrakit.yaml")).err
