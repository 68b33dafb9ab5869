"""The import contracts of `.importlinter` hold, and each of them detects a violation."""

import configparser
import graphlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import grimp
import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = ROOT / ".importlinter"


class Violation(NamedTuple):
    """One line that breaks the contract when it is added to the file."""

    contract: str
    file: str
    line: str


VIOLATIONS = (
    Violation("layers", "spi/values.py", "import infrakit.spec.document"),
    Violation("layers", "group/state/view.py", "import infrakit.manager.lead.replica"),
    Violation("layers", "template/loaders.py", "import infrakit.rpc.call"),
    Violation("layers", "instances/local/home.py", "import infrakit.stores.file"),
    Violation("layers", "newroom/__init__.py", "import infrakit.spi"),
    Violation("plugins", "flavors/vanilla/probes.py", "import infrakit.flavors.other"),
    Violation("plugins", "stores/memory.py", "import infrakit.stores.file"),
    Violation("pure", "group/plan/pets.py", "import time"),
    Violation("pure", "group/plan/rollout.py", "from random import choice"),
    Violation("pure", "group/state/view.py", "import asyncio"),
    Violation("pure", "group/plan/heal.py", "import infrakit.spi.clock"),  # which leads to `time`
    Violation("pure", "gate/voters.py", "import time"),
    Violation("pure", "group/override.py", "import logging"),
    Violation("decide", "group/plan/cattle.py", "import infrakit.group.executor"),
    Violation("oracle", "simulation/oracle/declared.py", "import infrakit.group.orders"),
    Violation("by-name", "manager/lead/replica.py", "import infrakit.stores.file"),
    Violation("by-name", "group/controller.py", "import infrakit.flavors.vanilla"),
    Violation("by-name", "manager/lead/replica.py", "import infrakit.metadata.vars"),
    Violation("by-scheme", "runtime/sources.py", "import infrakit.stores.file"),
    Violation("by-scheme", "lifecycle/offline.py", "import infrakit.leadership.static"),
    Violation("layers", "stores/file.py", "import infrakit.manager.declaration.record"),
    Violation("plugins", "metadata/host.py", "import infrakit.metadata.manager"),
    Violation("aiohttp", "group/executor.py", "import aiohttp"),
    Violation("aiohttp", "flavors/vanilla/command.py", "import aiohttp.client"),
    Violation("jinja2", "flavors/vanilla/command.py", "import jinja2"),
    Violation("clients", "leadership/static.py", "import aiodocker"),
)


def lint(source: Path, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the linter on the package under `source`."""
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program), "--no-logo", "--config", str(CONTRACTS), "--cache-dir", str(cache)]
    return subprocess.run(
        [*command, *arguments],
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_every_contract_holds(tmp_path: Path) -> None:
    done = lint(ROOT / "src", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("violation", VIOLATIONS, ids=lambda v: f"{v.contract}: {v.file}: {v.line}")
def test_a_violation_is_detected(violation: Violation, tmp_path: Path) -> None:
    source = tmp_path / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "infrakit/flavors/other.py").write_text('"""A second flavor."""\n')
    file = source / "infrakit" / violation.file
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as code:
        code.write(f"\n{violation.line}\n")
    done = lint(source, tmp_path / "cache", "--contract", violation.contract)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "0 kept, 1 broken" in done.stdout, done.stdout + done.stderr


def test_every_contract_has_a_violation() -> None:
    parser = configparser.ConfigParser()
    parser.read(CONTRACTS)
    declared = {name.rpartition(":")[2] for name in parser.sections() if name.startswith("importlinter:contract:")}
    assert declared == {violation.contract for violation in VIOLATIONS}


def cycle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a cycle, wherever the imports are in them; empty if there is no cycle."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_there_are_no_import_cycles() -> None:
    graph = grimp.build_graph("infrakit", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert cycle(imports) == []
    imports["infrakit.spi.values"] = {"infrakit.manager.lead.replica"}  # a planted one
    assert "infrakit.spi.values" in cycle(imports)
