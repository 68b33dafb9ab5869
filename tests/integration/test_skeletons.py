"""`infrakit plugin new`: the generated plugin works unchanged in its own processes, and is found by its entry point."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from infrakit.cli.main import main

KINDS = ("instance", "flavor", "metadata")


def run(place: Path, *command: str) -> str:
    """Run a module in an environment in which the plugin is installed, as pip would install it."""
    environment = os.environ | {"PYTHONPATH": f"{place}{os.pathsep}{place / 'site'}", "INFRAKIT_HOME": str(place / "h")}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(place: Path) -> None:
    declared = tomllib.loads((place / "pyproject.toml").read_text())["project"]
    metadata = place / "site" / f"{declared['name'].replace('-', '_')}-{declared['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Name: {declared['name']}\nVersion: {declared['version']}\n")
    ((group, entries),) = declared["entry-points"].items()
    lines = [f"{name} = {target}" for name, target in entries.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_plugin_works(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "made"
    assert main(["plugin", "new", "my-shelf", "--kind", kind, "--directory", str(place)]) == 0
    assert f"{place}/my_shelf.py" in capsys.readouterr().out
    assert " passed" in run(place, "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly")
    install(place)
    assert "my-shelf" in run(place, "infrakit", "plugin", "ls")
    checked = f"""
import asyncio, pathlib, sys, tempfile
from infrakit import conformance
from infrakit.conformance.check import Verdict
from infrakit.rpc.server import Server
from infrakit.runtime import host
from infrakit.runtime.registry import Registry

async def check():
    with tempfile.TemporaryDirectory(prefix="ik", dir="/tmp") as directory:
        path = pathlib.Path(directory) / "p"
        async with Server(path, host.objects(Registry(path.parent), "my-shelf")):
            found = [o async for o in conformance.run(str(path), "my-shelf", settle_s=1.0)]
    assert not [o for o in found if o.verdict is Verdict.FAILED], found
    print(len(found), {kind.capitalize()!r})

asyncio.run(check())
"""
    (place / "checked.py").write_text(checked)
    assert kind.capitalize() in run(place, "checked")


def test_existing_files_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("precious")
    assert main(["plugin", "new", "shelf", "--kind", "flavor", "--directory", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert main(["plugin", "new", "My Shelf", "--kind", "flavor"]) == 1
