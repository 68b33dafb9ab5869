"""`infrakit validate`: the full validation, without a daemon."""

from pathlib import Path

from tests.unit.cli.command_line import CommandLine

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart" / "infrakit.yaml"

WRONG = b"""\
- kind: group
  metadata: {name: web}
  properties:
    Alocation: {Size: 1}
    Instance: {Plugin: local}
    Flavor: {Plugin: vanila, Properties: {}}
"""


async def test_a_valid_document_is_reported_with_its_groups(cli: CommandLine) -> None:
    done = await cli("validate", str(QUICKSTART))
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{QUICKSTART}: valid, 2 groups: ")
    assert (await cli("validate", QUICKSTART.as_uri())).code == 0
    assert (await cli("validate", "-", stdin=QUICKSTART.read_bytes())).code == 0


async def test_every_error_is_one_line_with_its_position_and_a_hint(cli: CommandLine) -> None:
    done = await cli("validate", "-", stdin=WRONG)
    assert (done.code, done.out) == (1, "")
    lines = done.err.splitlines()
    assert 'stdin: line 4: groups[0].properties.Alocation: unknown field (did you mean "Allocation"?)' in lines
    assert all(line.startswith("stdin: line ") for line in lines)


async def test_an_unknown_plugin_is_an_error_of_the_document(cli: CommandLine) -> None:
    done = await cli("validate", "-", stdin=WRONG.replace(b"Alocation", b"Allocation"))
    assert (done.code, done.out) == (1, "")
    assert "Flavor.Plugin" in done.err
    assert "vanila" in done.err
    assert "Traceback" not in done.err


async def test_a_text_that_is_no_document_is_reported_as_such(cli: CommandLine, home: Path) -> None:
    (home / "README.md").write_text("# Title\n\nWords.\n\n## Part\n\nMore words.\n")
    done = await cli("validate", "README.md")
    assert done.code == 1
    assert "README.md: line 7: neither JSON nor YAML: " in done.err
    assert "a document is a list of groups" in done.err
