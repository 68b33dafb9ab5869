"""Properties, their validation, and the boot script that is rendered from them."""

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.flavors.swarm import SwarmManager, SwarmWorker, boot, link
from infrakit.flavors.swarm.boot import SwarmView
from infrakit.flavors.swarm.properties import Manager, Properties, Worker, decode
from infrakit.spi import errors
from infrakit.spi.values import (
    BOOTSTRAP,
    TAG_CREATED,
    TAG_HASH,
    TAG_TOKEN,
    Allocation,
    Attachment,
    GroupID,
    Index,
    InstanceSpec,
    LogicalID,
)
from infrakit.template.boot import BootScripts, Instance
from tests.unit.flavors.swarm.values import pets, raw

TRIO = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
SECRET = "SWMTKN-1-very-secret"
SWARM = SwarmView(cluster="c1", token=SECRET, managers=("10.0.0.1:2377", "10.0.0.2:2377"), nodes=("n1", "n2"))


async def problems(flavor: SwarmManager | SwarmWorker, allocation: Allocation, **properties: Any) -> list[str]:
    try:
        await flavor.validate(properties=raw(**properties), allocation=allocation)
    except errors.InvalidSpec as invalid:
        return [str(each) for each in invalid.problems]
    return []


def spec(name: str | None = TRIO[0], **tags: str) -> InstanceSpec:
    known = {TAG_TOKEN: "g/1", TAG_CREATED: "2026-01-02T03:04:05Z"}
    return InstanceSpec(tags=known | tags, logical_id=LogicalID(name) if name else None)


async def script(
    type_: type[Properties] = Manager, known: SwarmView = SWARM, name: str | None = TRIO[0], **properties: Any
) -> str:
    scripts, declared = BootScripts(), decode(raw(**properties), type_)
    plain = Instance(
        properties=raw(**properties),
        spec=spec(name),
        allocation=pets(*TRIO),
        index=Index(group=GroupID("g"), sequence=1),
    )
    instance = boot.completed(declared, plain, scripts, known=known)
    (text,) = await scripts.render([boot.script(declared)], instance)
    return text


def variable(text: str, name: str) -> str:
    """The value of a variable, as the shell reads it."""
    head, marker, _ = text.partition("\n# This script runs on the machine")
    assert marker, "without the marker, the whole boot script would run here"
    command = [shutil.which("sh") or "sh", "-c", f'{head}\nprintf %s "${name}"']
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


async def test_addresses_are_accepted_and_workers_may_be_cattle() -> None:
    assert await problems(SwarmManager(), pets(*TRIO), Volume="swarm-{LogicalID}", Run="exec x") == []
    assert await problems(SwarmManager(), pets("fd00::1"), Replica="https://{LogicalID}:24864") == []
    assert await problems(SwarmWorker(), Allocation(size=3), Advertise="eth1", EngineLabels={"a": "b"}) == []
    assert await problems(SwarmWorker(), pets("w1")) == []


@pytest.mark.parametrize(
    ("allocation", "properties", "words"),
    [
        (Allocation(size=3), {}, "found a Size"),
        (pets(), {}, "found none"),
        (pets("m1.example.org"), {}, "'m1.example.org' is not the address of a single host"),
        (pets("0.0.0.0"), {}, "of a single host"),
        (pets("fd00::1", "fd00:0::1"), {}, "is the same as 'fd00::1'"),
        (pets(*TRIO), {"Volume": "data"}, "the same volume for every member"),
        (pets("10.0.0.1"), {"Volume": "{Group}"}, "an unknown placeholder"),
        (pets("10.0.0.1"), {"Replica": "unix:///{Name}"}, "an unknown placeholder"),
        (pets("10.0.0.1"), {"Replica": "10.0.0.1"}, "is no address of a replica"),
        (pets("10.0.0.1"), {"Engine": []}, "Engine"),
        (pets("10.0.0.1"), {"Engine": ["dockerd", "--data-root=/x"]}, "Engine[1]: --data-root is set"),
        (pets("10.0.0.1"), {"EngineLabels": {"infrakit.group": "x"}}, "EngineLabels.infrakit.group"),
        (pets("10.0.0.1"), {"SwarmInit": ["--autolock"]}, "cannot return by itself"),
        (pets("10.0.0.1"), {"SwarmInit": ["--listen-addr", "x"]}, "--listen-addr is set"),
        (pets("10.0.0.1"), {"RemoveAfter": "soon"}, "RemoveAfter"),
        (pets("10.0.0.1"), {"Docker": {"Host": "tcp://x:1"}}, "Docker.Host"),
        (pets("10.0.0.1"), {"Init": "a", "InitScriptTemplateURL": "/b"}, "Init is declared, too"),
        (pets("10.0.0.1"), {"Init": "{{ swarm.tokens }}"}, "did you mean 'token'?"),
        (pets("10.0.0.1"), {"Advertise": "eth0"}, "Advertise"),
    ],
)
async def test_invalid_properties_are_refused(allocation: Allocation, properties: dict[str, Any], words: str) -> None:
    found = await problems(SwarmManager(), allocation, **properties)
    assert len(found) == 1, found
    assert words in found[0]


async def test_every_problem_is_reported_at_once() -> None:
    wrong = {"Volume": "{x}", "Replica": "y", "SwarmInit": ["--autolock"], "Engine": ["d", "--data-root", "/"]}
    assert len(await problems(SwarmManager(), pets("0.0.0.0"), **wrong)) == 5


def test_the_link_is_derived_from_the_intent() -> None:
    first, again = link.link(spec()), link.link(spec())
    assert first == again != link.link(spec(**{TAG_TOKEN: "g/2"}))
    assert len(first) == 16
    tags = link.tags(spec(), role="manager", cluster="c1")
    assert tags[link.LINK] == first
    assert (tags[link.CONTEXT], tags[link.CLUSTER]) == ("swarm::c1::manager", "c1")
    assert link.CLUSTER not in link.tags(spec(), role="manager", cluster="")
    with pytest.raises(errors.Refused, match=TAG_TOKEN):
        link.link(InstanceSpec())


async def test_a_joining_node_receives_the_token_for_workers_and_the_managers_addresses() -> None:
    request = msgspec.json.decode(variable(await script(), "join"))
    assert request == {
        "ListenAddr": "10.0.0.1:2377",
        "AdvertiseAddr": "10.0.0.1",
        "RemoteAddrs": ["10.0.0.1:2377", "10.0.0.2:2377"],
        "JoinToken": SECRET,
        "Availability": "active",
    }
    assert variable(await script(), "nodes") == "n1 n2"
    assert variable(await script(name="fd00::1"), "listen") == "[fd00::1]:2377"


async def test_a_worker_needs_no_volume_and_may_declare_its_address() -> None:
    plain = await script(Worker, name=None)
    assert [variable(plain, each) for each in ("needs_volume", "advertise", "listen", "nodes")] == [
        "",
        "",
        "0.0.0.0:2377",
        "",
    ]
    assert variable(await script(Worker, name=None, Advertise="eth1"), "advertise") == "eth1"
    assert variable(await script(Worker, name="w1"), "advertise") == ""


async def test_only_the_first_node_bootstraps_a_swarm_and_needs_none() -> None:
    flavor = SwarmManager()
    first = await flavor.prepare(
        properties=raw(Docker={"Host": "unix:///nowhere"}),
        spec=spec(**{TAG_HASH: BOOTSTRAP}),
        allocation=pets(TRIO[0]),
        index=Index(group=GroupID("g"), sequence=1),
    )
    assert (variable(first.init, "found"), variable(first.init, "join")) == ("yes", "")
    assert first.attachments == (Attachment(id="10.0.0.1", type="volume"),)
    assert (first.tags or {})[link.LINK] == link.link(spec())


def test_the_first_node_is_recognised_by_its_hash_and_its_allocation() -> None:
    first = spec(**{TAG_HASH: BOOTSTRAP})
    assert boot.is_first(first, pets(TRIO[0]))
    assert not boot.is_first(first, pets(*TRIO))
    assert not boot.is_first(first, pets(TRIO[1]))
    assert not boot.is_first(spec(**{TAG_HASH: "h"}), pets(TRIO[0]))  # a group of one that is healed


async def test_a_machine_prepared_from_outside_neither_joins_nor_bootstraps() -> None:
    flavor, index = SwarmManager(), Index(group=GroupID("g"), sequence=1)
    properties = raw(Docker={"Host": "unix:///nowhere"})
    outside = spec(**{TAG_TOKEN: "bootstrap/g/10.0.0.1/abcd"})
    prepared = await flavor.prepare(properties=properties, spec=outside, allocation=pets(*TRIO), index=index)
    assert (variable(prepared.init, "found"), variable(prepared.init, "join")) == ("", "")
    with pytest.raises(errors.Unreachable):  # a leader must know the Swarm
        await flavor.prepare(properties=properties, spec=spec(), allocation=pets(*TRIO), index=index)
    with pytest.raises(errors.Unreachable):
        await SwarmWorker().prepare(properties=properties, spec=spec(None), allocation=Allocation(size=1), index=index)


async def test_declared_values_reach_the_shell_unchanged() -> None:
    nasty = """it's $HOME `id` "x" \\ ; exit"""
    text = await script(Run=nasty, EngineLabels={"zone": nasty}, Engine=["/srv/my engine/dockerd", "--debug"])
    assert variable(text, "run") == nasty
    words = variable(text, "*")
    assert words.startswith("/srv/my engine/dockerd --debug")
    assert f"--label zone={nasty}" in words
    assert f"--label infrakit_link={link.link(spec())} --label infrakit.group=g" in words


async def test_a_declared_template_has_the_same_variables_and_may_include_the_default(tmp_path: Path) -> None:
    assert await script(Init="{{ swarm.role }} {{ swarm.managers | join(',') }} {{ swarm.token }}") == (
        f"manager 10.0.0.1:2377,10.0.0.2:2377 {SECRET}"
    )
    path = tmp_path / "mine.sh"
    path.write_text("#!/bin/sh\necho {{ index.group }}\n{{ default_script() }}")
    assert await script(InitScriptTemplateURL=str(path)) == f"#!/bin/sh\necho g\n{await script()}"


async def test_addresses_of_replicas_are_derived_from_the_declaration() -> None:
    async def replicas(allocation: Allocation, **properties: Any) -> list[str]:
        return list(await SwarmManager().replicas(properties=raw(**properties), allocation=allocation))

    assert await replicas(pets(*TRIO)) == []
    assert await replicas(pets("10.0.0.1", "fd00::1"), Replica="https://{LogicalID}:24864") == [
        "https://10.0.0.1:24864",
        "https://[fd00::1]:24864",
    ]
    assert await replicas(pets("fd00::1"), Replica="unix:///run/{LogicalID}/group") == ["unix:///run/fd00::1/group"]


def test_no_representation_of_the_known_swarm_shows_the_token() -> None:
    assert SECRET not in f"{SWARM!r} {SWARM}"


@pytest.mark.parametrize(
    ("type_", "known", "properties"),
    [
        (Manager, SWARM, {"Run": 'echo it\'s "$HOME"\nexec x', "SwarmInit": ["--a=b c"]}),
        (Manager, SwarmView(found=True), {}),
        (Manager, SwarmView(), {"Volume": ""}),
        (Worker, SWARM, {"Advertise": "$x `y`", "EngineLabels": {"a": "'b'"}}),
    ],
)
async def test_the_default_passes_shellcheck(
    type_: type[Properties], known: SwarmView, properties: dict[str, Any], tmp_path: Path
) -> None:
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("install shellcheck: apt-get install shellcheck")
    path = tmp_path / "boot.sh"
    path.write_text(await script(type_, known, **properties))
    process = await asyncio.create_subprocess_exec(checker, str(path), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["busybox", "ash"]])
async def test_the_script_has_valid_syntax_in_each_installed_shell(shell: list[str]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"install {shell[0]}: apt install {shell[0]}")
    await asyncio.to_thread(subprocess.run, [*shell, "-n"], input=await script(), text=True, check=True, timeout=20)
