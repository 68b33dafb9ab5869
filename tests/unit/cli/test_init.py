"""`infrakit init` prints a readable script, and the files that are embedded in it arrive unchanged."""

import asyncio
import json
import shutil
import stat
from pathlib import Path

import pytest

from infrakit.cli import seed_script
from infrakit.spi.values import Attachment, InstanceSpec, LogicalID
from tests.unit.cli.command_line import CommandLine

EXAMPLE = Path(__file__).parents[3] / "examples" / "seed" / "infrakit.yaml"
NASTY = "echo 'one' \"$HOME\" `id` \\\nBOOT_SCRIPT\nDECLARATION\n{{ x }} %s\\n é\n"
SPEC = InstanceSpec(
    init=NASTY,
    logical_id=LogicalID("10.0.0.1"),
    tags={"a": "b\nrm -rf /", "infrakit.token": "t", "infrakit.config.hash": "bootstrap"},
    attachments=(Attachment(id="v", type="volume"),),
)
# A stub of `infrakit` that records its arguments and files.
RECEIVER = """#!/bin/sh
printf '%s\\n' "$@" >"$RECEIVED/words"
ls -ln "$(dirname "$2")" >"$RECEIVED/modes"
cp "$2" "$RECEIVED/declaration"
cp "$5" "$RECEIVED/boot"
read -r stolen && echo "$stolen" >"$RECEIVED/stolen"
exit "${CODE-0}"
"""


async def run(script: str, directory: Path, code: int = 0) -> int:
    """Pipe the script into `sh`, as a user does, with the stub instead of `infrakit`."""
    program = directory / "infrakit"
    program.write_text(RECEIVER)
    program.chmod(0o700)
    (directory / "tmp").mkdir()
    environment = {"PATH": f"{directory}:/usr/bin:/bin", "RECEIVED": str(directory), "TMPDIR": str(directory / "tmp")}
    process = await asyncio.create_subprocess_exec(
        "sh", stdin=asyncio.subprocess.PIPE, env=environment | {"CODE": str(code)}
    )
    async with asyncio.timeout(60):
        await process.communicate(f"{script}echo after\n".encode())
    assert process.returncode is not None
    return process.returncode


def nasty() -> str:
    return seed_script.text(
        what="10.0.0.1,\nthe first", plugin="local", spec=SPEC, declaration=NASTY, words=["--group", "it's $HOME"]
    )


async def test_both_files_arrive_unchanged_and_no_other_command_reads_the_script(tmp_path: Path) -> None:
    assert await run(nasty(), tmp_path) == 0
    assert (tmp_path / "boot").read_text() == NASTY
    assert (tmp_path / "declaration").read_text() == NASTY
    words = (tmp_path / "words").read_text().splitlines()
    assert (words[0], words[2:4], words[5:]) == ("init", ["--start", "--boot"], ["--group", "it's $HOME"])
    assert not (tmp_path / "stolen").exists()
    assert list((tmp_path / "tmp").iterdir()) == [], "the temporary files are removed"


async def test_the_temporary_files_are_readable_by_the_owner_only(tmp_path: Path) -> None:
    await run(nasty(), tmp_path)
    modes = [line.split()[0] for line in (tmp_path / "modes").read_text().splitlines()[1:]]
    assert {stat.filemode(0o100600)} == set(modes)


async def test_a_failure_is_the_exit_code_of_the_script(tmp_path: Path) -> None:
    assert await run(nasty(), tmp_path, code=3) == 3


def test_values_in_comments_cannot_break_out_of_them() -> None:
    head = nasty().split("set -eu")[0]
    assert all(line.startswith("#") or not line for line in head.splitlines())
    assert "#   tag a=b rm -rf /" in head
    assert "volume v" in head
    assert "infrakit.token" not in head


async def test_the_script_is_the_boot_script_of_the_first_node(cli: CommandLine) -> None:
    done = await cli("init", str(EXAMPLE), "--store", "etcd://10.0.0.1/x")
    assert (done.code, done.err) == (0, "")
    assert "# Turns this machine into 127.0.30.1, the first node of the group etcd." in done.out
    assert "name=127.0.30.1" in done.out
    assert EXAMPLE.read_text() in done.out
    assert "--store etcd://10.0.0.1/x" in done.out
    other = await cli("init", str(EXAMPLE), "--sequence", "3")
    assert "name=127.0.30.3" in other.out
    assert "--logical-id 127.0.30.3" in other.out


async def test_the_script_passes_shellcheck(cli: CommandLine, tmp_path: Path) -> None:
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("install shellcheck: apt-get install shellcheck")
    done = await cli("init", str(EXAMPLE), "--store", "etcd://10.0.0.1/x")
    script = tmp_path / "seed.sh"
    script.write_text(done.out)
    process = await asyncio.create_subprocess_exec(checker, str(script), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--boot", "x"], 1, "--boot needs --start"),
        (["--logical-id", "10.9.9.9"], 2, "no node with the logical ID 10.9.9.9"),
        (["--group", "nope"], 2, "there is no group 'nope'"),
    ],
)
async def test_a_missing_option_node_or_group_is_reported(
    cli: CommandLine, words: list[str], code: int, message: str
) -> None:
    done = await cli("init", str(EXAMPLE), *words)
    assert done.code == code
    assert message in done.err
    assert done.out == ""


async def test_a_store_is_required_where_no_group_hosts_replicas(cli: CommandLine, tmp_path: Path) -> None:
    document = tmp_path / "infrakit.yaml"
    document.write_text("\n".join(each for each in EXAMPLE.read_text().split("\n") if "Replica:" not in each))
    for command in (["init", "--start"], ["bootstrap"]):
        done = await cli(*command, str(tmp_path))
        assert (done.code, done.out) == (1, "")
        assert "no group hosts InfraKit replicas" in done.err
        assert "(name the store: --store URL, or INFRAKIT_STORE)" in done.err
    assert not list(cli.home.glob("local/instances/*")), "no instance was created"


async def test_a_json_document_in_the_original_format_works(cli: CommandLine, tmp_path: Path) -> None:
    document = tmp_path / "web.json"
    properties = {
        "Allocation": {"Size": 2},
        "Instance": {"Plugin": "local"},
        "Flavor": {"Plugin": "vanilla", "Properties": {"Init": ["exec sleep 1000"]}},
    }
    document.write_text(json.dumps([{"kind": "group", "metadata": {"name": "web"}, "properties": properties}]))
    done = await cli("init", str(document))
    assert "exec sleep 1000\nBOOT_SCRIPT\n" in done.out
    assert "--sequence 1" in done.out


async def test_a_declaration_template_is_rendered_before_it_is_embedded(cli: CommandLine, tmp_path: Path) -> None:
    document = tmp_path / "seed.yaml.j2"
    document.write_text(EXAMPLE.read_text().replace("127.0.30.", "{{ net }}."))
    done = await cli("init", str(document), "--var", "net=10.1.2", "--store", "etcd://10.1.2.1")
    assert (done.code, done.err) == (0, "")
    assert "LogicalIDs: [10.1.2.1, 10.1.2.2, 10.1.2.3]" in done.out
    assert "name=10.1.2.1" in done.out
    assert (await cli("init", str(document), "--var", "nett=10.1.2")).code == 1


async def test_the_template_of_the_example_passes_shellcheck_and_contains_the_declaration(cli: CommandLine) -> None:
    done = await cli("template", str(EXAMPLE.parent / "seed.sh.j2"), "--var", "store=etcd://10.0.0.1/it's")
    assert (done.code, done.err) == (0, "")
    assert EXAMPLE.read_text() in done.out
    assert "--store 'etcd://10.0.0.1/it'\"'\"'s'" in done.out
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("install shellcheck: apt-get install shellcheck")
    process = await asyncio.create_subprocess_exec(
        checker, "-", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate(done.out.encode())
    assert process.returncode == 0, output.decode()


async def test_an_invalid_store_url_is_refused_before_a_script_is_printed(cli: CommandLine) -> None:
    for url in ("ftp://127.0.0.1/infrakit", "127.0.0.1:2379", "etcd://", "file:relative"):
        done = await cli("init", str(EXAMPLE), "--store", url)
        assert (done.code, done.out) == (1, ""), url
        assert "is not understood (write it as etcd://HOST:PORT[,HOST:PORT]/PREFIX, file:///DIR, memory:" in done.err
    done = await cli("init", str(EXAMPLE), "--store", "etcd://127.0.0.1:2379/infrakit?ca=/only/on/that/machine")
    assert done.code == 0, done.err
