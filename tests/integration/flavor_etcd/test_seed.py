"""A seed whose boot is cut off anywhere: the same command again, and nothing is there twice."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from tests.integration.etcd.members import needs_etcd
from tests.integration.flavor_etcd.bare import Bare, end, fresh
from tests.integration.flavor_etcd.machines import PATIENCE_S, until

pytestmark = [needs_etcd, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def bare() -> Iterator[Bare]:
    with fresh() as machine:
        yield machine


async def is_whole(bare: Bare) -> None:
    """One instance, one version of the declaration, and a second time changes nothing."""
    [instance] = bare.instances
    assert "left unchanged" in await bare.seed()
    assert bare.instances == [instance]
    record = json.loads((instance / "instance.json").read_text())
    assert record["tags"]["infrakit.config.hash"] == "bootstrap", "nobody has led yet who could relabel it"
    versions = await asyncio.to_thread(bare.versions)
    assert [(each.version, each.who) for each in versions] == [(1, "ann")]


async def test_from_nothing(bare: Bare) -> None:
    said = await bare.seed()
    assert f"{bare.address}: {bare.instances[0].name} is created, the first of its group" in said
    assert "committed: version 1 of the declaration" in said
    await is_whole(bare)


async def test_from_a_template_that_brings_all_with_it(bare: Bare) -> None:
    bare.command = f"infrakit template seed.sh.j2 --var store={bare.store} | sh"
    assert "committed: version 1 of the declaration" in await bare.seed()
    await is_whole(bare)


async def test_all_of_it_is_killed_while_it_boots(bare: Bare) -> None:
    process = await bare.start()
    try:
        await until(lambda: bare.booting, "it boots")
    finally:
        end(process)
    bare.kill()
    assert "is created, the first of its group" in await bare.seed()
    await is_whole(bare)


async def test_what_waits_for_it_is_killed_and_the_machine_is_not(bare: Bare) -> None:
    process = await bare.start()
    try:
        await until(lambda: bare.booting, "it boots")
    finally:
        end(process)
    [instance] = bare.instances
    said = await bare.seed()
    assert "is created" not in said
    assert bare.instances == [instance]
    await is_whole(bare)


async def test_the_machine_is_killed_once_it_has_data(bare: Bare) -> None:
    process = await bare.start()
    log = bare.home / "local" / "volumes" / bare.address / "member" / "wal"
    try:
        await until(log.exists, "it has a log")
    finally:
        end(process)
    bare.kill()
    await bare.seed()
    await is_whole(bare)


async def test_two_at_once_make_one(bare: Bare) -> None:
    first, second = await bare.start(), await bare.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            outputs = [await each.communicate() for each in (first, second)]
    finally:
        end(first)
        end(second)
    said = "".join(out.decode() for out, _ in outputs)
    assert said.count("is created, the first of its group") == 1
    await is_whole(bare)
