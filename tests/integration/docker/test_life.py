"""The life cycle of one container."""

import asyncio
import json
from pathlib import Path

import pytest

from infrakit.instances.docker import Docker
from infrakit.rpc.server import Server
from infrakit.spi.clock import SystemClock
from infrakit.spi.errors import InvalidSpec, NotFound, Refused
from infrakit.spi.values import InstanceID, State
from tests.integration.conformance.checking import capabilities, failed, outcomes, skipped
from tests.integration.docker.containers import STAYS, destroy, listed, spec, state, until, until_logged
from tests.integration.docker.engines import IMAGE, Engine


@pytest.mark.timeout(300)
async def test_the_conformance_kit_passes(docker: Docker, engine: Engine) -> None:
    path = engine.place / "plugin"
    async with Server(path, {".": docker}):
        found = await outcomes(path, properties={"Image": IMAGE, "StopTimeout": 0}, settle_s=10.0)
    assert failed(found) == set()
    assert skipped(found) == {"instance/attachments"}  # which uses a type of its own
    assert capabilities(found) >= {"tokens", "any-text", "capable", "inspects", "watches", "logs", "volumes", "keeps"}
    assert engine.docker("ps", "-aq") == ""
    assert engine.docker("volume", "ls", "-q") == ""


async def test_tags_and_what_it_claims_are_labels_of_the_one_call(docker: Docker, engine: Engine) -> None:
    made = await docker.provision(spec=spec(token="t", logical_id="m1", volumes=("v1",), tags={"a": "b"},
        Volumes=[{"Target": "/data"}]))  # fmt: skip
    (shown,) = json.loads(engine.docker("inspect", made))
    labels = shown["Config"]["Labels"]
    assert {"a": "b", "infrakit.token": "t", "infrakit.docker.id": made}.items() <= labels.items()
    found = (await listed(docker, a="b"))[made]
    assert found.tags == {"a": "b", "infrakit.token": "t"}
    assert found.logical_id == "m1"
    assert [each.id for each in found.attachments or ()] == ["v1"]
    assert found.state is State.RUNNING


async def test_properties_reach_the_engine(docker: Docker, engine: Engine) -> None:
    host = {
        "CapAdd": ["NET_ADMIN"], "CapDrop": ["MKNOD"], "Memory": 2**26, "NanoCpus": 5 * 10**8, "PidsLimit": 50,
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing"}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        "Mounts": [{"Type": "tmpfs", "Target": "/scratch"}], "MaskedPaths": [],
    }  # fmt: skip
    made = await docker.provision(spec=spec("", Cmd=["sleep", "77"], Env=["A=b c"], HostConfig=host))
    (shown,) = json.loads(engine.docker("inspect", made))
    kept = shown["HostConfig"]
    assert kept["CapAdd"] in (["NET_ADMIN"], ["CAP_NET_ADMIN"])  # newer ones complete the name
    assert (kept["Memory"], kept["NanoCpus"], kept["PidsLimit"]) == (2**26, 5 * 10**8, 50)
    assert kept["Devices"][0]["PathInContainer"] == "/dev/nothing"
    assert kept["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert kept["Mounts"][0]["Target"] == "/scratch"
    assert kept["MaskedPaths"] == []
    assert kept["RestartPolicy"]["Name"] == "no"
    assert shown["Config"]["Cmd"] == ["sleep", "77"]
    assert "A=b c" in shown["Config"]["Env"]


async def test_a_boot_script_is_the_entry_and_hands_over(docker: Docker, engine: Engine) -> None:
    init = '#!/bin/sh\necho "I am $INFRAKIT_INSTANCE_ID, told: $*"\nexec "$@"\n'
    made = await docker.provision(spec=spec(init))
    await until_logged(docker, made, f"I am {made}, told: sleep 1000")
    assert "sleep 1000" in engine.docker("top", made)
    other = await docker.provision(spec=spec(init, Entrypoint=["/bin/sh", "-c"], Cmd=["echo this; exec sleep 99"]))
    await until_logged(docker, other, "this\n")
    shown = engine.docker("inspect", made)
    assert "I am" not in shown  # the content of a script, such as a join token, is not shown


async def test_a_boot_script_may_be_long_and_its_user_not_root(docker: Docker) -> None:
    init = f": {'x' * 300_000}\necho done as $(cat /proc/self/loginuid >/dev/null; echo $UID)\nexec sleep 1000\n"
    await until_logged(docker, await docker.provision(spec=spec(init, User="1000")), "done as")


async def test_a_failing_boot_script_is_listed_and_reported(docker: Docker) -> None:
    made = await docker.provision(spec=spec("echo this is why >&2; exit 7"))

    async def dead() -> bool:
        return await state(docker, made) is State.TERMINATED

    await until(dead)
    assert await docker.logs(instance=made, lines=10) == "this is why\n"
    (found,) = await docker.describe_instances(tags={}, properties=True)
    assert b"Exited (7)" in bytes(found.properties)  # type: ignore[arg-type]
    assert found.attachments == ()


async def test_a_missing_interpreter_is_reported_in_the_log(docker: Docker) -> None:
    made = await docker.provision(spec=spec("#!/no/such/shell\n"))
    await until_logged(docker, made, "no such file")


class Later(SystemClock):
    """The wall time one hour from now."""

    def now(self) -> float:
        return super().now() + 3600.0


async def test_states(docker: Docker, engine: Engine, tmp_path: Path) -> None:
    made = await docker.provision(spec=spec())
    assert await state(docker, made) is State.RUNNING
    engine.docker("pause", made)
    assert await state(docker, made) is State.IMPAIRED
    engine.docker("unpause", made)
    engine.docker("kill", made)
    engine.docker("wait", made)  # newer Engines answer a kill before they have seen the exit
    assert await state(docker, made) is State.TERMINATED
    engine.docker("rm", made)
    assert await state(docker, made) is None
    engine.docker("create", "--name", "by-hand", "--label", "infrakit.docker.id=by-hand", IMAGE)
    assert await state(docker, "by-hand") is State.PENDING
    late = Docker(tmp_path, host=engine.host, clock=Later())
    assert await state(late, "by-hand") is State.TERMINATED  # no process will start it
    await late.close()


async def test_what_the_engine_calls_unhealthy_is_impaired(docker: Docker) -> None:
    check = {"Test": ["CMD-SHELL", "false"], "Interval": 10**8, "Retries": 1}
    made = await docker.provision(spec=spec(Healthcheck=check))

    async def impaired() -> bool:
        return await state(docker, made) is State.IMPAIRED

    await until(impaired)


async def test_labels_are_changed_and_kept_by_the_engine(docker: Docker, engine: Engine, tmp_path: Path) -> None:
    made = await docker.provision(spec=spec(tags={"a": "1", "b": "1"}))
    await docker.label(instance=made, labels={"b": "2"})
    await docker.label(instance=made, labels={"c": "3"})
    other = Docker(tmp_path / "another", host=engine.host)
    assert (await listed(other, b="2"))[made].tags == {"a": "1", "b": "2", "c": "3"}
    assert await listed(other, b="1") == {}
    await other.close()
    assert len(engine.docker("volume", "ls", "-q").split()) == 1
    await asyncio.gather(*(docker.label(instance=made, labels={f"n{i}": str(i)}) for i in range(5)))
    tags = (await listed(docker))[made].tags or {}
    assert {f"n{i}": str(i) for i in range(5)}.items() <= tags.items()
    await destroy(docker, made)
    assert engine.docker("volume", "ls", "-q") == ""
    with pytest.raises(NotFound):
        await docker.label(instance=made, labels={"a": "b"})


async def test_unchanged_descriptions_are_the_same_objects(docker: Docker, engine: Engine) -> None:
    made = await docker.provision(spec=spec())
    first, second = await listed(docker), await listed(docker)
    assert first[made] is second[made]
    engine.docker("pause", made)
    assert (await listed(docker))[made] is not first[made]


async def test_destroy_keeps_named_volumes_and_the_log(docker: Docker, engine: Engine) -> None:
    mounts = [{"Type": "volume", "Source": "shared", "Target": "/shared"}, {"Type": "volume", "Target": "/anonymous"}]
    made = await docker.provision(
        spec=spec("echo last words\nexec sleep 1000", volumes=("v1",), Volumes=[{"Target": "/data"}],
            HostConfig={"Mounts": mounts})
    )  # fmt: skip
    await until_logged(docker, made, "last words")
    assert len(engine.docker("volume", "ls", "-q").split()) == 3
    await destroy(docker, made)
    assert await docker.inspect(instance=made) is None
    assert engine.docker("ps", "-aq") == ""
    assert sorted(engine.docker("volume", "ls", "-q").split()) == ["shared", "v1"]
    assert await docker.logs(instance=made, lines=1) == "last words\n"
    with pytest.raises(NotFound):
        await destroy(docker, made)
    with pytest.raises(NotFound):
        await docker.logs(instance=InstanceID("infrakit-never"), lines=1)


async def test_destroy_removes_paused_and_unstarted_containers(docker: Docker, engine: Engine) -> None:
    made = await docker.provision(spec=spec())
    engine.docker("pause", made)
    engine.docker("create", "--name", "by-hand", "--label", "infrakit.docker.id=by-hand", IMAGE)
    await destroy(docker, made)
    await destroy(docker, "by-hand")
    assert engine.docker("ps", "-aq") == ""


async def test_others_containers_are_left_alone(docker: Docker, engine: Engine) -> None:
    other = engine.docker("run", "-d", "--network", "none", "--label", "a=b", IMAGE)
    assert await listed(docker) == {}
    with pytest.raises(NotFound):
        await destroy(docker, other)
    assert engine.docker("ps", "-q") in other


async def test_all_problems_are_reported_at_once(docker: Docker) -> None:
    wrong = spec(Imagge="x", HostConfig={"Memory": "1g", "Priviledged": True}).properties
    with pytest.raises(InvalidSpec) as told:
        await docker.validate(properties=wrong)
    assert len(told.value.problems) == 3
    with pytest.raises(Refused, match="Imagge"):
        await docker.provision(spec=spec(STAYS, Imagge="x"))
