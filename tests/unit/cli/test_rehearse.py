"""`infrakit rehearse`: its options, its output and its exit codes; without a daemon."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.command_line import CommandLine

WEB = """\
- kind: group
  metadata: {name: web, tags: {zone: a}}
  properties:
    Allocation: {Size: 3}
    Instance: {Plugin: local}
    Flavor: {Plugin: vanilla, Properties: {Init: "exec sleep 1000"}}
"""
TEMPLATE = WEB.replace("Size: 3", "Size: {{ size }}")


@pytest.fixture
def document(home: Path) -> str:
    (home / "web.yaml").write_text(WEB)
    return "web.yaml"


async def test_an_exercise_prints_its_timeline_and_its_figures(cli: CommandLine, document: str) -> None:
    done = await cli("rehearse", document, "--kill", "web/2")
    assert (done.code, done.err) == (0, "")
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert lines[0] == "web.yaml: 1 group, in virtual time, with seed 1"
    assert "web 3 no 0 local -> simulator vanilla -> true health 30 s" in lines
    assert any(line.startswith("Policies, sizes") and "Not rehearsed: boot scripts" in line for line in lines)
    assert "--kill web/2: web/2 terminates" in lines
    assert any(line.startswith("0.0 s fault web/2 sim-") for line in lines)
    assert any("slot 2 has no instance: 2 of 3 exist" in line for line in lines)
    assert any(line.startswith("web: lowest 2 of 3 healthy, at 0 s; whole after") for line in lines)
    assert lines[-1] == "1 exercise: every promise was kept"


async def test_the_seed_repeats_the_output(cli: CommandLine, document: str) -> None:
    first, second, other = [await cli("rehearse", document, "--errors", "1m", "--seed", seed) for seed in "771"]
    assert first == second
    assert first.out != other.out


async def test_a_broken_promise_is_printed_with_the_reason_and_has_its_own_exit_code(
    cli: CommandLine, document: str
) -> None:
    done = await cli("rehearse", document, "--unhealthy", "70%", "--kill", "1", "--within", "10m")
    assert (done.code, done.err) == (4, "")
    broken = "BROKEN whole: every declared instance is healthy again in time. web, at 600 s: 1 of 3 were healthy and"
    assert broken in done.out
    assert "2 of 3 members are unhealthy, and MaxUnhealthy is 1" in done.out
    assert done.out.splitlines()[-1] == "2 exercises, and 1 would break a promise: --unhealthy 70%"


async def test_programs_get_the_complete_result(cli: CommandLine, document: str) -> None:
    done = await cli("rehearse", document, "--kill", "1", "--bad-version", "-o", "json")
    assert (done.code, done.err) == (0, "")
    result = json.loads(done.out)
    assert (result["Kept"], result["Seed"], result["WithinS"]) == (True, 1, 3600.0)
    assert [each["Exercise"] for each in result["Exercises"]] == ["--kill 1", "--bad-version"]
    (web,) = result["Exercises"][0]["Groups"]
    assert (web["Group"], web["Size"], web["Lowest"]) == ("web", 3, 2)
    assert {line["What"] for line in result["Exercises"][0]["Timeline"]} >= {"fault", "creating", "whole"}
    broken = json.loads((await cli("rehearse", document, "--unhealthy", "2", "--within", "9m", "-o", "json")).out)
    assert broken["Kept"] is False
    assert broken["Exercises"][0]["Broken"][0]["Promise"] == "whole"


async def test_a_long_exercise_is_shortened_for_people(cli: CommandLine, home: Path) -> None:
    (home / "many.yaml").write_text(WEB.replace("Size: 3", "Size: 20"))
    done = await cli("rehearse", "many.yaml", "--kill-share", "30%")
    assert (done.code, done.out.count("creating")) == (0, 4)
    assert "3 creating" in done.out
    assert "-o json has all" in done.out


async def test_a_template_is_rendered_first(cli: CommandLine, home: Path) -> None:
    (home / "web.yaml.j2").write_text(TEMPLATE)
    done = await cli("rehearse", "web.yaml.j2", "--var", "size=2", "--kill", "1")
    assert "lowest 1 of 2 healthy" in done.out


async def test_an_invalid_document_is_reported_as_by_validate(cli: CommandLine) -> None:
    wrong = WEB.replace("Allocation", "Alocation").encode()
    rehearsed, validated = await cli("rehearse", "-", stdin=wrong), await cli("validate", "-", stdin=wrong)
    assert (rehearsed.code, rehearsed.out) == (1, "")
    assert rehearsed.err == validated.err
    assert "groups[0].properties.Alocation" in rehearsed.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kill", "web/9"], "--kill: no group declares the member 'web/9' (did you mean web/3?)"),
        (["--lose-zone", "zone=b"], "--lose-zone: no member has the tag zone=b (did you mean zone=a?)"),
        (["--lose-zone", ""], "--lose-zone: no group declares the member ''"),
        (["--kill-share", "many"], "--kill-share: 'many' is not a percentage (such as 30%)"),
        (["--slow", "0"], "Invalid value for '--slow': it must be longer than 0."),
        (["--within", "soon"], "Invalid value for '--within': 'soon' is not a duration"),
        (["--seed", "x"], "Invalid value for '--seed'"),
    ],
)
async def test_an_invalid_option_is_a_user_error_before_anything_is_printed(
    cli: CommandLine, document: str, options: list[str], message: str
) -> None:
    done = await cli("rehearse", document, *options)
    assert (done.code, done.out) == (1, "")
    assert message in " ".join(done.err.split())
    assert "Traceback" not in done.err


async def test_a_document_without_instances_has_nothing_to_rehearse(cli: CommandLine) -> None:
    done = await cli("rehearse", "-", stdin=WEB.replace("Size: 3", "Size: 0").encode())
    assert (done.code, done.out) == (1, "")
    assert done.err == "Allocation: no group of stdin declares an instance\n"
