"""Every command, document and program in the documentation, run for real; every link followed."""

import ast
import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from _pytest.mark import ParameterSet

from infrakit.runtime import registry
from infrakit.spi.group import Group, Healing, Updating
from tests import source
from tests.docs import nodes, pages
from tests.docs.pages import PAGES, ROOT, Block
from tests.docs.reader import PATIENCE_S, Disappointed, Reader, kind_of
from tests.integration.docker import engines

REFERENCE = ROOT / "docs/reference.md"
TESTED = [page for page in PAGES if page != REFERENCE]
PROGRAMS = {  # that pages use, and their Debian packages
    "node": "nodejs",
    "curl": "curl",
    "openssl": "openssl",
    "etcdctl": "etcd-server etcd-client",
    "etcdutl": "etcd-client",  # since etcd 3.5
}
FIRST = {
    "README.md",
    "quickstart.md",
    "guide.md",
}  # the pages that every reader starts with; the examples of the others run in `make slow`
NOT_RUN = {"", "text", "ini"}  # shown only


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def test_the_pages_exist() -> None:
    names = {page.name for page in PAGES}
    assert names >= {"README.md", "guide.md", "operations.md", "plugins.md", "architecture.md", "reference.md"}
    assert sum(len(list(pages.blocks(page))) for page in PAGES) > 50


def _page(page: Path) -> ParameterSet:
    marks = [pytest.mark.timeout(240)]  # the examples of a page may take long
    if page.name not in FIRST:
        marks.append(pytest.mark.slow)
    if page in nodes.NEEDING:
        marks = [pytest.mark.timeout(900), pytest.mark.nodes]
    return pytest.param(page, marks=marks, id=str(page.relative_to(ROOT)))


@pytest.mark.parametrize("page", [_page(page) for page in TESTED])
def test_the_examples_of_a_page_work(page: Path, place: Path) -> None:
    for program, package in PROGRAMS.items():
        if re.search(rf"^\$ {program} |echo '{program} ", page.read_text(), re.MULTILINE) and not shutil.which(program):
            pytest.skip(f"install {program}: apt-get install {package}")
    patience_s = nodes.PATIENCE_S if page in nodes.NEEDING else PATIENCE_S
    with _engine_for(page, place) as environment, Reader(place, patience_s=patience_s, **environment) as reader:
        for block in pages.blocks(page):
            try:
                _run_block(block, reader)
            except AssertionError as error:
                raise AssertionError(f"{block}: {error}") from error


@contextlib.contextmanager
def _engine_for(page: Path, place: Path) -> Iterator[dict[str, str]]:
    """A separate Docker Engine for a page that uses one; with the image of a node, for a page with nodes."""
    if page in nodes.NEEDING:
        with nodes.engine(place) as environment:
            yield environment
        return
    if not re.search(r"^\$ docker ", page.read_text(), re.MULTILINE):
        yield {}
        return
    with engines.running() as engine:
        yield {"DOCKER_HOST": engine.host}


def _run_block(block: Block, reader: Reader) -> None:
    match block.language:
        case "console" | "hidden":
            reader.console(block.text)
        case "sh":
            reader.console("".join(f"$ {line}\n" for line in block.text.splitlines()))
        case "jinja":
            _template(block, reader)
        case "yaml":
            _document(block, reader)
        case "python":
            _program(block, reader)
        case "toml":
            tomllib.loads(block.text)
        case "json":
            json.loads(block.text)
        case language:
            assert language in NOT_RUN, f"no test runs blocks of {language!r}"
    if block.name and block.language != "python" and (ROOT / block.name).exists():
        assert block.text.partition("\n")[2].strip() == (ROOT / block.name).read_text().strip()


def _template(block: Block, reader: Reader) -> None:
    """Write a template to its file, for the commands after it, which check its output."""
    assert block.name, "its first line names the file"
    path = reader.place / block.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(reader.moved(block.text.partition("\n")[2]))


def _document(block: Block, reader: Reader) -> None:
    """Validate a document, which later commands may use under its name, or a part of a group's properties."""
    if isinstance(yaml.safe_load(block.text), list):
        name = block.name or f"line-{block.line}.yaml"
        (reader.place / name).write_text(reader.moved(block.text))
        reader.console(f"$ infrakit validate {name}\n")
    else:
        _groups(_completed(block.text))


def _completed(text: str) -> str:
    """A document from a part of a group's properties, completed with the required ones."""
    part = yaml.safe_load(text)
    needed = {
        "Allocation": {"Size": 3},
        "Instance": {"Plugin": "local"},
        "Flavor": {"Plugin": "vanilla"},
    }
    return json.dumps([{"kind": "group", "metadata": {"name": "part"}, "properties": needed | part}])


def _groups(text: str) -> tuple[Group, ...]:
    import asyncio

    return asyncio.run(registry.validate(text, "page", home=Path(tempfile.gettempdir()) / "never-made"))


def _program(block: Block, reader: Reader) -> None:
    if block.name and (ROOT / block.name).exists():
        assert block.text.partition("\n")[2].strip() == (ROOT / block.name).read_text().strip(), "not the file's text"
        return
    name = block.name or "shown.py"
    (reader.place / name).write_text(block.text)
    reader.console(f"$ python {name}\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_existing_targets(page: Path) -> None:
    broken = []
    for link in pages.links(page):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in pages.anchors(file)):
            broken.append(link)
    assert not broken


def test_the_picture_loads_nothing_from_other_hosts() -> None:
    picture = (ROOT / "docs/images/quickstart.svg").read_text()
    assert "kill" in picture
    assert "converged" in picture
    assert not re.search(r"@font-face|url\((?!#)|href=|@import|<image", picture)
    hosts = set(re.findall(r"https?://[^\s<\"&/]+", picture))
    assert not [host for host in hosts if host != "http://www.w3.org" and not host.startswith("http://127.0.")]


def test_the_picture_is_up_to_date() -> None:
    picture = _script_of_the_manual("picture")
    assert (ROOT / "docs/images/quickstart.svg").read_text() == picture.render(), "make docs"


# -- the reference ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return _script_of_the_manual("generate")


def _script_of_the_manual(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(generate: ModuleType) -> None:
    with source.uncollected():
        rendered = generate.render()
    assert REFERENCE.read_text() == rendered, "make docs"


CLUSTER = """\
- kind: group
  metadata: {name: workers}
  properties:
    Allocation: {Size: 3}
    Instance: {Plugin: local}
    Flavor: {Plugin: vanilla, Properties: {Init: sleep 99}}
    Updating: {MaxUnavailable: 3, Settle: 0s}
- kind: group
  metadata: {name: store}
  properties:
    Allocation: {LogicalIDs: [127.0.0.11, 127.0.0.12, 127.0.0.13]}
    Instance: {Plugin: local}
    Flavor: {Plugin: vanilla, Properties: {Init: sleep 99}}
    Updating: {MaxUnavailable: 3, Settle: 0s}
"""
BEFORE = ("up", "bootstrap", "init")  # for a cluster that does not exist yet: examples/ha and examples/seed show them
ALONE = {"leader resign": "  # exit code 2", "leader forget": "  # exit code 1"}  # there is no other replica
ENDING = ("group free", "group destroy", "down")  # their examples come last


def test_the_examples_of_the_reference_work(generate: ModuleType, place: Path) -> None:
    """Run them one after the other, in a cluster with the groups that they name."""
    (place / "infrakit.yaml").write_text(CLUSTER)
    (place / "second.yaml").write_text(CLUSTER.replace("sleep 99", "sleep 98"))
    with Reader(place) as reader:
        reader.console("$ infrakit up infrakit.yaml\n$ infrakit commit second.yaml -m change --wait\n")
        reader.console("$ infrakit commit infrakit.yaml -m back --wait\n")
        commands = ((name, each) for name, each in generate.every_command() if name not in BEFORE)
        examples = [(name, generate.help_of(each)[1]) for name, each in commands]
        for name, example in sorted(examples, key=lambda each: ENDING.index(each[0]) if each[0] in ENDING else -1):
            assert f"infrakit {name}" in example
            if "web-7f3a" in example:
                reader.met["web-7f3a"] = _a_worker(place)
            alone = ALONE.get(name, "")
            reader.console(f"$ {example}{alone}\n")
            if name == "group free":
                reader.console("$ infrakit commit infrakit.yaml --wait\n")


def _a_worker(place: Path) -> str:
    """The ID of a running worker: some examples recreate all workers."""
    command = [str(Path(sys.executable).with_name("infrakit")), "instance", "ls", "workers", "-o", "json"]
    environment = {**os.environ, "INFRAKIT_HOME": str(place / ".infrakit")}
    listed = subprocess.run(command, env=environment, capture_output=True, check=True)
    return str(next(each["ID"] for each in json.loads(listed.stdout) if each["State"] == "running"))


# -- statements about the code ---------------------------------------------------------------------------------------


def test_every_rule_is_explained(generate: ModuleType) -> None:
    table = (ROOT / "docs/operations.md").read_text().partition("\n## The rules\n")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)
    assert len(explained) > 25
    assert explained == sorted(generate.every_rule())


def test_every_variable_is_explained() -> None:
    guide = (ROOT / "docs/guide.md").read_text()
    named = set()
    for path in (ROOT / "src/infrakit").rglob("*.py"):
        for node in ast.walk(source.tree(path.read_text())):
            if isinstance(node, ast.Constant) and re.fullmatch(r"INFRAKIT_[A-Z_]+[A-Z]", str(node.value)):
                named.add(str(node.value))
    assert len(named) > 10
    assert not [name for name in named if f"`{name}`" not in guide]


def test_the_policies_that_the_guide_shows_are_the_defaults() -> None:
    shown = next(each for each in pages.blocks(ROOT / "docs/guide.md") if each.name == "defaults.yaml")
    (group,) = _groups(_completed(shown.text))
    assert (group.properties.updating, group.properties.healing) == (Updating(), Healing())
    fields = {*Updating.__struct_encode_fields__, *Healing.__struct_encode_fields__} - {"MaxUnhealthy"}
    assert not [field for field in fields if field not in shown.text]


def test_every_error_is_explained_to_authors() -> None:
    from infrakit.spi import errors

    guide = (ROOT / "docs/plugins.md").read_text()
    kinds = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)}
    assert not [name for name in kinds - {"InfraKitError", "NotLeader", "Halted"} if f"`{name}`" not in guide]


def test_the_architecture_names_the_packages_and_files_that_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    packages = {path.parent.name for path in (ROOT / "src/infrakit").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == packages
    for page in TESTED:
        for path in re.findall(r"`((?:[\w.]+/)+[\w.]+\.(?:py|yaml|toml))`", page.read_text()):
            places = (ROOT / path, ROOT / "src/infrakit" / path)
            assert any(each.exists() for each in places), f"{page.name}: there is no {path}"


# -- the reader itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "example",
    [
        "$ false\n",
        "$ true  # exit code 2\n",
        "$ echo two\none\n",
        "$ echo two; echo one\none\ntwo\n",
        "$ infrakit status\n",
        "$ make nothing-of-that-name\n",
        "$ infrakit up missing.yaml\n",
    ],
)
def test_a_wrong_example_fails(example: str, place: Path) -> None:
    with Reader(place) as reader, pytest.raises(Disappointed):
        reader.console(example)


def test_a_reader_replaces_ids_of_the_page_by_real_ones(place: Path) -> None:
    with Reader(place) as reader:
        reader.console(
            '$ echo "pid 8812, 3.2s ago"\npid 4711, 1m12s ago\n$ echo 4711 | grep 8812\n$ export INFRAKIT_X=y\n'
        )
        reader.console("$ echo one; \\\n    echo $INFRAKIT_X\none\ny\n")


def test_kinds_of_lines_ignore_numbers_and_compare_words() -> None:
    assert kind_of("i-0b53646d0612  born 2s ago") == kind_of("i-df453e7e26fb born  1m02s ago")
    assert kind_of("healthy 3") != kind_of("unhealthy 3")
