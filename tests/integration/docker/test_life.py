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
from tests.integration.docker.containers import KEEPS_RUNNING, destroy, listed, spec, state, until, until_logged
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


async def test_the_identity_is_that_of_the_engine(docker: Docker, engine: Engine) -> None:
    identity = await docker.identity()
    assert identity
    assert identity == engine.docker("info", "--format", "{{.ID}}")


async def test_tags_and_claims_are_labels_of_the_create_call(docker: Docker, engine: Engine) -> None:
    instance = await docker.provision(spec=spec(token="t", logical_id="m1", volumes=("v1",), tags={"a": "b"},
        Volumes=[{"Target": "/data"}]))  # fmt: skip
    (shown,) = json.loads(engine.docker("inspect", instance))
    labels = shown["Config"]["Labels"]
    assert {"a": "b", "infrakit.token": "t", "infrakit.docker.id": instance}.items() <= labels.items()
    found = (await listed(docker, a="b"))[instance]
    assert found.tags == {"a": "b", "infrakit.token": "t"}
    assert found.logical_id == "m1"
    assert [each.id for each in found.attachments or ()] == ["v1"]
    assert found.state is State.RUNNING


async def test_properties_reach_the_engine(docker: Docker, engine: Engine) -> None:
    settings = {
        "CapAdd": ["NET_ADMIN"], "CapDrop": ["MKNOD"], "Memory": 2**26, "NanoCpus": 5 * 10**8, "PidsLimit": 50,
        "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing"}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        "Mounts": [{"Type": "tmpfs", "Target": "/scratch"}], "MaskedPaths": [],
    }  # fmt: skip
    instance = await docker.provision(spec=spec("", Cmd=["sleep", "77"], Env=["A=b c"], HostConfig=settings))
    (shown,) = json.loads(engine.docker("inspect", instance))
    host_config = shown["HostConfig"]
    assert host_config["CapAdd"] in (["NET_ADMIN"], ["CAP_NET_ADMIN"])  # newer ones complete the name
    assert (host_config["Memory"], host_config["NanoCpus"], host_config["PidsLimit"]) == (2**26, 5 * 10**8, 50)
    assert host_config["Devices"][0]["PathInContainer"] == "/dev/nothing"
    assert host_config["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert host_config["Mounts"][0]["Target"] == "/scratch"
    assert host_config["MaskedPaths"] == []
    assert host_config["RestartPolicy"]["Name"] == "no"
    assert shown["Config"]["Cmd"] == ["sleep", "77"]
    assert "A=b c" in shown["Config"]["Env"]


async def test_a_boot_script_is_the_entrypoint_and_execs_the_command(docker: Docker, engine: Engine) -> None:
    init = '#!/bin/sh\necho "I am $INFRAKIT_INSTANCE_ID, told: $*"\nexec "$@"\n'
    instance = await docker.provision(spec=spec(init))
    await until_logged(docker, instance, f"I am {instance}, told: sleep 1000")
    assert "sleep 1000" in engine.docker("top", instance)
    other = await docker.provision(spec=spec(init, Entrypoint=["/bin/sh", "-c"], Cmd=["echo this; exec sleep 99"]))
    await until_logged(docker, other, "this\n")
    shown = engine.docker("inspect", instance)
    assert "I am" not in shown  # the content of a script, such as a join token, is not shown


async def test_a_boot_script_may_be_long_and_run_as_another_user(docker: Docker) -> None:
    init = f": {'x' * 300_000}\necho done as $(cat /proc/self/loginuid >/dev/null; echo $UID)\nexec sleep 1000\n"
    await until_logged(docker, await docker.provision(spec=spec(init, User="1000")), "done as")


async def test_a_failing_boot_script_is_listed_and_reported(docker: Docker) -> None:
    instance = await docker.provision(spec=spec("echo this is why >&2; exit 7"))

    async def terminated() -> bool:
        return await state(docker, instance) is State.TERMINATED

    await until(terminated)
    assert await docker.logs(instance=instance, lines=10) == "this is why\n"
    (found,) = await docker.describe_instances(tags={}, properties=True)
    assert b"Exited (7)" in bytes(found.properties)  # type: ignore[arg-type]
    assert found.attachments == ()


async def test_a_missing_interpreter_is_reported_in_the_log(docker: Docker) -> None:
    instance = await docker.provision(spec=spec("#!/no/such/shell\n"))
    await until_logged(docker, instance, "no such file")


class Later(SystemClock):
    """The wall time one hour from now."""

    def now(self) -> float:
        return super().now() + 3600.0


async def test_the_states_of_a_container(docker: Docker, engine: Engine, tmp_path: Path) -> None:
    instance = await docker.provision(spec=spec())
    assert await state(docker, instance) is State.RUNNING
    engine.docker("pause", instance)
    assert await state(docker, instance) is State.IMPAIRED
    engine.docker("unpause", instance)
    engine.docker("kill", instance)
    engine.docker("wait", instance)  # newer Engines answer a kill before they have seen the exit
    assert await state(docker, instance) is State.TERMINATED
    engine.docker("rm", instance)
    assert await state(docker, instance) is None
    engine.docker("create", "--name", "by-hand", "--label", "infrakit.docker.id=by-hand", IMAGE)
    assert await state(docker, "by-hand") is State.PENDING
    late = Docker(tmp_path, host=engine.host, clock=Later())
    assert await state(late, "by-hand") is State.TERMINATED  # no process will start it
    await late.close()


async def test_a_container_that_the_engine_reports_as_unhealthy_is_impaired(docker: Docker) -> None:
    check = {"Test": ["CMD-SHELL", "false"], "Interval": 10**8, "Retries": 1}
    instance = await docker.provision(spec=spec(Healthcheck=check))

    async def impaired() -> bool:
        return await state(docker, instance) is State.IMPAIRED

    await until(impaired)


async def test_changed_labels_are_stored_in_the_engine(docker: Docker, engine: Engine, tmp_path: Path) -> None:
    instance = await docker.provision(spec=spec(tags={"a": "1", "b": "1"}))
    await docker.label(instance=instance, labels={"b": "2"})
    await docker.label(instance=instance, labels={"c": "3"})
    other = Docker(tmp_path / "another", host=engine.host)
    assert (await listed(other, b="2"))[instance].tags == {"a": "1", "b": "2", "c": "3"}
    assert await listed(other, b="1") == {}
    await other.close()
    assert len(engine.docker("volume", "ls", "-q").split()) == 1
    await asyncio.gather(*(docker.label(instance=instance, labels={f"n{i}": str(i)}) for i in range(5)))
    tags = (await listed(docker))[instance].tags or {}
    assert {f"n{i}": str(i) for i in range(5)}.items() <= tags.items()
    await destroy(docker, instance)
    assert engine.docker("volume", "ls", "-q") == ""
    with pytest.raises(NotFound):
        await docker.label(instance=instance, labels={"a": "b"})


async def test_unchanged_descriptions_are_the_same_objects(docker: Docker, engine: Engine) -> None:
    instance = await docker.provision(spec=spec())
    first, second = await listed(docker), await listed(docker)
    assert first[instance] is second[instance]
    engine.docker("pause", instance)
    assert (await listed(docker))[instance] is not first[instance]


async def test_destroy_keeps_named_volumes_and_the_log(docker: Docker, engine: Engine) -> None:
    mounts = [{"Type": "volume", "Source": "shared", "Target": "/shared"}, {"Type": "volume", "Target": "/anonymous"}]
    instance = await docker.provision(
        spec=spec("echo last words\nexec sleep 1000", volumes=("v1",), Volumes=[{"Target": "/data"}],
            HostConfig={"Mounts": mounts})
    )  # fmt: skip
    await until_logged(docker, instance, "last words")
    assert len(engine.docker("volume", "ls", "-q").split()) == 3
    await destroy(docker, instance)
    assert await docker.inspect(instance=instance) is None
    assert engine.docker("ps", "-aq") == ""
    assert sorted(engine.docker("volume", "ls", "-q").split()) == ["shared", "v1"]
    assert await docker.logs(instance=instance, lines=1) == "last words\n"
    with pytest.raises(NotFound):
        await destroy(docker, instance)
    with pytest.raises(NotFound):
        await docker.logs(instance=InstanceID("infrakit-never"), lines=1)


async def test_destroy_removes_paused_and_unstarted_containers(docker: Docker, engine: Engine) -> None:
    instance = await docker.provision(spec=spec())
    engine.docker("pause", instance)
    engine.docker("create", "--name", "by-hand", "--label", "infrakit.docker.id=by-hand", IMAGE)
    await destroy(docker, instance)
    await destroy(docker, "by-hand")
    assert engine.docker("ps", "-aq") == ""


async def test_unmanaged_containers_are_left_unchanged(docker: Docker, engine: Engine) -> None:
    other = engine.docker("run", "-d", "--network", "none", "--label", "a=b", IMAGE)
    assert await listed(docker) == {}
    with pytest.raises(NotFound):
        await destroy(docker, other)
    assert engine.docker("ps", "-q") in other


async def test_all_problems_are_reported_at_once(docker: Docker) -> None:
    wrong = spec(Imagge="x", HostConfig={"Memory": "1g", "Priviledged": True}).properties
    with pytest.raises(InvalidSpec) as invalid:
        await docker.validate(properties=wrong)
    assert len(invalid.value.problems) == 3
    with pytest.raises(Refused, match="Imagge"):
        await docker.provision(spec=spec(KEEPS_RUNNING, Imagge="x"))
