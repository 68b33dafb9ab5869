"""The Swarm of the examples: what it declares, and the program that builds the image of its nodes."""

import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from infrakit.cli import documents, rendering
from infrakit.runtime import registry

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples/swarm-docker"


@pytest.mark.parametrize("variables", [(), ("engine=/tmp/docker.sock", "image=mine:1", "workers=50", "run=/tmp/run")])
async def test_the_declaration_follows_the_variables(variables: tuple[str, ...], tmp_path: Path) -> None:
    document = documents.read(str(EXAMPLE), rendering.TemplateOptions(variables=variables))
    managers, workers = await registry.validate(document.text, document.source, home=tmp_path)
    given = dict(each.split("=") for each in variables)

    assert (managers.name, len(managers.properties.allocation.logical_ids or ())) == ("managers", 3)
    assert (workers.name, workers.properties.allocation.size) == ("workers", int(given.get("workers", 2)))
    instance = msgspec.json.decode(managers.properties.instance.properties)
    assert instance["Image"] == given.get("image", "infrakit-node")
    assert f"{given.get('engine', '/var/run/docker.sock')}:/run/cloud/docker.sock" in instance["HostConfig"]["Binds"]
    run = msgspec.json.decode(managers.properties.flavor.properties)["Replica"]
    assert run == f"unix://{given.get('run', '/run/infrakit-swarm')}/{{LogicalID}}/group"


async def test_only_managers_reach_the_engine_of_the_host(tmp_path: Path) -> None:
    document = documents.read(str(EXAMPLE), rendering.TemplateOptions())
    _, workers = await registry.validate(document.text, document.source, home=tmp_path)
    assert b"docker.sock" not in bytes(workers.properties.instance.properties)


def test_the_program_that_builds_the_image_passes_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("install shellcheck: apt-get install shellcheck")
    done = subprocess.run(
        ["shellcheck", ROOT / "packaging/node-image/build"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
