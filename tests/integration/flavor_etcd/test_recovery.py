"""All machines terminate, and the first volume is lost: no second cluster is created beside the remaining data."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from infrakit.clients.etcd import Etcd, decode, encode
from infrakit.flavors.etcd import EtcdFlavor
from infrakit.gate.authority import StoreSilent
from infrakit.gate.gate import Gate
from infrakit.instances.local import Local
from infrakit.lifecycle import seed
from infrakit.spec import document
from infrakit.spi import errors
from infrakit.spi.clock import SystemClock
from tests.integration.etcd.members import needs_etcd
from tests.integration.flavor_etcd.bare import BareMachine, fresh
from tests.integration.flavor_etcd.machines import TIMEOUT_S

pytestmark = [needs_etcd, pytest.mark.slow, pytest.mark.timeout(600)]

KEY, VALUE = encode("color"), encode("blue")


@pytest.fixture
def bare() -> Iterator[BareMachine]:
    with fresh(members=3) as machine:
        yield machine


async def _no_answer() -> bool:
    return False


async def create_all(bare: BareMachine) -> None:
    """Create the three machines, as a leader does."""
    [group] = document.parse((bare.directory / "infrakit.yaml").read_text(), source="doc")
    local, flavor = Local(bare.home / "local"), EtcdFlavor()
    try:
        provisioner = seed.Provisioner(
            group, flavor, local, gate=Gate(StoreSilent(_no_answer)), clock=SystemClock(), report=print
        )
        for each in provisioner.nodes:
            await provisioner.create(each)
    finally:
        await flavor.close()
        await local.close()


async def members(bare: BareMachine) -> set[int]:
    """Wait until all three members are healthy, and return their IDs."""
    try:
        async with asyncio.timeout(2 * TIMEOUT_S):
            return {await wait_until_healthy(each) for each in bare.addresses}
    except TimeoutError:
        raise AssertionError(f"not all three are healthy; their output:\n{bare.output[-5000:]}") from None


async def wait_until_healthy(address: str) -> int:
    client = Etcd([f"http://{address}:2379"], deadline_s=3.0)
    try:
        while True:
            with contextlib.suppress(errors.InfraKitError):
                if await client.health():
                    return (await client.status()).member
            await asyncio.sleep(0.05)
    finally:
        await client.close()


async def test_without_the_first_volume_bootstrap_requires_the_recover_option(bare: BareMachine) -> None:
    first, *others = bare.addresses
    await create_all(bare)
    before = await members(bare)
    client = Etcd([f"http://{each}:2379" for each in bare.addresses], deadline_s=10.0)
    try:
        await client.change("kv/put", {"key": KEY, "value": VALUE})
        bare.kill()
        (bare.home / "local" / "volumes" / first).rename(bare.directory / "lost")

        code, output = await bare.bootstrap()
        assert code == 2, output
        assert f"no machines exist, but {others[0]}, {others[1]} exist, where other members store their data" in output
        assert "infrakit bootstrap --recover" in output
        assert bare.instances == []
        assert not (bare.home / "local" / "volumes" / first).exists()

        code, output = await bare.bootstrap("--recover")
        assert code == 0, output
        after = await members(bare)
        assert len(before & after) == 2, "the other members keep their IDs"
        read = await client.read("kv/range", {"key": KEY})
        assert decode(read["kvs"][0]["value"]) == b"blue"
    finally:
        await client.close()
