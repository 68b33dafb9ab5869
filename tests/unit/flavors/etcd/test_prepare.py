"""Properties, their validation, and the boot script that is rendered from them."""

import asyncio
import shutil
import subprocess
from typing import Any

import msgspec
import pytest

from infrakit.flavors.etcd import EtcdFlavor
from infrakit.flavors.etcd.properties import decode
from infrakit.spi import errors
from infrakit.spi.values import (
    TAG_GROUP,
    Allocation,
    Attachment,
    Description,
    GroupID,
    Health,
    Index,
    InstanceID,
    InstanceSpec,
    LogicalID,
    State,
)


def raw(**properties: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(properties))


def pets(*names: str) -> Allocation:
    return Allocation(logical_ids=tuple(LogicalID(each) for each in names))


async def problems(allocation: Allocation, **properties: Any) -> list[str]:
    try:
        await EtcdFlavor().validate(properties=raw(**properties), allocation=allocation)
    except errors.InvalidSpec as invalid:
        return [str(each) for each in invalid.problems]
    return []


async def prepared(flavor: EtcdFlavor, name: str | None, *names: str, **properties: Any) -> InstanceSpec:
    return await flavor.prepare(
        properties=raw(**properties),
        spec=InstanceSpec(logical_id=LogicalID(name) if name is not None else None, tags={"a": "b"}),
        allocation=pets(*names),
        index=Index(group=GroupID("db"), sequence=1),
    )


def variable(script: str, name: str) -> str:
    """The value of a variable, as the shell reads it."""
    head, marker, _ = script.partition("\n# This script runs on the machine")
    assert marker, "without the marker, the whole boot script would run here"
    command = [shutil.which("sh") or "sh", "-c", f'{head}\nprintf %s "${name}"']
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


async def test_addresses_and_names_are_accepted() -> None:
    assert await problems(pets("10.0.0.1", "10.0.0.2", "10.0.0.3")) == []
    assert await problems(pets("etcd-1.example.org", "fd00::1")) == []


@pytest.mark.parametrize(
    ("allocation", "properties", "words"),
    [
        (Allocation(size=3), {}, "found a Size"),
        (pets(), {}, "found none"),
        (pets("10.0.0.1", "a b"), {}, "'a b' is not the address of a single host"),
        (pets("10.0.0.999"), {}, "is not the address of a single host"),
        (pets("0.0.0.0"), {}, "is not the address of a single host"),
        (pets("fd00::1", "fd00:0::1"), {}, "is the same as 'fd00::1'"),
        (pets("a"), {"ClientPort": 2380}, "2380 is ClientPort already"),
        (pets("a", "b"), {"Volume": "data"}, "the same volume for every member"),
        (pets("a"), {"Volume": "{Group}-{LogicalID}"}, "an unknown placeholder"),
        (pets("a"), {"Volume": ""}, "neither Volume nor DataDir"),
        (pets("a", "b"), {"Replica": "http://10.0.0.1:24864"}, "the same for every member"),
        (pets("a"), {"Replica": "http://{Group}:24864"}, "is no address of a replica"),
        (pets("a"), {"Replica": "http://{LogicalID}"}, "is no address of a replica"),
        (pets("a"), {"Replica": "/run/{LogicalID}"}, "is no address of a replica"),
        (pets("a"), {"DataDir": "data"}, "is not absolute"),
        (pets("a"), {"ExtraArgs": ["--name=b"]}, "--name is set by the boot script"),
        (pets("a"), {"ExtraArgs": ["-initial-cluster-state", "new"]}, "--initial-cluster-state is set"),
        (pets("a"), {"Bootstrap": "always"}, "Bootstrap"),
        (pets("a"), {"MaxLag": 0}, "MaxLag"),
        (pets("a"), {"Ports": 1}, "Ports"),
    ],
)
async def test_invalid_properties_are_refused(allocation: Allocation, properties: dict[str, Any], words: str) -> None:
    found = await problems(allocation, **properties)
    assert len(found) == 1, found
    assert words in found[0]


async def test_addresses_of_replicas_are_derived_from_the_logical_ids() -> None:
    async def replicas(pattern: str, *names: str) -> list[str]:
        declared = raw(Replica=pattern) if pattern else raw()
        return list(await EtcdFlavor().replicas(properties=declared, allocation=pets(*names)))

    assert await replicas("", "a") == []
    assert await replicas("https://{LogicalID}:24864", "a", "fd00::1") == ["https://a:24864", "https://[fd00::1]:24864"]
    assert await replicas("unix:///run/x/{LogicalID}/group", "fd00::1") == ["unix:///run/x/fd00::1/group"]
    assert await problems(pets("fd00::1"), Replica="https://{LogicalID}:24864") == []
    assert await problems(pets("a"), Replica="unix:///run/x/{LogicalID}/group") == []


async def test_every_problem_is_reported_at_once() -> None:
    assert len(await problems(pets("0.0.0.0"), PeerPort=2379, Volume="{x}", DataDir="y", ExtraArgs=["--name"])) == 5


async def test_the_volume_follows_the_logical_id() -> None:
    flavor = EtcdFlavor()
    spec = await prepared(flavor, "10.0.0.1", "10.0.0.1", Volume="db-{LogicalID}")
    assert spec.attachments == (Attachment(id="db-10.0.0.1", type="volume"),)
    assert spec.tags == {"a": "b"}
    found = await flavor.attachments(properties=raw(), allocation=pets("a", "b"))
    assert found == {"a": (Attachment(id="a", type="volume"),), "b": (Attachment(id="b", type="volume"),)}
    spec = await prepared(flavor, "a", "a", Volume="", DataDir="/var/lib/etcd")
    assert spec.attachments is None
    assert variable(spec.init, "data") == "/var/lib/etcd"


async def test_a_member_needs_a_logical_id() -> None:
    with pytest.raises(errors.Refused, match="needs a logical ID"):
        await prepared(EtcdFlavor(), None, "a")


async def test_only_the_first_member_may_bootstrap_a_cluster() -> None:
    flavor = EtcdFlavor()
    first, second = [await prepared(flavor, each, "10.0.0.1", "10.0.0.2") for each in ("10.0.0.1", "10.0.0.2")]
    assert variable(first.init, "first_peer") == ""
    assert variable(second.init, "first_peer") == "http://10.0.0.1:2380"
    assert variable(first.init, "others") == "10.0.0.2"
    assert variable(first.init, "token") == "db"
    assert variable((await prepared(flavor, "a", "a", ClusterToken="x")).init, "token") == "x"


async def test_observed_members_are_joined_though_they_are_not_declared() -> None:
    """A group whose addresses are all new joins the cluster of the old ones, and bootstraps no second one."""
    flavor = EtcdFlavor()
    old = Description(
        id=InstanceID("i"), logical_id=LogicalID("127.0.0.1"), tags={TAG_GROUP: "db"}, state=State.PENDING
    )
    await flavor.healthy_all(properties=raw(), instances=[old])
    spec = await prepared(flavor, "10.0.0.1", "10.0.0.1")
    assert variable(spec.init, "others") == "127.0.0.1"
    assert variable(spec.init, "endpoints") == "http://127.0.0.1:2379,http://10.0.0.1:2379"


async def test_declared_values_reach_the_shell_unchanged() -> None:
    nasty = """it's $HOME `id` "x" \\ ; exit"""
    spec = await prepared(EtcdFlavor(), "fd00::1", "fd00::1", Run=nasty, Binary="/srv/my etcd/etcd", ExtraArgs=["a b"])
    assert variable(spec.init, "run") == nasty
    assert variable(spec.init, "etcdctl") == "/srv/my etcd/etcdctl"
    assert variable(spec.init, "peer") == "http://[fd00::1]:2380"
    assert variable(spec.init, "{1}") == "a b"
    assert variable((await prepared(EtcdFlavor(), "host", "host")).init, "listen_peer") == "http://0.0.0.0:2380"


@pytest.mark.parametrize("shell", ["dash", "bash"])
async def test_the_script_has_valid_syntax_in_each_installed_shell(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"install {shell}: apt install {shell}")
    spec = await prepared(EtcdFlavor(), "a", "a", "b")
    await asyncio.to_thread(subprocess.run, [shell, "-n"], input=spec.init, text=True, check=True, timeout=20)


async def test_instances_that_do_not_run_or_have_no_logical_id_are_not_polled() -> None:
    flavor = EtcdFlavor()
    instances = [
        Description(id=InstanceID(state.value), logical_id=LogicalID("127.0.0.1"), state=state)
        for state in (State.PENDING, State.STOPPING, State.TERMINATED)
    ]
    nameless = Description(id=InstanceID("x"), state=State.RUNNING)
    reports = await flavor.healthy_all(properties=raw(), instances=[*instances, nameless])
    assert [reports[each.id].health for each in instances] == [Health.UNKNOWN, Health.UNKNOWN, Health.UNHEALTHY]
    assert reports[nameless.id].health is Health.UNKNOWN
    assert await flavor.is_quorum(properties=raw())


def test_the_properties_may_be_null() -> None:
    assert decode(msgspec.Raw(b"null")).client_port == 2379
