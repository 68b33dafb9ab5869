"""The flavor plugin."""

from typing import Any

from infrakit.rpc.conformance.check import Subject, Suite, Unmet, expect
from infrakit.rpc.conformance.probe import Failure

SUITE = Suite("flavor")
ALLOCATION = {"Size": 3, "LogicalIDs": None}
INSTANCE = {"ID": "check-1", "LogicalID": None, "Tags": {"infrakit.group": "check"}}


async def _done(subject: Subject, method: str, **params: Any) -> dict[str, Any]:
    asked = {"Type": subject.type, "Properties": subject.properties} | params
    reply = await subject.probe.ask(f"Flavor.{method}", asked)
    if isinstance(reply, Failure):
        raise Unmet(f"{method} succeeds", f"{reply.code} {reply.message}")
    return reply


@SUITE.rule("validate", "properties that are right are accepted")
async def validate(subject: Subject) -> None:
    await _done(subject, "Validate", Allocation=ALLOCATION)


@SUITE.rule("prepare", "a spec is completed: its properties, tags and logical ID are kept")
async def prepare(subject: Subject) -> None:
    spec = {"Properties": {"x": [1, 2]}, "Tags": {"infrakit.group": "check"}, "Init": "", "LogicalID": None}
    index = {"Group": "check", "Sequence": 1}
    asked = {"Spec": spec | {"Attachments": None}, "Allocation": ALLOCATION, "Index": index}
    prepared = (await _done(subject, "Prepare", **asked)).get("Spec")
    expect(isinstance(prepared, dict), "the Spec", prepared)
    held = prepared or {}
    expect(held.get("Properties") == spec["Properties"], "the Properties as they were", held)
    expect((held.get("Tags") or {}).get("infrakit.group") == "check", "the Tags, and more if need be", held)
    expect(isinstance(held.get("Init"), str), "Init, a text", held)


@SUITE.rule("prepare-pet", "a pet's spec keeps its logical ID")
async def prepare_pet(subject: Subject) -> None:
    spec: dict[str, Any] = {"Properties": {}, "Tags": {}, "Init": "", "LogicalID": "check-1", "Attachments": None}
    allocation = {"Size": 0, "LogicalIDs": ["check-1"]}
    index = {"Group": "check", "Sequence": 1}
    prepared = (await _done(subject, "Prepare", Spec=spec, Allocation=allocation, Index=index)).get("Spec") or {}
    expect(prepared.get("LogicalID") == "check-1", "LogicalID check-1", prepared)


@SUITE.rule("healthy", "a verdict is 0 (unknown), 1 (healthy) or 2 (unhealthy)")
async def healthy(subject: Subject) -> None:
    verdict = (await _done(subject, "Healthy", Instance=INSTANCE)).get("Health")
    expect(verdict in (0, 1, 2) and not isinstance(verdict, bool), "0, 1 or 2", verdict)


@SUITE.rule("drain", "a drain is answered")
async def drain(subject: Subject) -> None:
    await _done(subject, "Drain", Instance=INSTANCE)


@SUITE.rule("wrong-params", "params of the wrong type are an error, and the plugin lives on")
async def wrong_params(subject: Subject) -> None:
    reply = await subject.probe.ask("Flavor.Healthy", {"Type": subject.type, "Instance": 7})
    expect(isinstance(reply, Failure), "an error", str(reply))
    await healthy(subject)


@SUITE.rule("wrong-type", "an object that is not there is an error")
async def wrong_type(subject: Subject) -> None:
    reply = await subject.probe.ask("Flavor.Validate", {"Type": "none/such", "Allocation": ALLOCATION})
    expect(isinstance(reply, Failure), "an error", str(reply))
