"""The asynchronous client over a real socket: it satisfies the Protocols, and handles failures of the other side."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.flavors.vanilla import Vanilla
from infrakit.instances.simulator import Simulator
from infrakit.rpc import client, turns
from infrakit.rpc.server import Server
from infrakit.spi import errors, instance
from infrakit.spi.flavor import Attaches, Flavor, JudgesMany, Members, MembershipChange, Quorum
from infrakit.spi.instance import Capabilities, DestroyContext, Instance
from infrakit.spi.values import TAG_TOKEN, Allocation, Attachment, Description, InstanceID, InstanceSpec, LogicalID
from tests.integration.rpc.daemons import scripted_server
from tests.unit.rpc.plugins import Provider


async def test_the_client_satisfies_the_protocols_of_an_instance_plugin(path: Path) -> None:
    async with Server(path, {".": Simulator()}):
        remote = await client.connect(Instance, "simulator", str(path))
        for protocol in (Instance, instance.Capable, instance.Inspects, instance.Volumes, instance.Keeps):
            assert isinstance(remote, protocol)
        assert not isinstance(remote, instance.Logs)
        assert not isinstance(remote, Flavor)
        assert await remote.capabilities() == Capabilities(listing_lag_s=0.0, tokens=True)
        spec = InstanceSpec(
            tags={"a": "b", TAG_TOKEN: "t"}, logical_id=LogicalID("x"), attachments=(Attachment(id="v", type="volume"),)
        )
        created = await remote.provision(spec=spec)
        assert await remote.provision(spec=spec) == created
        (described,) = await remote.describe_instances(tags={"a": "b"})
        assert (described.id, described.logical_id, described.tags) == (created, "x", {"a": "b", TAG_TOKEN: "t"})
        assert (await remote.inspect(instance=created)).id == created
        await remote.label(instance=created, labels={"c": "d"})
        assert await remote.describe_instances(tags={"c": "e"}) == []
        await remote.destroy(instance=created, context=DestroyContext())
        assert await remote.inspect(instance=created) is None
        requested = [Attachment(id=each, type="volume") for each in ("v", "w")]
        assert await remote.existing(attachments=requested) == requested[:1]
        with pytest.raises(errors.NotFound) as unknown:
            await remote.destroy(instance=created, context=DestroyContext())
        assert "simulator Instance.Destroy" in str(unknown.value)
        await remote.close()


class Forbidding(Simulator):
    """A provider whose credentials may list, but not inspect; it names its account."""

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        raise errors.Refused(f"403 Forbidden: not authorised to describe {instance}")

    async def identity(self) -> str:
        return "account 7"


async def test_a_forbidden_inspection_is_an_error_and_not_an_unknown_id(path: Path) -> None:
    async with Server(path, {".": Forbidding()}):
        remote = await client.connect(Instance, "simulator", str(path))
        created = await remote.provision(spec=InstanceSpec())
        assert [each.id for each in await remote.describe_instances(tags={})] == [created]
        for each in (created, InstanceID("nobody")):
            with pytest.raises(errors.Refused, match="403 Forbidden"):
                await remote.inspect(instance=each)
        identified: object = remote
        assert isinstance(identified, instance.Identified)
        assert await identified.identity() == "account 7"
        await remote.close()


async def test_the_client_satisfies_the_protocols_of_a_flavor(path: Path) -> None:
    async with Server(path, {"web": Vanilla()}):
        remote = await client.connect(Flavor, "vanilla/web", str(path))
        assert all(isinstance(remote, each) for each in (Flavor, Quorum, Attaches, JudgesMany))
        properties = msgspec.Raw(
            b'{"Quorum": true, "Init": "run", "Attachments": {"a": [{"ID": "v", "Type": "volume"}]}}'
        )
        assert await remote.is_quorum(properties=properties) is True
        allocation = Allocation(logical_ids=(LogicalID("a"),))
        assert await remote.attachments(properties=properties, allocation=allocation) == {
            "a": (Attachment(id="v", type="volume"),)
        }
        with pytest.raises(errors.InvalidSpec) as wrong:
            await remote.validate(properties=msgspec.Raw(b'{"Inti": "run", "Port": {}}'), allocation=allocation)
        assert [p.path for p in wrong.value.problems] == ["Inti", "Port.Base"]
        await remote.close()


class MembershipFlavor(Vanilla):
    """Reports one membership change as needed, and records its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[object] = []

    async def membership(
        self, *, properties: msgspec.Raw, instances: Sequence[Description], allocation: Allocation
    ) -> Sequence[MembershipChange]:
        self.calls.append((instances, allocation))
        return [MembershipChange(id="promote/1", what="a newcomer", due=False, instance=instances[0].id)]

    async def change_membership(
        self,
        *,
        properties: msgspec.Raw,
        change: MembershipChange,
        instances: Sequence[Description],
        allocation: Allocation,
    ) -> None:
        self.calls.append((change, instances, allocation))
        raise errors.Refused("not now")


async def test_the_client_satisfies_the_membership_protocol(path: Path) -> None:
    flavor = MembershipFlavor()
    async with Server(path, {".": flavor}):
        remote = await client.connect(Flavor, "swarm", str(path))
        assert all(isinstance(remote, each) for each in (Flavor, Members))
        properties, allocation = msgspec.Raw(b"{}"), Allocation(logical_ids=(LogicalID("a"),))
        instances = [Description(id=InstanceID("i-1"))]
        (change,) = await remote.membership(properties=properties, instances=instances, allocation=allocation)
        assert change == MembershipChange(id="promote/1", what="a newcomer", due=False, instance=InstanceID("i-1"))
        with pytest.raises(errors.Refused, match="not now"):
            await remote.change_membership(
                properties=properties, change=change, instances=instances, allocation=allocation
            )
        assert flavor.calls == [(instances, allocation), (change, instances, allocation)]
        await remote.close()


async def test_a_plugin_without_the_required_interface_or_object_is_refused(path: Path) -> None:
    async with Server(path, {"a": Vanilla(), "b": Vanilla()}):
        with pytest.raises(errors.Refused, match=r"does not serve Instance/0.6.1, but .*Flavor/0.1.1"):
            await client.connect(Instance, "vanilla/a", str(path))
        with pytest.raises(errors.NotFound, match="does not serve vanilla/c; it serves: vanilla/a, vanilla/b"):
            await client.connect(Flavor, "vanilla/c", str(path))


async def test_another_version_of_an_interface_is_refused(path: Path) -> None:
    async with scripted_server(path, lambda _: reply({"Objects": {"Instance/0.5.0": [{"Name": "."}]}})):
        with pytest.raises(errors.Refused, match=r"it serves Instance/0.5.0, and Instance/0.6.1 is needed"):
            await client.connect(Instance, "old", str(path))


async def test_a_missing_plugin_is_unreachable(path: Path) -> None:
    with pytest.raises(errors.Unreachable, match=r"away Handshake.Hello"):
        await client.connect(Instance, "away", str(path))


async def test_a_restarted_plugin_is_used_again(path: Path) -> None:
    provider = Provider()
    async with Server(path, {".": provider}):
        remote = await client.connect(Instance, "p", str(path))
        assert await remote.provision(spec=InstanceSpec()) == "i-1"
    with pytest.raises((errors.Unreachable, errors.OutcomeUnknown)):
        await remote.provision(spec=InstanceSpec())
    with pytest.raises(errors.Unreachable):
        await remote.provision(spec=InstanceSpec())
    assert len(provider.asked) == 1
    provider.made = "i-2"
    async with Server(path, {".": provider}):
        assert await eventually(lambda: remote.provision(spec=InstanceSpec())) == "i-2"
        await remote.close()


async def test_the_interfaces_of_a_restarted_plugin_are_updated(path: Path) -> None:
    async with Server(path, {".": Provider()}):
        remote = await client.connect(Instance, "provider", str(path))
        first = remote.incarnation
        assert await remote.describe_instances(tags={}) == []
        assert (isinstance(remote, instance.Inspects), remote.incarnation) == (False, first)
        assert await remote.describe_instances(tags={}) == []
    async with Server(path, {".": Simulator()}):
        assert await remote.describe_instances(tags={}) == []
        second = remote.incarnation
        assert second > first  # callers that compare it query the interfaces again
        assert await remote.describe_instances(tags={}) == []
        assert (isinstance(remote, instance.Inspects), remote.incarnation) == (True, second)
        assert await remote.inspect(instance=InstanceID("nobody")) is None
    async with Server(path, {".": Provider()}):
        assert await remote.describe_instances(tags={}) == []
        assert await remote.describe_instances(tags={}) == []
        assert isinstance(remote, instance.Inspects) is False
        await remote.close()


async def test_calls_fail_at_once_during_back_off(path: Path) -> None:
    async with Server(path, {".": Provider()}):
        remote = await client.connect(Instance, "p", str(path))
    for _ in range(8):
        with pytest.raises(errors.Unreachable):
            await remote.describe_instances(tags={})
    with pytest.raises(errors.Unreachable, match=r"retried in \d\.\d s"):
        await remote.describe_instances(tags={})
    await remote.close()


async def test_a_read_is_retried_when_a_kept_alive_connection_was_closed(path: Path) -> None:
    requests: list[str] = []

    def answers(request: dict[str, Any]) -> bytes:
        requests.append(request["method"])
        if requests.count("Instance.DescribeInstances") == 1 and requests[-1] == "Instance.DescribeInstances":
            return b""  # it closes the connection without a response
        return HELLO if requests[-1] == "Handshake.Hello" else reply({"Descriptions": []})

    async with scripted_server(path, answers):
        remote = await client.connect(Instance, "p", str(path))
        assert await remote.describe_instances(tags={}) == []
        assert requests.count("Instance.DescribeInstances") == 2
        await remote.close()


async def test_a_creation_is_never_retried(path: Path) -> None:
    requests: list[str] = []

    def answers(request: dict[str, Any]) -> bytes:
        requests.append(request["method"])
        return HELLO if requests[-1] == "Handshake.Hello" else b""

    async with scripted_server(path, answers):
        remote = await client.connect(Instance, "p", str(path))
        with pytest.raises(errors.OutcomeUnknown, match=r"p Instance.Provision at .*: the connection broke"):
            await remote.provision(spec=InstanceSpec())
        assert requests.count("Instance.Provision") == 1
        await remote.close()


class Hanging(Provider):
    """Its calls return once they are released."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Semaphore(0)
        self.released = asyncio.Event()

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        self.began.release()
        await self.released.wait()
        return await super().provision(spec=spec)

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        self.began.release()
        await self.released.wait()
        return await super().describe_instances(tags=tags, properties=properties)


@pytest.mark.parametrize("listing", [False, True])
async def test_calls_that_change_something_begin_at_once_and_others_take_turns(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, listing: bool
) -> None:
    monkeypatch.setattr(turns, "CHECK_S", 3600.0)
    plugin = Hanging()
    async with Server(path, {".": plugin}) as server:
        remote = await client.connect(Instance, "p", str(path))
        calls = [
            asyncio.ensure_future(
                remote.describe_instances(tags={}) if listing else remote.provision(spec=InstanceSpec())
            )
            for _ in range(2 * turns.SHARED)
        ]
        at_once = turns.SHARED if listing else 2 * turns.SHARED
        async with asyncio.timeout(30):
            for _ in range(at_once):
                await plugin.began.acquire()
        assert server.connections == at_once
        plugin.released.set()
        await asyncio.gather(*calls)
        await remote.close()


async def test_a_timeout_leaves_the_outcome_unknown(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ACT_S", 0.05)
    hanging = asyncio.Event()

    class Slow(Provider):
        async def provision(self, *, spec: InstanceSpec) -> InstanceID:
            await hanging.wait()
            return await super().provision(spec=spec)

    async with Server(path, {".": Slow()}):
        remote = await client.connect(Instance, "p", str(path))
        with pytest.raises(errors.OutcomeUnknown, match=r"no answer within 0.05 s"):
            await remote.provision(spec=InstanceSpec())
        hanging.set()
        await remote.close()


async def test_cancelling_a_call_closes_only_its_own_connection(path: Path) -> None:
    started = asyncio.Event()

    class Slow(Provider):
        async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
            started.set()
            await asyncio.Event().wait()

    async with Server(path, {".": Slow()}):
        remote = await client.connect(Instance, "p", str(path))
        task = asyncio.create_task(remote.label(instance=InstanceID("i"), labels={}))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await remote.describe_instances(tags={}) == []
        await remote.close()


def reply(result: Any, **more: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "result": result, "id": "ECHO"} | more).encode()


HELLO = reply({"Objects": {"Instance/0.6.1": [{"Name": ".", "ProxyFor": ""}]}})

INVALID_REPLIES = {
    "not JSON": b"<html>",
    "nothing": b" ",
    "cut off": HELLO[:20],
    "null": reply(None),
    "neither result nor error": b'{"jsonrpc":"2.0"}',
    "a list": b"[1]",
    "invalid UTF-8": b'{"result":{"ID":"\xff"}}',
    "a wrong type": reply({"ID": ["x"]}),
    "no ID": reply({"ID": None}),
    "a huge number": b'{"result":{"ID":' + b"9" * 5000 + b"}}",
    "deep nesting": b'{"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "an error that is not UTF-8": b'{"error":{"message":"no","data":{"Kind":"\xffConflict"}}}',
    "an odd error": b'{"error":{"code":"x","message":7}}',
}


@pytest.mark.parametrize("case", INVALID_REPLIES)
async def test_an_invalid_reply_raises_an_error_that_names_the_call(path: Path, case: str) -> None:
    async with scripted_server(
        path, lambda request: HELLO if request["method"] == client.HELLO else INVALID_REPLIES[case]
    ):
        remote = await client.connect(Instance, "liar", str(path))
        with pytest.raises((errors.PluginError, errors.OutcomeUnknown)) as raised:
            await remote.provision(spec=InstanceSpec())
        assert "liar Instance.Provision" in str(raised.value)
        assert len(str(raised.value)) < 1000
        await remote.close()


async def test_a_reply_to_another_request_leaves_the_outcome_unknown(path: Path) -> None:
    wrong = reply({"ID": "i-9"}, id=-1)
    async with scripted_server(path, lambda request: HELLO if request["method"] == client.HELLO else wrong):
        remote = await client.connect(Instance, "liar", str(path))
        with pytest.raises(errors.OutcomeUnknown, match="belongs to another request"):
            await remote.provision(spec=InstanceSpec())
        await remote.close()


async def test_a_watch_yields_hints_until_the_plugin_stops(path: Path) -> None:
    class Watched(Provider):
        async def watch(self) -> AsyncIterator[str]:
            yield "i-1 has ended"
            await asyncio.Event().wait()

    async with Server(path, {".": Watched()}):
        remote: Any = await client.connect(Instance, "p", str(path))
        hints = remote.watch()
        assert await anext(hints) == "i-1 has ended"
        after = asyncio.ensure_future(anext(hints))
    with pytest.raises((StopAsyncIteration, errors.Unreachable)):
        await after
    await remote.close()


async def eventually(call: Any) -> Any:
    async with asyncio.timeout(10.0):
        while True:
            try:
                return await call()
            except errors.Unreachable:
                await asyncio.sleep(0.01)
