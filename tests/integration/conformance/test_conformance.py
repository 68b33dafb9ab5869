"""The conformance kit: our plugins pass it, and a plugin that breaks one rule fails that check."""

import asyncio
import json
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.flavors.vanilla import Vanilla
from infrakit.instances.file import File
from infrakit.instances.local import Local
from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.rpc import conformance
from infrakit.rpc.conformance import report
from infrakit.rpc.conformance.check import Outcome, Verdict
from infrakit.rpc.server import Server
from infrakit.rpc.transport import opened
from infrakit.spi import errors
from infrakit.spi.instance import DestroyContext
from infrakit.spi.metadata import Change, Proposal
from infrakit.spi.values import (
    TAG_TOKEN,
    Allocation,
    Description,
    Health,
    HealthReport,
    Index,
    InstanceID,
    InstanceSpec,
    LogicalID,
)
from tests.integration.rpc.daemons import lying


@pytest.fixture
def path() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield directory / "p"
    shutil.rmtree(directory)


async def checked(path: Path, plugin: object, *, name: str = "p", **more: Any) -> list[Outcome]:
    async with Server(path, {name.partition("/")[2] or ".": plugin}), opened(str(path)) as transport:
        return [outcome async for outcome in conformance.run(transport, name, **{"settle_s": 0.3} | more)]


def failed(outcomes: Sequence[Outcome]) -> set[str]:
    return {outcome.name for outcome in outcomes if outcome.verdict is Verdict.FAILED}


def capabilities(outcomes: Sequence[Outcome]) -> set[str]:
    return {outcome.name.partition("/")[2] for outcome in outcomes if outcome.verdict is Verdict.PRESENT}


# -- ours ----------------------------------------------------------------------------------------------------------


async def test_the_simulator_passes(path: Path) -> None:
    simulator = Simulator()
    outcomes = await checked(path, simulator)
    assert failed(outcomes) == set()
    assert capabilities(outcomes) == {"large-id", "tokens", "capable", "inspects", "volumes"}
    assert len(outcomes) > 25
    assert simulator.live() == []


async def test_a_listing_that_lags_is_waited_for(path: Path) -> None:
    lagging = Simulator(Faults(lag=Spread(low=0.2), death_lag=Spread(low=0.2)))
    outcomes = await checked(path, lagging, settle_s=20.0)
    assert failed(outcomes) == set()


async def test_files_pass(path: Path, tmp_path: Path) -> None:
    outcomes = await checked(path, File(tmp_path / "files"), name="file/typed")
    assert failed(outcomes) == set()
    assert not [p for p in (tmp_path / "files").iterdir() if p.name.startswith("instance-")]


async def test_local_passes(path: Path, tmp_path: Path) -> None:
    local = Local(tmp_path / "local")
    try:
        outcomes = await checked(path, local, settle_s=10.0)
        assert failed(outcomes) == set()
        assert capabilities(outcomes) == {"large-id", "tokens", "capable", "inspects", "watches", "logs", "volumes"}
        assert await local.describe_instances(tags={}) == []
    finally:
        await local.close()


async def test_vanilla_passes(path: Path) -> None:
    outcomes = await checked(path, Vanilla(), properties={"Init": "x", "Tags": {"a": "b"}})
    assert failed(outcomes) == set()
    assert capabilities(outcomes) == {"large-id", "judgesmany", "quorum", "attaches"}


class Tree:
    """An updatable tree of one level."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"a": 1, "b": {"c": 2}}

    async def keys(self, *, path: str) -> Sequence[str] | None:
        found = self._at(path)
        return sorted(found) if isinstance(found, dict) else None if found is None else []

    async def get(self, *, path: str) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(self._at(path)))

    def _at(self, path: str) -> Any:
        found: Any = self.values
        for name in path.split("/"):
            if name not in ("", "."):
                found = found.get(name) if isinstance(found, dict) else None
        return found

    async def changes(self, *, changes: tuple[Change, ...]) -> Proposal:
        return Proposal(original=msgspec.Raw(b"{}"), proposed=msgspec.Raw(b"{}"), cas="right")

    async def commit(self, *, proposed: msgspec.Raw, cas: str) -> None:
        if cas != "right":
            raise errors.Conflict("cas mismatch")


async def test_a_tree_passes(path: Path) -> None:
    outcomes = await checked(path, Tree())
    assert failed(outcomes) == set()
    assert {"updatable/tree", "updatable/changes"} <= {o.name for o in outcomes}


# -- broken ones ---------------------------------------------------------------------------------------------------


class ForgetsTags(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        tags = {name: value for name, value in (spec.tags or {}).items() if name != "size"}
        return await super().provision(spec=msgspec.structs.replace(spec, tags=tags))


class AnyTag(Simulator):
    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        everything = await super().describe_instances(tags={})
        return [d for d in everything if not tags or tags.items() & (d.tags or {}).items()]


class LacksMatches(Simulator):
    """As the original's: an instance that lacks a tag matches it."""

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        everything = await super().describe_instances(tags={})
        return [d for d in everything if all((d.tags or {}).get(k, v) == v for k, v in tags.items())]


class ForgetsLogicalID(Simulator):
    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        found = await super().describe_instances(tags=tags)
        return [msgspec.structs.replace(d, logical_id=None) for d in found]


class ReplacesLabels(Simulator):
    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        await super().label(instance=instance, labels={"kept": "gone"} | dict(labels))


class NeverEnds(Simulator):
    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        pass


class Doubles(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        await super().provision(spec=spec)
        return await super().provision(spec=spec)


class EndsAnother(Simulator):
    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        try:
            await super().destroy(instance=instance, context=context)
        except errors.NotFound:
            for other in await self.describe_instances(tags={}):
                await super().destroy(instance=other.id, context=context)


class AcceptsUnknown(Simulator):
    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        try:
            await super().label(instance=instance, labels=labels)
        except errors.NotFound:
            return


class RefusesEmptyQuery(Simulator):
    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        if not tags:
            raise errors.Refused("say which")
        return await super().describe_instances(tags=tags, properties=properties)


class SameIDs(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        made = await super().provision(spec=spec)
        live = self.live()
        return made if len(live) < 4 else live[0].id


class IgnoresTokens(Simulator):
    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        tags = {name: value for name, value in (spec.tags or {}).items() if name != TAG_TOKEN}
        made = await super().provision(spec=msgspec.structs.replace(spec, tags=tags))
        await self.label(instance=made, labels=spec.tags or {})
        return made


BROKEN: dict[type[Simulator], set[str]] = {
    ForgetsTags: {"tags-and"},
    AnyTag: {"tags-and"},
    LacksMatches: {"tags-and"},
    ForgetsLogicalID: {"logical-id"},
    ReplacesLabels: {"label"},
    NeverEnds: {"destroy", "destroy-twice"},
    Doubles: {"describe-after-provision", "concurrency"},
    EndsAnother: {"destroy-twice"},
    AcceptsUnknown: {"unknown-instance"},
    RefusesEmptyQuery: {"validate", "no-tags"},
    SameIDs: {"concurrency"},
}


@pytest.mark.parametrize("plugin", BROKEN, ids=lambda plugin: plugin.__name__)
async def test_a_broken_rule_is_found(path: Path, plugin: type[Simulator]) -> None:
    outcomes = await checked(path, plugin())
    assert {f"instance/{name}" for name in BROKEN[plugin]} <= failed(outcomes)
    assert not any(name.startswith("envelope/") for name in failed(outcomes))
    if plugin not in (NeverEnds, Doubles, SameIDs):  # what these break, others rest on
        assert len(failed(outcomes)) <= 3


async def test_tokens_are_a_capability_and_no_failure(path: Path) -> None:
    outcomes = await checked(path, IgnoresTokens())
    assert failed(outcomes) == set()
    assert "tokens" not in capabilities(outcomes)


class Confused(Vanilla):
    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        return InstanceSpec(init="x", logical_id=LogicalID("another"))

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        raise errors.PluginError("who knows")

    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None:
        assert Health.HEALTHY


async def test_a_broken_flavor_is_found(path: Path) -> None:
    found = failed(await checked(path, Confused()))
    assert found == {"flavor/prepare", "flavor/prepare-pet", "flavor/healthy", "flavor/wrong-params"}


async def test_a_server_that_breaks_the_envelope_is_found(path: Path) -> None:
    hello = {"Objects": {"Instance/0.6.1": [{"Name": "."}]}}

    def answer(request: dict[str, Any]) -> bytes:
        if request["method"] == "Handshake.Hello":
            return json.dumps({"jsonrpc": "2.0", "result": hello, "id": "another"}).encode()
        return json.dumps({"jsonrpc": "2.0", "result": None, "id": "ECHO"}).encode()

    async with lying(path, answer), opened(str(path)) as transport:
        with pytest.raises(errors.OutcomeUnknown):  # not even the handshake's id is ours
            _ = [outcome async for outcome in conformance.run(transport, "p")]


async def test_who_announces_nothing_that_is_known_is_refused(path: Path) -> None:
    with pytest.raises(errors.Refused, match="does not announce Flavor"):
        await checked(path, Simulator(), kinds=["flavor"])


# -- the report ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def outcomes(path: Path) -> list[Outcome]:
    return await checked(path, ForgetsLogicalID())


def test_the_report_for_people(outcomes: list[Outcome]) -> None:
    (bad,) = [o for o in outcomes if o.verdict is Verdict.FAILED]
    assert report.line(bad).startswith("failed   instance/logical-id: a logical ID comes back")
    told = "\n".join(report.details(bad, raw=True))
    assert "expected: LogicalID check-" in told
    assert '> {"jsonrpc": "2.0", "method": "Instance.Provision"' in told
    assert '< {"jsonrpc":"2.0","result":{"Type":"","ID":"sim-' in told
    assert "20 passed, 1 failed, 0 skipped; capabilities: large-id, tokens, capable" in report.summary(outcomes)


def test_the_report_for_programs(outcomes: list[Outcome]) -> None:
    told = json.loads(report.json(outcomes))
    assert [each["Name"] for each in told if each["Verdict"] == "failed"] == ["instance/logical-id"]
    suite = ET.fromstring(report.junit(outcomes, "p"))
    assert (suite.get("tests"), suite.get("failures")) == (str(len(outcomes)), "1")
    (failure,) = suite.iter("failure")
    assert "expected LogicalID" in (failure.get("message") or "")


def test_nothing_is_asked_twice() -> None:
    names = [check.name for suite in conformance.SUITES.values() for check in suite.checks]
    assert len(names) == len(set(names))
    assert asyncio.iscoroutinefunction(conformance.SUITES["Instance"].checks[0].ask)
