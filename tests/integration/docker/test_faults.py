"""An Engine that is unreachable, returns, or loses responses; and its hints."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infrakit.clients.docker import Engine as Client
from infrakit.instances.docker import Docker
from infrakit.spi.errors import InfraKitError, OutcomeUnknown, Refused, Unreachable
from infrakit.spi.values import InstanceID, State
from tests.integration.docker.containers import destroy, listed, spec, state, until
from tests.integration.docker.engines import DEADLINE_S, Engine, free_port, running
from tests.integration.docker.lossy import Lossy
from tests.integration.rpc.authority import Authority


@pytest.fixture
def killable() -> Iterator[Engine]:
    """An Engine that may be killed."""
    with running() as engine:
        engine.build()
        yield engine
        engine.clear()


@pytest.mark.timeout(180)
async def test_an_unreachable_engine_is_no_evidence_of_termination(killable: Engine, tmp_path: Path) -> None:
    docker = Docker(tmp_path / "docker", host=killable.host)
    hints: list[str] = []
    received = asyncio.Event()

    async def listen() -> None:
        async for hint in docker.watch():
            hints.append(hint)
            received.set()

    listening = asyncio.create_task(listen())
    instance = await docker.provision(spec=spec(token="one"))
    killable.kill()
    calls = (
        docker.describe_instances(tags={}),
        docker.inspect(instance=instance),
        docker.provision(spec=spec(token="two")),
        docker.label(instance=instance, labels={"a": "b"}),
        destroy(docker, instance),
        docker.logs(instance=instance, lines=1),
    )
    for each in calls:
        with pytest.raises(Unreachable, match="start it, or name another one in DOCKER_HOST"):
            await each
    received.clear()
    killable.start()
    assert await state(docker, instance) is State.TERMINATED
    async with asyncio.timeout(DEADLINE_S):
        while not [each for each in hints if "interrupted" in each]:
            await received.wait()
            received.clear()
        other = await docker.provision(spec=spec(token="two"))
        while f"{other} was started" not in hints:  # the stream is open again
            if not received.is_set():
                await docker.label(instance=other, labels={"a": "b"})
                killable.docker("restart", "-t", "0", other)
            await received.wait()
            received.clear()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await docker.close()


async def test_an_exit_is_reported_at_once(docker: Docker, engine: Engine) -> None:
    instance = await docker.provision(spec=spec())
    hints = docker.watch()
    first = asyncio.ensure_future(anext(hints))
    async with asyncio.timeout(DEADLINE_S):
        while not first.done():  # until the stream is open
            engine.docker("pause", instance)
            engine.docker("unpause", instance)
            await asyncio.wait([first], timeout=0.1)
        engine.docker("kill", instance)
        while "exited" not in (hint := await anext(hints)):
            pass
    assert hint == f"{instance} exited with code 137"
    await hints.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("lost", [rb"POST \S+/create", rb"PUT ", rb"POST \S+/start"])
async def test_a_lost_response_never_creates_a_second_instance(lost: bytes, engine: Engine, tmp_path: Path) -> None:
    async with Lossy(engine.place / f"lossy{time.monotonic_ns()}", engine.socket) as between:
        docker = Docker(tmp_path / "docker", host=between.host)
        await docker.describe_instances(tags={})
        between.lose = lost
        if lost == rb"PUT ":  # idempotent: the HTTP client retries it by itself
            await docker.provision(spec=spec(token="one", logical_id="m1"))
        else:
            with pytest.raises(OutcomeUnknown):
                await docker.provision(spec=spec(token="one", logical_id="m1"))
        assert between.lost == 1
        instance = await docker.provision(spec=spec(token="one", logical_id="m1"))
        assert await state(docker, instance) is State.RUNNING
        assert set(await listed(docker)) == {instance}
        between.lose = b"DELETE "
        await destroy_until_gone(docker, instance)
        assert await listed(docker) == {}
        await docker.close()


async def destroy_until_gone(docker: Docker, instance: InstanceID) -> None:
    try:
        await destroy(docker, instance)
    except OutcomeUnknown:
        assert await docker.inspect(instance=instance) is None


async def test_a_creation_cancelled_at_any_point_is_resolved_by_its_token(engine: Engine, tmp_path: Path) -> None:
    docker = Docker(tmp_path / "docker", host=engine.host)
    began = time.monotonic()
    await docker.provision(spec=spec(token="whole", logical_id="m"))
    took_s = time.monotonic() - began
    for part in range(8):
        creation = asyncio.create_task(docker.provision(spec=spec(token=f"t{part}", logical_id=f"m{part}")))
        await asyncio.wait([creation], timeout=took_s * part / 8)
        creation.cancel()
        await asyncio.gather(creation, return_exceptions=True)
        instance = await provisioned(docker, part)
        assert [each.id for each in (await listed(docker)).values() if each.logical_id == f"m{part}"] == [instance]
        assert await state(docker, instance) is State.RUNNING
    await docker.close()


async def test_a_creation_continues_without_a_waiting_caller(docker: Docker) -> None:
    """The case of a controller that has already seen the container in a listing."""
    creation = asyncio.create_task(docker.provision(spec=spec()))

    async def is_listed() -> bool:
        return bool(await listed(docker))

    await until(is_listed)
    creation.cancel()
    await asyncio.gather(creation, return_exceptions=True)
    (instance,) = await listed(docker)

    async def runs() -> bool:
        return await state(docker, instance) is State.RUNNING

    await until(runs)


async def provisioned(docker: Docker, part: int) -> InstanceID:
    """Retry until there is a response, like the controller."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await docker.provision(spec=spec(token=f"t{part}", logical_id=f"m{part}"))
            except InfraKitError:
                await asyncio.sleep(0.05)


@pytest.mark.timeout(180)
async def test_tls_certificates_are_checked(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    cert, key = authority.server()
    options = {"tlsverify": True, "tlscacert": authority.path, "tlscert": cert, "tlskey": key}
    client_files = tmp_path / "mine"
    client_files.mkdir()
    files = (authority.path, *authority.client("ann"))
    for found, name in zip(files, ("ca.pem", "cert.pem", "key.pem"), strict=True):
        shutil.copy(found, client_files / name)
    port = free_port()
    with running(f"tcp://127.0.0.1:{port}", isolated=False, **options):
        for host, certificates, wrong in (
            (f"tcp://127.0.0.1:{port}", client_files, None),
            (f"tcp://127.0.0.1:{port}", None, InfraKitError),
            (f"https://127.0.0.1:{port}", None, Unreachable),
            (f"tcp://localhost:{port}", client_files, Unreachable),
        ):
            docker = Docker(tmp_path / "docker", host=host, certificates=certificates)
            if wrong is None:
                assert await docker.describe_instances(tags={}) == []
            else:
                with pytest.raises(wrong):
                    await docker.describe_instances(tags={})
            await docker.close()


@pytest.mark.parametrize("host", ["ssh://me@there", "unix://", "tcp://there", "nonsense", "tcp://h:99999999"])
def test_an_invalid_address_is_refused(host: str) -> None:
    with pytest.raises(Refused, match=r"forward its socket|write unix:///PATH or tcp://HOST:PORT"):
        Client(host)


def test_missing_certificates_are_reported(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"put ca\.pem, cert\.pem and key\.pem into"):
        Client("tcp://127.0.0.1:1", certificates=tmp_path)
