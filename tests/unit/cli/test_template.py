"""`infrakit template`: text on standard output, and errors with the line of the template."""

import asyncio
import signal
import socket
import stat
from pathlib import Path

import psutil
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


async def test_a_missing_variable_is_reported_with_its_line_and_a_hint(cli: CommandLine, boot: str) -> None:
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


async def test_text_without_templates_is_unchanged_byte_for_byte(cli: CommandLine) -> None:
    text = "no end ${#x} \t\r\n{# é \u2028"
    (cli.home / "plain").write_text(text, newline="")
    done = await cli("template", "plain", "-o", "copy")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (cli.home / "copy").read_bytes() == (cli.home / "plain").read_bytes()
    assert (await cli("template", "plain")).out == text


async def test_output_does_not_depend_on_the_locale(cli: CommandLine) -> None:
    cli.environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert (await cli("template", "-", stdin="{{ 'é' }}".encode())).out == "é"


async def test_the_output_file_is_written_atomically(cli: CommandLine, boot: str) -> None:
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
    assert (done.code, done.err) == (1, "infrakit: no/such: the output directory does not exist; create it\n")


async def test_the_target_of_a_symbolic_link_is_written_and_the_link_is_kept(cli: CommandLine, boot: str) -> None:
    (cli.home / "shared").mkdir()
    target, link = cli.home / "shared" / "boot.sh", cli.home / "boot.sh"
    link.symlink_to("shared/boot.sh")
    for name in ("one", "two"):  # a target that does not exist yet, and one that exists
        assert (await cli("template", boot, "-o", "boot.sh", f"--var=cluster/name={name}")).code == 0
        assert link.is_symlink()
        assert f"{name} has 4" in target.read_text()


async def test_an_open_file_descriptor_can_be_the_output(cli: CommandLine) -> None:
    opened = cli.home / "opened"
    with opened.open("wb") as file:
        file.write(b"before\n")
        file.flush()
        process = await cli.start("template", "-", "-o", "/dev/fd/1", stdin=asyncio.subprocess.DEVNULL, stdout=file)
        assert await process.wait() == 0
        (cli.home / "a.j2").write_text("{{ 1 + 1 }}\n")
        process = await cli.start("template", "a.j2", "-o", "/dev/fd/1", stdout=file)
        assert await process.wait() == 0
    assert opened.read_text() == "before\n2\n"


async def test_check_accepts_well_formed_output(cli: CommandLine, boot: str) -> None:
    done = await cli("template", boot, "--check", "--var=cluster/name=x")
    assert (done.code, done.err) == (0, "")
    assert done.out == "boot.sh.j2: renders to 2 lines of well-formed sh\n"
    done = await cli("template", boot, "--check", "-o", "-", "--var=cluster/name=x")
    assert done.out.startswith("#!/bin/sh\n")
    assert done.err.endswith("well-formed sh\n")
    done = await cli("template", "-", "--check", stdin=b"hello {{ 1 }}")
    assert done.code == 0
    assert "not checked, because neither the name nor the first line indicates a known format" in done.out


async def test_the_name_of_the_output_decides_the_format_if_nothing_else_does(cli: CommandLine) -> None:
    done = await cli("template", "-", "--check", "-o", "made.json", stdin=b'{"a": {{ 1 }}')
    assert (done.code, (cli.home / "made.json").exists()) == (1, False)
    assert done.err.startswith("stdin: line 1: not JSON: ")
    done = await cli("template", "-", "--check", "-o", "made.json", stdin=b'{"a": {{ 1 }}}')
    assert (done.code, done.out) == (0, "stdin: renders to 1 line of well-formed json\n")
    assert (cli.home / "made.json").read_text() == '{"a": 1}'


async def test_an_unusable_address_is_reported_with_a_remedy(cli: CommandLine) -> None:
    done = await cli("template", "http://127.0.0.1:9/a b")
    message = "cannot be fetched: the address is malformed; write a space as %20, and a port as a number"
    assert (done.code, done.err) == (1, f"infrakit: http://127.0.0.1:9/a b: {message}\n")
    done = await cli("template", "unix://away/boot.sh")
    assert done.code == 1
    assert f"cannot be fetched through the socket {cli.home}/plugins/away: No such file" in done.err


async def test_check_reports_the_line_of_the_template_and_of_the_output(cli: CommandLine) -> None:
    (cli.home / "part.sh").write_text("{% if true %}\n\nthen {{ 1 }}\n{% endif %}\n")
    (cli.home / "boot.sh").write_text(
        "#!/bin/bash\n{% for n in range(3) %}\necho {{ n }}\n{% endfor %}\n{{ include('part.sh') }}\n"
    )
    done = await cli("template", "boot.sh", "--check", "-o", "made")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "part.sh: line 3: bash: syntax error near unexpected token `then', in `then 1' (line 6 of the rendered text)\n"
    )
    assert not (cli.home / "made").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        # Every version of Python reports this line.
        ("a.json.j2", '{"a": {{ 1 }},\n"b" 2}', "a.json.j2: line 2: not JSON: "),
        ("a.yaml", "a: {{ 1 }}\n{{/* x\n*/}}\nb: [\n", "a.yaml: line 4: not YAML: "),
    ],
)
async def test_check_supports_json_and_yaml(cli: CommandLine, name: str, text: str, message: str) -> None:
    (cli.home / name).write_text(text)
    done = await cli("template", name, "--check")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(message)


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
    assert "Choose one of" in done.err


async def test_only_allowed_environment_variables_are_read(cli: CommandLine) -> None:
    cli.environment["ZONE"] = "north"
    text = b"{{ env('ZONE') }}"
    assert (await cli("template", "-", "--env", "ZONE", stdin=text)).out == "north"
    done = await cli("template", "-", stdin=text)
    assert (done.code, done.out) == (1, "")
    assert "ZONE" in done.err


BOMBS = {
    "endless": "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
    "text": "{{ 'x' * 10000000000 }}",
    "doubled": "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "number": "{{ 7 ** (10 ** 10) }}",
    "circle": "{{ include('other') }}",
    "escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_hostile_template_is_refused_with_a_message(cli: CommandLine, name: str) -> None:
    (cli.home / name).write_text(BOMBS[name])
    (cli.home / "other").write_text(f"{{{{ include('{name}') }}}}")
    done = await cli("template", name)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"{name}: line 1: ")
    assert "Traceback" not in done.err
    assert "defect" not in done.err


async def test_output_that_is_not_valid_unicode_is_refused(cli: CommandLine) -> None:
    done = await cli("template", "-", stdin=b"a\n{{ '\\ud800' }}")
    assert (done.code, done.out) == (1, "")
    assert done.err == ("stdin: line 2 of the rendered text holds half of a surrogate pair (it is not a character)\n")
    done = await cli("template", "-", stdin=b"{{ export('a', {1: 2, (1, 2): 3}) }}")
    assert "defect" not in done.err


EXPLAINED = """\
{% if var('verbose', false) %}{{ var('level') }}{% endif %}
{{ include('part.sh', extra=1) }} {{ metadata('host/zone', 'none') }} {{ env('ZONE', 'south') }}
{{ secret('env:TOKEN') }} {{ colour }}
"""


async def explained(
    cli: CommandLine, *options: str, code: int = 0
) -> tuple[dict[tuple[str, str], list[str]], str, str]:
    """The rows of `--explain` by kind and name; the line of unused variables; standard error."""
    (cli.home / "part.sh").write_text("{{ var('size', 3) }}\n{{ var('cluster/size') }}\n")
    (cli.home / "boot.sh").write_text(EXPLAINED)
    done = await cli("template", "boot.sh", "--explain", *options)
    assert done.code == code, done.err
    header, *lines = done.out.splitlines()
    columns = [header.index(title) for title in ("NEED", "NAME", "FOUND IN", "USED IN")]
    rows = [[line[a:b].strip() for a, b in zip(columns, [*columns[1:], None], strict=True)] for line in lines]
    more = "".join(line for line in lines if line.startswith("given"))
    return {(row[0], row[1]): row[2:] for row in rows if "given" not in row[0]}, more, done.err


async def test_explain_reports_everything_that_is_missing_at_once(cli: CommandLine) -> None:
    rows, _, err = await explained(cli, "--var=verbose=true", code=1)
    assert rows == {
        ("variable", "verbose"): ["variables", "boot.sh:1"],
        ("variable", "level"): ["MISSING", "boot.sh:1"],
        ("include", "part.sh"): ["part.sh", "boot.sh:2"],
        ("variable", "size"): ["default", "part.sh:1"],
        ("variable", "cluster/size"): ["MISSING", "part.sh:2"],
        ("metadata", "host/zone"): ["default", "boot.sh:2"],
        ("env", "ZONE"): ["default", "boot.sh:2"],
        ("secret", "env:TOKEN"): ["MISSING", "boot.sh:3"],
        ("variable", "colour"): ["MISSING", "boot.sh:3"],
    }
    assert err == ""


async def test_explain_shows_where_values_are_found_but_no_values(cli: CommandLine) -> None:
    cli.environment |= {"TOKEN": "hush-hush", "ZONE": "north"}
    options = ("--env=TOKEN", "--env=ZONE", "--var=level=1", "--var=cluster/size=5", "--var=colour=red")
    rows, more, err = await explained(cli, *options, "--var=cluster/sizes=6", "--var=extra=x")
    assert rows["variable", "level"] == ["variables", "boot.sh:1"]
    assert rows["variable", "cluster/size"] == ["variables", "part.sh:2"]
    assert rows["env", "ZONE"] == ["environment", "boot.sh:2"]
    assert rows["secret", "env:TOKEN"] == ["env", "boot.sh:3"]
    assert more == "given but not used: cluster/sizes, extra"
    assert "hush" not in f"{rows}{more}{err}"


async def test_explain_marks_a_computed_name_and_reports_no_unused_variable(cli: CommandLine) -> None:
    (cli.home / "a").write_text("{{ var('cluster/' ~ 'name') }}")
    done = await cli("template", "a", "--explain", "--var=cluster/name=blue")
    assert done.code == 0
    assert done.out.splitlines()[1].split() == ["variable", "(computed)", "(computed)", "a:1"]
    assert "not asked for" not in done.out


async def test_explain_reports_why_an_address_cannot_be_read(cli: CommandLine) -> None:
    (cli.home / "a").write_text("{{ include('nowhere.sh') }}\n{{ fetch('ftp://ann:hush@127.0.0.1/x') }}\n")
    done = await cli("template", "a", "--explain")
    assert (done.code, "hush" in done.out + done.err) == (1, False)
    assert done.out.count("MISSING") == 2
    assert "\nmissing: nowhere.sh: no such file\nmissing: ftp://127.0.0.1/x: unknown kind of address" in done.out


async def test_explain_runs_no_command(cli: CommandLine) -> None:
    (cli.home / "a").write_text("{{ secret('cmd:touch ran') }}")
    done = await cli("template", "a", "--explain")
    assert (done.code, done.out.splitlines()[1].split()) == (0, ["secret", "cmd:touch", "cmd", "a:1"])
    assert not (cli.home / "ran").exists()


async def test_explain_reports_a_template_without_needs(cli: CommandLine) -> None:
    (cli.home / "a").write_text("{{ 1 }}")
    assert (await cli("template", "a", "--explain")).out == "a needs nothing\n"


async def test_secrets_are_shown_in_the_output_only(cli: CommandLine) -> None:
    cli.environment["TOKEN"] = "hush-hush"
    (cli.home / "a.yaml").write_text("token: {{ secret('env:TOKEN') }}\nlist: {{ secret('env:TOKEN') | base64 }} [\n")
    assert "hush-hush" in (await cli("template", "a.yaml", "--env=TOKEN")).out
    for more in ("--trace", "--check", "--explain"):
        done = await cli("template", "a.yaml", "--env=TOKEN", more)
        assert "hush" not in done.out + done.err
        assert "aHVzaC1odXNo" not in done.out + done.err
    assert "a.yaml:1 | token: ***" in (await cli("template", "a.yaml", "--env=TOKEN", "--trace")).out.splitlines()
    assert (await cli("template", "a.yaml", "--env=TOKEN", "-o", "made")).code == 0
    assert stat.S_IMODE((cli.home / "made").stat().st_mode) == 0o600


async def test_metadata_without_a_daemon_is_an_error_unless_it_has_a_default(cli: CommandLine) -> None:
    done = await cli("template", "-", stdin=b"a\n{{ metadata('host/zone') }}")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("infrakit: no daemon answers at ")
    assert "named in line 2 of stdin; infrakit up starts it with the last declaration" in done.err
    assert (await cli("template", "-", stdin=b"{{ metadata('host/zone', 'none') }}")).out == "none"
    assert (await cli("template", "-", stdin=b"{{ var('host/zone', 'none') }}")).out == "none"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
async def test_a_signal_leaves_no_process_behind(cli: CommandLine, number: int, code: int) -> None:
    """While a template is fetched from a server that never answers."""
    cli.environment["no_proxy"] = "127.0.0.1"
    with socket.create_server(("127.0.0.1", 0)) as listener, (cli.home / "log").open("w") as log:
        listener.settimeout(60)
        port = listener.getsockname()[1]
        # Not to a pipe: reading it would wait for every process that holds it.
        process = await cli.start("template", f"http://127.0.0.1:{port}/never", stdout=log, stderr=log)
        connection, _ = await asyncio.to_thread(listener.accept)
        with connection:
            children = psutil.Process(process.pid).children()
            assert children
            process.send_signal(number)
            assert await asyncio.wait_for(process.wait(), 60) == code
            _, alive = await asyncio.to_thread(psutil.wait_procs, children, timeout=10)
            assert not alive
    assert (cli.home / "log").read_text() == ""


async def test_a_name_of_boot_scripts_leads_to_the_option_that_supplies_it(cli: CommandLine, home: Path) -> None:
    (home / "boot.sh.j2").write_text("echo {{ index.group }}\n")
    done = await cli("template", "boot.sh.j2")
    assert done.code == 1
    assert "'index' is not defined (a boot script gets it from its flavor; here: --var index/group=NAME" in done.err
    assert (await cli("template", "boot.sh.j2", "--var", "index/group=web")).out == "echo web\n"
