"""One instance per logical ID, per volume and per token, also for concurrent creations."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from infrakit.instances.local import Local
from infrakit.spi import errors
from tests.unit.instances.local_world import destroy, listed, spec, survivors, until, until_gone, until_written

Open = Callable[[], Local]


async def test_a_token_creates_one_instance(local: Local) -> None:
    ids = await asyncio.gather(*(local.provision(spec=spec(token="t")) for _ in range(8)))
    assert len(set(ids)) == 1
    assert list(await listed(local)) == ids[:1]
    assert await local.provision(spec=spec(token="other")) != ids[0]


async def test_a_token_creates_one_instance_through_two_providers(open_local: Open, home: Path) -> None:
    one, two = open_local(), open_local()
    init = 'echo $$ >>"$INFRAKIT_VOLUME/starts"; exec sleep 1000'
    for number in range(10):
        wanted = spec(init, token=f"t{number}", volumes=(f"v{number}",))
        ids = await asyncio.gather(*(each.provision(spec=wanted) for each in (one, two, one, two)))
        assert len(set(ids)) == 1
        starts = await until_written(home / "volumes" / f"v{number}" / "starts")
        assert starts.count("\n") == 1
    assert (await listed(one)).keys() == (await listed(two)).keys()


@pytest.mark.parametrize("destroyed", [True, False], ids=["destroyed", "exited"])
async def test_the_token_of_a_terminated_instance_creates_nothing(local: Local, destroyed: bool) -> None:
    created = await local.provision(spec=spec("sleep 1000" if destroyed else "exit 1", token="t"))
    if destroyed:
        await destroy(local, created)
    await until_gone(local, created)
    assert await local.provision(spec=spec(token="t")) == created
    assert await listed(local) == {}
    assert await local.inspect(instance=created) is None


async def test_a_logical_id_belongs_to_one_instance(local: Local) -> None:
    first = await local.provision(spec=spec(logical_id="10.0.0.1", token="1"))
    with pytest.raises(errors.Conflict, match=f"10.0.0.1 is held by {first}"):
        await local.provision(spec=spec(logical_id="10.0.0.1", token="2"))
    await local.provision(spec=spec(logical_id="10.0.0.2"))
    await destroy(local, first)
    assert await local.provision(spec=spec(logical_id="10.0.0.1", token="2")) != first


async def test_a_volume_has_one_holder(local: Local) -> None:
    first = await local.provision(spec=spec(volumes=("a", "b")))
    with pytest.raises(errors.Conflict, match=f"b is held by {first}"):
        await local.provision(spec=spec(volumes=("c", "b")))
    await local.provision(spec=spec(volumes=("c",)))  # the failed creation holds nothing


async def test_concurrent_creations(open_local: Open) -> None:
    providers = [open_local(), open_local()]
    outcomes = await asyncio.gather(
        *(providers[n % 2].provision(spec=spec(logical_id=str(n % 3), volumes=(str(n % 5),))) for n in range(30)),
        return_exceptions=True,
    )
    assert all(isinstance(each, str | errors.Conflict) for each in outcomes)
    found = (await listed(providers[0])).values()
    assert found
    assert max(Counter(each.logical_id for each in found).values()) == 1
    assert max(Counter(each.attachments for each in found).values()) == 1


async def test_unusual_names_stay_inside_the_directory(local: Local, home: Path) -> None:
    names = ("..", "../../x", "a/b", "ü", "x" * 300, ".")
    for name in names:
        await local.provision(spec=spec(logical_id=name, volumes=(name,)))
    assert len(list((home / "volumes").iterdir())) == len(names)
    assert not (home.parent / "x").exists()


async def test_a_cancelled_creation_is_atomic(local: Local, tmp_path: Path) -> None:
    for number in range(20):
        task = asyncio.create_task(local.provision(spec=spec(token=f"t{number}", logical_id=f"l{number}")))
        for _ in range(number % 4):
            await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    created = [await local.provision(spec=spec(token=f"t{number}", logical_id=f"l{number}")) for number in range(20)]
    assert sorted(await listed(local)) == sorted(created)

    async def all_run() -> bool:
        return len(survivors(tmp_path)) == 40  # a wrapper and a script each

    await until(all_run)


async def test_a_cancelled_destruction_continues(local: Local) -> None:
    created = await local.provision(spec=spec("trap '' TERM; while :; do sleep 0.05; done", GracePeriod="200ms"))
    task = asyncio.create_task(destroy(local, created))
    await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until_gone(local, created)
