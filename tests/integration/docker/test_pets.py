"""Fixed addresses, names and volumes: one instance at a time, and a replacement only after a termination."""

import asyncio
import json
from pathlib import Path

import pytest

from infrakit.instances.docker import Docker
from infrakit.spi.errors import Conflict, Refused
from infrakit.spi.values import Attachment, InstanceSpec, State
from tests.integration.docker.containers import (
    ADDRESS,
    KEEPS_RUNNING,
    NETWORK,
    destroy,
    listed,
    spec,
    state,
    until_logged,
)
from tests.integration.docker.engines import IMAGE, Engine

VOLUME = Attachment(id="v1", type="volume")


def pet(init: str = KEEPS_RUNNING, *, token: str = "", logical_id: str = ADDRESS) -> InstanceSpec:
    return spec(init, token=token, logical_id=logical_id, volumes=("v1",), Network=NETWORK,
        Volumes=[{"Target": "/data"}])  # fmt: skip


async def test_an_address_is_fixed_and_its_network_is_created(docker: Docker, engine: Engine) -> None:
    instance = await docker.provision(spec=pet("ip addr show eth0; echo at $INFRAKIT_VOLUME; exec sleep 1000"))
    assert f"inet {ADDRESS}/24" in await until_logged(docker, instance, "at /data\n")
    (found,) = await docker.describe_instances(tags={}, properties=True)
    facts = json.loads(bytes(found.properties))  # type: ignore[arg-type]
    assert facts["Addresses"] == {"nodes": ADDRESS}
    assert facts["Volumes"] == {"v1": "/data"}
    (shown,) = json.loads(engine.docker("network", "inspect", "nodes"))
    assert shown["IPAM"]["Config"] == [{"Subnet": "10.77.0.0/24"}]


async def test_a_logical_id_is_the_host_name_and_resolved_by_others(docker: Docker) -> None:
    await docker.provision(spec=pet(logical_id="m1"))
    instance = await docker.provision(spec=spec("hostname; nslookup m1; exec sleep 1000",
        logical_id="m2", Network=NETWORK))  # fmt: skip
    log = await until_logged(docker, instance, "Address: 10.77.0.")
    assert log.startswith("m2\n")


async def test_the_network_is_created_once(docker: Docker, engine: Engine, tmp_path: Path) -> None:
    other = Docker(tmp_path / "other", host=engine.host)
    both = [docker, other, docker, other]
    await asyncio.gather(*(each.provision(spec=spec(Network=NETWORK)) for each in both))
    await other.close()
    assert engine.docker("network", "ls", "-q", "--filter", "name=nodes").count("\n") == 0
    with pytest.raises(Refused, match=r"10\.77\.0\.0/24, and 10\.78\.0\.0/24 is declared"):
        await docker.provision(spec=spec(Network={"Name": "nodes", "Create": {"Subnet": "10.78.0.0/24"}}))
    with pytest.raises(Refused, match="choose another Subnet"):
        await docker.provision(spec=spec(Network={"Name": "others", "Create": {"Subnet": "10.77.0.0/25"}}))


async def test_one_instance_per_logical_id(docker: Docker, engine: Engine) -> None:
    first = await docker.provision(spec=pet(token="one"))
    with pytest.raises(Conflict, match=f"{first} has the logical ID {ADDRESS} and holds the volume v1"):
        await docker.provision(spec=pet(token="two"))
    engine.docker("pause", first)
    with pytest.raises(Conflict, match="has the logical ID"):  # a paused container has not terminated
        await docker.provision(spec=pet(token="two"))
    assert len(await listed(docker)) == 1


async def test_of_concurrent_creations_at_most_one_succeeds(docker: Docker, engine: Engine, tmp_path: Path) -> None:
    """With a name, because the Engine itself guarantees unique addresses, but not names."""
    others = [Docker(tmp_path / str(i), host=engine.host) for i in range(4)]
    creations = [each.provision(spec=spec(token=str(i), logical_id="m1")) for i, each in enumerate(others)]
    outcomes = await asyncio.gather(*creations, return_exceptions=True)
    for each in others:
        await each.close()
    assert sum(isinstance(each, str) for each in outcomes) <= 1
    assert all(isinstance(each, str | Conflict) for each in outcomes)
    holders = [each for each in (await listed(docker)).values() if each.logical_id == "m1"]
    assert len(holders) == sum(isinstance(each, str) for each in outcomes)


async def test_a_container_that_was_never_started_holds_its_logical_id(docker: Docker, engine: Engine) -> None:
    """The container of a replica that was interrupted between creating and starting."""
    labels = ["--label", "infrakit.docker.id=half", "--label", f"infrakit.docker.logical-id={ADDRESS}"]
    engine.docker("create", "--name", "half", *labels, IMAGE)
    with pytest.raises(Conflict, match=f"half has the logical ID {ADDRESS}"):
        await docker.provision(spec=pet(token="two"))
    assert set(await listed(docker)) == {"half"}


async def test_a_replacement_gets_the_address_and_volume_of_the_terminated_instance(
    docker: Docker, engine: Engine
) -> None:
    first = await docker.provision(spec=pet("echo mine > /data/file; echo written; exec sleep 1000", token="one"))
    await until_logged(docker, first, "written")
    engine.docker("kill", first)
    engine.docker("wait", first)  # newer Engines answer a kill before they have seen the exit
    assert await state(docker, first) is State.TERMINATED
    second = await docker.provision(spec=pet("cat /data/file; exec sleep 1000", token="two"))
    await until_logged(docker, second, "mine")
    # The terminated container is removed, so that it cannot be started beside its replacement. Its log is kept.
    assert set(await listed(docker)) == {second}
    assert await docker.logs(instance=first, lines=1) == "written\n"


async def test_a_token_creates_one_instance(docker: Docker, engine: Engine) -> None:
    first = await docker.provision(spec=pet(token="one"))
    assert await docker.provision(spec=pet(token="one")) == first
    assert len(set(await asyncio.gather(*(docker.provision(spec=spec(token="c")) for _ in range(6))))) == 1
    assert len(await listed(docker)) == 2
    engine.docker("rename", first, "renamed")
    assert await docker.provision(spec=pet(token="one")) == first
    assert await state(docker, first) is State.RUNNING


async def test_a_container_that_was_never_started_is_started_by_its_token(docker: Docker, engine: Engine) -> None:
    instance = await docker.provision(spec=spec(token="one"))
    labels = engine.docker("inspect", "--format", "{{json .Config.Labels}}", instance)
    engine.docker("rm", "-f", instance)
    words = [word for name, value in json.loads(labels).items() for word in ("--label", f"{name}={value}")]
    engine.docker("create", "--name", instance, "--entrypoint", "/infrakit/init", *words, IMAGE)
    assert await docker.provision(spec=spec("#!/bin/sh\necho booted; exec sleep 1000\n", token="one")) == instance
    await until_logged(docker, instance, "booted")
    assert await state(docker, instance) is State.RUNNING


async def test_volumes_are_deleted_only_on_request(docker: Docker, engine: Engine) -> None:
    instance = await docker.provision(spec=pet())
    other = Attachment(id="never", type="volume")
    assert list(await docker.existing(attachments=(VOLUME, other))) == [VOLUME]
    with pytest.raises(Conflict, match="holds the volume v1"):
        await docker.delete_attachment(attachment=VOLUME)
    engine.docker("kill", instance)  # the Engine also reserves volumes of exited containers
    engine.docker("wait", instance)  # Engine 26 may list it as running for a moment
    await docker.delete_attachment(attachment=VOLUME)
    await docker.delete_attachment(attachment=VOLUME)
    assert list(await docker.existing(attachments=(VOLUME,))) == []
    instance = await docker.provision(spec=pet())
    await destroy(docker, instance)
    assert list(await docker.existing(attachments=(VOLUME,))) == [VOLUME]


async def test_an_impossible_spec_is_refused_and_leaves_nothing(docker: Docker, engine: Engine) -> None:
    required_volume = [{"Target": "/data", "Create": False}]
    for wrong, message in (
        (spec(logical_id=ADDRESS), "requires a network"),
        (spec(logical_id="10.9.9.9", Network=NETWORK), "outside the network nodes"),
        (spec(logical_id="not a name"), "neither an address nor a host name"),
        (spec(volumes=("v1",)), r"declare Volumes: \[\{Target: /path\}\]"),
        (spec(volumes=("v1",), Volumes=required_volume), "there is no volume v1"),
        (spec(volumes=("a/b",), Volumes=required_volume), "'a/b' is not a valid name of a volume"),
        (spec(Network={"Name": "missing"}), "create the network, or declare Network.Create"),
        (spec(Image="missing"), "docker pull missing"),
        (spec("", Image="missing"), "docker pull missing"),
        (spec("", Entrypoint=["/no/such/program"]), "no such file"),
        (spec(HostConfig={"CapAdd": ["NO_SUCH"]}), "(?i)capability"),
    ):
        with pytest.raises(Refused, match=message):
            await docker.provision(spec=wrong)
    assert engine.docker("ps", "-aq") == ""


async def test_an_address_in_use_is_a_conflict(docker: Docker, engine: Engine) -> None:
    await docker.provision(spec=spec(Network=NETWORK))
    engine.docker("run", "-d", "--name", "squatter", "--network", "nodes", "--ip", ADDRESS, IMAGE)
    with pytest.raises(Conflict, match=r"(?i)address already in use"):
        await docker.provision(spec=pet(token="one"))
    assert len(await listed(docker)) == 1
    engine.docker("rm", "-f", "squatter")
    await docker.provision(spec=pet(token="one"))
    name = await docker.provision(spec=spec(token="x"))
    await destroy(docker, name)
    engine.docker("create", "--name", name, IMAGE)
    with pytest.raises(Conflict, match=f"the name {name} is taken"):
        await docker.provision(spec=spec(token="x"))
