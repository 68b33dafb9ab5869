"""`infrakit template`: text on standard output, and what is wrong at the line that its author wrote."""

import stat
from pathlib import Path

import pytest

from tests.unit.cli.command_line import CommandLine

BOOT = """\
#!/bin/sh
{{/* Of the cluster,
     for nobody in particular. */}}
{% if var('verbose', false) %}
set -x
{% endif %}
echo "{{ var('cluster/name') }} has {{ var('cluster/size', 3) + 1 }}, ${#PATH}"
"""


@pytest.fixture
def boot(home: Path) -> str:
    (home / "boot.sh.j2").write_text(BOOT)
    return "boot.sh.j2"


async def test_variables_come_from_options_and_files(cli: CommandLine, boot: str) -> None:
    (cli.home / "v.yaml").write_text("cluster: {name: blue, size: 5}\n")
    done = await cli("template", boot, "--vars", "v.yaml")
    assert (done.code, done.err) == (0, "")
    assert done.out == '#!/bin/sh\necho "blue has 6, ${#PATH}"\n'
    done = await cli("template", boot, "--vars=v.yaml", "--var", "cluster/name=a=b", "--global", "verbose=true")
    assert done.out == '#!/bin/sh\nset -x\necho "a=b has 6, ${#PATH}"\n'


async def test_a_template_comes_from_standard_input_a_path_or_an_address(cli: CommandLine, boot: str) -> None:
    given = ("--var", "cluster/name=blue")
    expected = await cli("template", boot, *given)
    assert expected.out
    assert await cli("template", (cli.home / boot).as_uri(), *given) == expected
    assert await cli("template", "-", *given, stdin=BOOT.encode()) == expected


async def test_what_is_missing_names_template_line_and_a_way_out(cli: CommandLine, boot: str) -> None:
    done = await cli("template", boot)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("boot.sh.j2: line 7: there is no variable 'cluster/name'")
    done = await cli("template", boot, "--var", "cluster/nam=x")
    assert "did you mean 'cluster/nam'?" in done.err
    done = await cli("template", "nowhere.j2")
    assert (done.code, done.err) == (1, "infrakit: nowhere.j2: no such file\n")
    done = await cli("template", boot, "--var", "name")
    assert done.code == 1
    assert "--var 'name' is not NAME=VALUE." in done.err


async def test_text_without_templates_is_the_same_byte_for_byte(cli: CommandLine) -> None:
    text = "no end ${#x} \t\r\n{# é \u2028"
    (cli.home / "plain").write_text(text, newline="")
    done = await cli("template", "plain", "-o", "copy")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (cli.home / "copy").read_bytes() == (cli.home / "plain").read_bytes()
    assert (await cli("template", "plain")).out == text


async def test_output_does_not_depend_on_the_terminal(cli: CommandLine) -> None:
    cli.environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert (await cli("template", "-", stdin="{{ 'é' }}".encode())).out == "é"


async def test_a_file_is_written_whole_or_not_at_all(cli: CommandLine, boot: str) -> None:
    target = cli.home / "boot.sh"
    assert (await cli("template", boot, "-o", "boot.sh")).code == 1
    assert not target.exists()
    assert (await cli("template", boot, "-o", "boot.sh", "--var=cluster/name=one")).code == 0
    target.chmod(0o750)
    before = target.read_text()
    assert (await cli("template", boot, "-o", "boot.sh")).code == 1
    assert target.read_text() == before
    assert (await cli("template", boot, "-o", "boot.sh", "--var=cluster/name=two")).code == 0
    assert "two has 4" in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    assert sorted(path.name for path in cli.home.iterdir()) == ["boot.sh", "boot.sh.j2"]
    assert (await cli("template", boot, "-o", "/dev/null", "--var=cluster/name=x")).code == 0
    done = await cli("template", boot, "-o", "no/such/boot.sh", "--var=cluster/name=x")
    assert (done.code, "Traceback" in done.err) == (1, False)


async def test_check_passes_what_is_well_formed(cli: CommandLine, boot: str) -> None:
    done = await cli("template", boot, "--check", "--var=cluster/name=x")
    assert (done.code, done.err) == (0, "")
    assert done.out == "boot.sh.j2: renders to 2 lines of well-formed sh\n"
    done = await cli("template", boot, "--check", "-o", "-", "--var=cluster/name=x")
    assert done.out.startswith("#!/bin/sh\n")
    assert done.err.endswith("well-formed sh\n")
    done = await cli("template", "-", "--check", stdin=b"hello {{ 1 }}")
    assert done.code == 0
    assert "neither its name nor its first line tells what they should be" in done.out


async def test_check_tells_the_line_of_the_template_and_of_the_output(cli: CommandLine) -> None:
    (cli.home / "part.sh").write_text("{% if true %}\n\nthen {{ 1 }}\n{% endif %}\n")
    (cli.home / "boot.sh").write_text(
        "#!/bin/bash\n{% for n in range(3) %}\necho {{ n }}\n{% endfor %}\n{{ include('part.sh') }}\n"
    )
    done = await cli("template", "boot.sh", "--check", "-o", "made")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "part.sh: line 3: bash: syntax error near unexpected token `then', in `then 1' (line 6 of what is rendered)\n"
    )
    assert not (cli.home / "made").exists()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json.j2", '{"a": {{ 1 }},\n}', "a.json.j2: line 2: not JSON: "),
        ("a.yaml", "a: {{ 1 }}\n{{/* x\n*/}}\nb: [\n", "a.yaml: line 4: not YAML: "),
    ],
)
async def test_check_knows_json_and_yaml(cli: CommandLine, name: str, text: str, said: str) -> None:
    (cli.home / name).write_text(text)
    done = await cli("template", name, "--check")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(said)


async def test_trace_shows_where_each_line_comes_from(cli: CommandLine, boot: str) -> None:
    (cli.home / "all").write_text("one\n{{ include('boot.sh.j2', verbose=true) }}\nlast")
    done = await cli("template", "all", "--trace", "--var=cluster/name=x")
    assert [line.split(" | ") for line in done.out.splitlines()] == [
        ["all:1       ", "one"],
        ["boot.sh.j2:1", "#!/bin/sh"],
        ["boot.sh.j2:5", "set -x"],
        ["boot.sh.j2:7", 'echo "x has 4, ${#PATH}"'],
        ["all:2        |"],
        ["all:3       ", "last"],
    ]
    done = await cli("template", "all", "--trace", "--check")
    assert done.code == 1
    assert "--trace is for people" in done.err


BOMBS = {
    "endless": "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
    "text": "{{ 'x' * 10000000000 }}",
    "doubled": "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "number": "{{ 7 ** (10 ** 10) }}",
    "circle": "{{ include('other') }}",
    "escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_hostile_template_is_refused_in_words(cli: CommandLine, name: str) -> None:
    (cli.home / name).write_text(BOMBS[name])
    (cli.home / "other").write_text(f"{{{{ include('{name}') }}}}")
    done = await cli("template", name)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"{name}: line 1: ")
    assert "Traceback" not in done.err
    assert "defect" not in done.err
