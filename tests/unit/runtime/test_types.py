"""Names with a type, `lookup/type`: several plugins at one socket, some local and some remote."""

from pathlib import Path

import msgspec
import pytest

from infrakit.flavors.swarm import SwarmManager, SwarmWorker
from infrakit.rpc.client import Remote
from infrakit.rpc.server import Server
from infrakit.runtime import host
from infrakit.runtime.registry import Registry
from infrakit.spi import errors
from infrakit.spi.flavor import Hosts, Members, Quorum
from infrakit.spi.values import Allocation, LogicalID

PETS = Allocation(logical_ids=(LogicalID("10.0.0.1"),))


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "p"
    directory.mkdir()
    monkeypatch.setenv("INFRAKIT_PLUGINS_DIR", str(directory))
    return directory


async def test_entry_points_are_found_by_their_full_names(plugins: Path) -> None:
    registry = Registry(plugins)
    assert isinstance(await registry.flavor("swarm/manager"), SwarmManager)
    assert isinstance(await registry.flavor("swarm/worker"), SwarmWorker)
    assert {"swarm/manager", "swarm/worker"} <= set(registry.names("Flavor"))
    with pytest.raises(errors.NotFound):
        await registry.flavor("swarm")


async def test_one_process_serves_all_types_of_a_name(plugins: Path) -> None:
    served, registry = Registry(plugins), Registry(plugins)
    objects = host.objects(served, "swarm")
    assert {"manager", "worker"} <= set(objects)
    async with Server(plugins / "swarm", objects):
        manager, worker = await registry.flavor("swarm/manager"), await registry.flavor("swarm/worker")
        assert isinstance(manager, Remote)
        assert isinstance(worker, Remote)
        assert isinstance(manager, Quorum)
        assert isinstance(manager, Members)
        assert isinstance(manager, Hosts)
        assert not isinstance(worker, Quorum)
        with pytest.raises(errors.InvalidSpec, match="Size"):
            await manager.validate(properties=msgspec.Raw(b"{}"), allocation=Allocation(size=1))
        await worker.validate(properties=msgspec.Raw(b"{}"), allocation=Allocation(size=1))
        with pytest.raises(errors.InvalidSpec, match="Volume"):
            await worker.validate(properties=msgspec.Raw(b'{"Volume": "x"}'), allocation=Allocation(size=1))
        replica = msgspec.Raw(b'{"Replica": "https://{LogicalID}:1"}')
        assert list(await manager.replicas(properties=replica, allocation=PETS)) == ["https://10.0.0.1:1"]
        await registry.close()
    await served.close()


async def test_a_type_that_no_other_process_serves_is_created_locally(plugins: Path) -> None:
    served, registry = Registry(plugins), Registry(plugins)
    async with Server(plugins / "swarm", host.objects(served, "swarm/manager")):
        assert isinstance(await registry.flavor("swarm/manager"), Remote)
        assert isinstance(await registry.flavor("swarm/worker"), SwarmWorker)
        with pytest.raises(errors.NotFound, match="swarm/master"):
            await registry.flavor("swarm/master")
        await registry.close()
    await served.close()
