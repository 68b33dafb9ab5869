"""The properties of `docker`, and the API calls they result in; without an Engine."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.clients.docker import Image
from infrakit.instances.docker import Docker, config
from infrakit.instances.docker.properties import decode
from infrakit.spi.errors import InvalidSpec
from infrakit.spi.values import Attachment, InstanceSpec, LogicalID

GOOD: dict[str, Any] = {
    "Image": "debian:12",
    "Env": ["A=", "B=c=d"],
    "HostConfig": {
        "Privileged": True,
        "Binds": ["/sys/fs/cgroup:/sys/fs/cgroup:rw", "named:/data"],
        "Tmpfs": {"/run": "size=1m"},
        "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
        "RestartPolicy": {"Name": "no"},
    },
    "Network": {"Name": "n", "Create": {"Subnet": "fd00::/64", "Gateway": "fd00::1", "IPRange": "fd00::/80"}},
    "Volumes": [{"Target": "/var/lib/docker", "Driver": "local", "DriverOpts": {"type": "tmpfs"}}],
}


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


@pytest.mark.parametrize("properties", [{"Image": "x"}, GOOD])
async def test_valid_properties_are_accepted(properties: Any, tmp_path: Path) -> None:
    docker = Docker(tmp_path, host="nonsense")  # validation needs no Engine
    await docker.validate(properties=raw(properties))
    await docker.close()


def network(**create: str) -> dict[str, Any]:
    return {"Network": {"Name": "n", "Create": create}}


@pytest.mark.parametrize(
    ("properties", "paths"),
    [
        ({"Image": ""}, ["Image"]),
        ({"Imgae": "x"}, ["Imgae"]),
        ({"HostConfig": {"Privilegd": True, "Memory": "1g"}, "StopTimeout": 91},
            ["HostConfig.Privilegd", "HostConfig.Memory", "StopTimeout"]),
        ({"HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}},
            ["HostConfig.AutoRemove", "HostConfig.RestartPolicy.Name"]),
        ({"Env": ["A", "=b", "INFRAKIT_X=1", "C=\0"]}, ["Env[0]", "Env[1]", "Env[2]", "Env[3]"]),
        ({"Volumes": [{"Target": "a"}, {"Target": "/"}]}, ["Volumes[0].Target", "Volumes[1].Target"]),
        ({"Volumes": [{"Target": "/a"}], "HostConfig": {"Binds": ["/x:/a/", "/y"], "Tmpfs": {"/a": ""}}},
            ["HostConfig.Binds[1]", "HostConfig.Tmpfs['/a']", "HostConfig.Binds[0]"]),
        ({"ExposedPorts": {"0/tcp": {}, "80/http": {}, "80": {}}},
            ["ExposedPorts['0/tcp']", "ExposedPorts['80/http']"]),
        (network(Subnet="10.0.0.1/24"), ["Network.Create.Subnet"]),
        (network(Gateway="10.0.0.1"), ["Network.Create.Subnet"]),
        (network(Subnet="10.0.0.0/24", Gateway="10.0.1.1", IPRange="10.0.1.0/25"),
            ["Network.Create.IPRange", "Network.Create.Gateway"]),
        (network(Subnet="10.0.0.0/24", Gateway="10.0.0.0/24", IPRange="x"),
            ["Network.Create.IPRange", "Network.Create.Gateway"]),
        ({"Network": {"Name": "host", "Aliases": ["x"]}}, ["Network.Name"]),
    ],
)  # fmt: skip
def test_invalid_properties_are_refused_with_every_path(properties: Any, paths: list[str]) -> None:
    given = properties if "Image" in properties or "Imgae" in properties else {"Image": "x"} | properties
    with pytest.raises(InvalidSpec) as invalid:
        decode(raw(given))
    assert sorted(problem.path for problem in invalid.value.problems) == sorted(paths)


def test_a_complete_container_request() -> None:
    attachment = Attachment(id="data-1", type="volume")
    spec = InstanceSpec(
        init="exec true", tags={"infrakit.group": "g", "infrakit.token": "t", "infrakit.slot": "fd00::5"},
        logical_id=LogicalID("fd00::5"), attachments=(attachment,), properties=raw(GOOD),
    )  # fmt: skip
    declared = decode(spec.properties)
    config.check(spec, declared)
    id_ = config.instance_id(spec)
    image = Image(entrypoint=("dockerd-entrypoint.sh",), cmd=("--debug",))
    request = config.container(id_, spec, declared, image)
    assert request["Entrypoint"] == ["/bin/sh", "/infrakit/init"]
    assert request["Cmd"] == ["dockerd-entrypoint.sh", "--debug"]
    endpoints = request["NetworkingConfig"]["EndpointsConfig"]
    assert endpoints == {"n": {"Aliases": [], "IPAMConfig": {"IPv6Address": "fd00::5"}}}
    assert request["HostConfig"]["Mounts"] == [
        {"Type": "volume", "Source": "data-1", "Target": "/var/lib/docker",
            "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"type": "tmpfs"}}}}
    ]  # fmt: skip
    assert request["HostConfig"]["Privileged"] is True
    assert "Memory" not in request["HostConfig"]
    assert {"INFRAKIT_GROUP=g", "INFRAKIT_LOGICAL_ID=fd00::5", "INFRAKIT_VOLUME=/var/lib/docker"} <= set(request["Env"])
    assert config.instance_id(spec) == id_ != config.instance_id(InstanceSpec(tags={"infrakit.token": "u"}))
    body = config.network(declared)
    assert body is not None
    assert body["IPAM"] == {"Config": [{"Subnet": "fd00::/64", "Gateway": "fd00::1", "IPRange": "fd00::/80"}]}
    assert body["EnableIPv6"]


def test_a_declared_command_replaces_that_of_the_image() -> None:
    image = Image(entrypoint=("entry",), cmd=("cmd",))
    for declared, expected in (
        ({}, ["entry", "cmd"]),
        ({"Cmd": ["mine"]}, ["entry", "mine"]),
        ({"Entrypoint": ["my"]}, ["my"]),
        ({"Entrypoint": ["my"], "Cmd": ["own"]}, ["my", "own"]),
    ):
        spec = InstanceSpec(init="#!/bin/sh\n", properties=raw({"Image": "x", **declared}))
        request = config.container(config.instance_id(spec), spec, decode(spec.properties), image)
        assert request["Entrypoint"] == ["/infrakit/init"]
        assert request["Cmd"] == expected
