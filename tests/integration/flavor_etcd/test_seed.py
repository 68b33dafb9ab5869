"""A bootstrap that is interrupted at any point: repeating the command completes it, without duplicates."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from tests.integration.etcd.members import needs_etcd
from tests.integration.flavor_etcd.bare import BareMachine, fresh, kill_session
from tests.integration.flavor_etcd.machines import TIMEOUT_S, until

pytestmark = [needs_etcd, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def bare() -> Iterator[BareMachine]:
    with fresh() as machine:
        yield machine


async def check_bootstrapped(bare: BareMachine) -> None:
    """There is one instance and one version of the declaration, and repeating the command changes nothing."""
    [instance] = bare.instances
    assert "left unchanged" in await bare.seed()
    assert bare.instances == [instance]
    record = json.loads((instance / "instance.json").read_text())
    assert record["tags"]["infrakit.config.hash"] == "bootstrap", "no leader has relabelled it yet"
    versions = await asyncio.to_thread(bare.versions)
    assert [(each.version, each.who) for each in versions] == [(1, "ann")]


async def test_bootstrap_on_a_bare_machine(bare: BareMachine) -> None:
    output = await bare.seed()
    assert f"{bare.address}: {bare.instances[0].name} is created, the first of its group" in output
    assert "committed: version 1 of the declaration" in output
    await check_bootstrapped(bare)


async def test_bootstrap_from_a_template_that_includes_everything(bare: BareMachine) -> None:
    bare.command = f"infrakit template seed.sh.j2 --var store={bare.store} | sh"
    assert "committed: version 1 of the declaration" in await bare.seed()
    await check_bootstrapped(bare)


async def test_bootstrap_after_everything_was_killed_during_boot(bare: BareMachine) -> None:
    process = await bare.start()
    try:
        await until(lambda: bare.booting, "it boots")
    finally:
        kill_session(process)
    bare.kill()
    assert "is created, the first of its group" in await bare.seed()
    await check_bootstrapped(bare)


async def test_bootstrap_after_only_the_command_was_killed(bare: BareMachine) -> None:
    process = await bare.start()
    try:
        await until(lambda: bare.booting, "it boots")
    finally:
        kill_session(process)
    [instance] = bare.instances
    output = await bare.seed()
    assert "is created" not in output
    assert bare.instances == [instance]
    await check_bootstrapped(bare)


async def test_bootstrap_after_the_machine_was_killed_with_data(bare: BareMachine) -> None:
    process = await bare.start()
    log = bare.home / "local" / "volumes" / bare.address / "member" / "wal"
    try:
        await until(log.exists, "it has a log")
    finally:
        kill_session(process)
    bare.kill()
    await bare.seed()
    await check_bootstrapped(bare)


async def test_two_concurrent_bootstraps_create_one_instance(bare: BareMachine) -> None:
    first, second = await bare.start(), await bare.start()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            outputs = [await each.communicate() for each in (first, second)]
    finally:
        kill_session(first)
        kill_session(second)
    output = "".join(out.decode() for out, _ in outputs)
    assert output.count("is created, the first of its group") == 1
    await check_bootstrapped(bare)
