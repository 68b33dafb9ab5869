"""Every machine dies, and the volume of the first is lost: nothing is founded beside the data of the others."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from infrakit.clients.etcd import Etcd, decode, encode
from infrakit.flavors.etcd import EtcdFlavor
from infrakit.instances.local import Local
from infrakit.lifecycle import seed
from infrakit.spec import document
from infrakit.spi import errors
from infrakit.spi.clock import SystemClock
from tests.integration.etcd.members import needs_etcd
from tests.integration.flavor_etcd.bare import Bare, fresh
from tests.integration.flavor_etcd.machines import PATIENCE_S

pytestmark = [needs_etcd, pytest.mark.slow, pytest.mark.timeout(600)]

KEY, VALUE = encode("color"), encode("blue")


@pytest.fixture
def bare() -> Iterator[Bare]:
    with fresh(members=3) as machine:
        yield machine


async def make_all(bare: Bare) -> None:
    """The three machines, as a leader makes them."""
    [group] = document.parse((bare.directory / "infrakit.yaml").read_text(), source="doc")
    local, flavor = Local(bare.home / "local"), EtcdFlavor()
    try:
        maker = seed.Provisioner(group, flavor, local, SystemClock(), print)
        for each in maker.nodes:
            await maker.create(each)
    finally:
        await flavor.close()
        await local.close()


async def members(bare: Bare) -> set[int]:
    """Wait until all three serve; their IDs."""
    try:
        async with asyncio.timeout(2 * PATIENCE_S):
            return {await serves(each) for each in bare.addresses}
    except TimeoutError:
        raise AssertionError(f"three do not serve; they said:\n{bare.said[-5000:]}") from None


async def serves(address: str) -> int:
    client = Etcd([f"http://{address}:2379"], deadline_s=3.0)
    try:
        while True:
            with contextlib.suppress(errors.InfraKitError):
                if await client.health():
                    return (await client.status()).member
            await asyncio.sleep(0.05)
    finally:
        await client.close()


async def test_the_first_machine_is_not_made_beside_the_volumes_of_the_others(bare: Bare) -> None:
    first, *others = bare.addresses
    await make_all(bare)
    before = await members(bare)
    client = Etcd([f"http://{each}:2379" for each in bare.addresses], deadline_s=10.0)
    try:
        await client.change("kv/put", {"key": KEY, "value": VALUE})
        bare.kill()
        (bare.home / "local" / "volumes" / first).rename(bare.directory / "lost")

        code, said = await bare.bootstrap()
        assert code == 2, said
        assert f"no machines exist, but {others[0]}, {others[1]} exist, where other members store their data" in said
        assert "infrakit bootstrap --recover" in said
        assert bare.instances == []
        assert not (bare.home / "local" / "volumes" / first).exists()

        code, said = await bare.bootstrap("--recover")
        assert code == 0, said
        after = await members(bare)
        assert len(before & after) == 2, "the others are the members that they were"
        read = await client.read("kv/range", {"key": KEY})
        assert decode(read["kvs"][0]["value"]) == b"blue"
    finally:
        await client.close()
