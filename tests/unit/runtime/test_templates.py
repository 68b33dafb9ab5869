"""Boot scripts for plugins, fetched from any address that this process can reach."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infrakit.rpc import discovery
from infrakit.runtime import registry
from infrakit.spi import errors
from tests.unit.template.web import serving, serving_socket


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    monkeypatch.setenv(discovery.HOME_VARIABLE, str(path))
    monkeypatch.delenv(discovery.PLUGINS_DIR_VARIABLE, raising=False)
    (path / "plugins").mkdir()
    yield path
    shutil.rmtree(path)


def web(address: str) -> str:
    properties = {
        "Allocation": {"Size": 1},
        "Instance": {"Plugin": "local"},
        "Flavor": {"Plugin": "vanilla", "Properties": {"InitScriptTemplateURL": address}},
    }
    return json.dumps([{"kind": "group", "metadata": {"name": "web"}, "properties": properties}])


async def test_a_boot_script_is_fetched_from_the_socket_of_a_plugin(home: Path) -> None:
    with serving_socket(home / "plugins" / "scripts") as site:
        site.page("/boot.sh", "echo {{ index.sequence }}")
        await registry.validate(web("unix://scripts/boot.sh"), "doc", home=home)
        assert [path for path, _ in site.asked] == ["/boot.sh"]


async def test_a_boot_script_is_fetched_once_for_all_groups(home: Path) -> None:
    with serving() as (address, site):
        site.page("/boot.sh", "echo {{ index.sequence }}")
        two = json.loads(web(f"{address}/boot.sh")) + json.loads(web(f"{address}/boot.sh").replace('"web"', '"api"'))
        await registry.validate(json.dumps(two), "doc", home=home)
        assert len(site.asked) == 1


async def test_a_failed_fetch_is_reported_with_the_address(home: Path) -> None:
    with serving() as (address, _), pytest.raises(errors.InvalidSpec) as invalid:
        await registry.validate(web(f"{address}/none.sh"), "doc", home=home)
    (problem,) = invalid.value.problems
    assert problem.path == "groups[0].properties.Flavor.Properties.InitScriptTemplateURL"
    assert problem.message == f"{address}/none.sh: the server answered 404 Not Found"
