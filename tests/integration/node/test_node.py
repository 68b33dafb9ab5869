"""A plugin and a client in JavaScript, tested with the client and a plugin of this package."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infrakit import conformance
from infrakit.conformance.check import Verdict
from infrakit.instances.simulator import Simulator
from infrakit.rpc import client
from infrakit.rpc.server import Server
from infrakit.spi import errors
from infrakit.spi.instance import DestroyContext, Instance
from infrakit.spi.values import TAG_TOKEN, InstanceSpec, LogicalID

EXAMPLES = Path(__file__).parents[3] / "examples/node"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="install Node.js: apt-get install nodejs")


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def javascript_plugin(directory: Path) -> AsyncIterator[str]:
    """The socket of the JavaScript plugin."""
    socket = str(directory / "p")
    process = await asyncio.create_subprocess_exec(
        NODE or "", str(EXAMPLES / "plugin.js"), socket, str(directory / "data"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30.0):
            assert b"serving at" in await process.stdout.readline()
        yield socket
    finally:
        process.terminate()
        assert await process.wait() == 0


async def test_the_javascript_plugin_passes_the_conformance_kit(javascript_plugin: str) -> None:
    outcomes = [outcome async for outcome in conformance.run(javascript_plugin, "node", settle_s=5.0)]
    assert [o for o in outcomes if o.verdict is Verdict.FAILED] == []
    assert "instance/tokens" in {o.name for o in outcomes if o.verdict is Verdict.PRESENT}


async def test_our_client_controls_the_javascript_plugin(javascript_plugin: str) -> None:
    remote = await client.connect(Instance, "node", javascript_plugin)
    spec = InstanceSpec(tags={"a": "b", TAG_TOKEN: "t"}, logical_id=LogicalID("x"), init="run")
    created = await remote.provision(spec=spec)
    assert await remote.provision(spec=spec) == created
    (described,) = await remote.describe_instances(tags={"a": "b"})
    assert (described.id, described.logical_id) == (created, "x")
    with pytest.raises(errors.PluginError, match=f"{created} already has the logical ID x"):
        await remote.provision(spec=InstanceSpec(logical_id=LogicalID("x")))
    await remote.destroy(instance=created, context=DestroyContext())
    with pytest.raises(errors.PluginError, match=f"there is no instance {created}"):
        await remote.destroy(instance=created, context=DestroyContext())
    await remote.close()


@pytest.mark.parametrize("type_", ["", "compute"])
async def test_the_javascript_client_controls_our_plugin(directory: Path, type_: str) -> None:
    simulator = Simulator()
    async with Server(directory / "q", {type_ or ".": simulator}):
        process = await asyncio.create_subprocess_exec(
            NODE or "",
            str(EXAMPLES / "client.js"),
            str(directory / "q"),
            type_,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(30.0):
            output, _ = await process.communicate()
    assert process.returncode == 0, output
    shown, left = output.decode().splitlines()
    assert json.loads(shown)[0]["Tags"] == {"made-by": "client.js", "seen": "yes"}
    assert left == "0 left"
    assert simulator.live() == []
