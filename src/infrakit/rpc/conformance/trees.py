"""Metadata, readable and updatable; and the read-only side of groups and events."""

from typing import Any

from infrakit.rpc.conformance.check import Inapplicable, Subject, Suite, Unmet, expect
from infrakit.rpc.conformance.probe import Failure

METADATA = Suite("metadata")
UPDATABLE = Suite("updatable")
GROUP = Suite("group")
EVENT = Suite("event")

NOWHERE = "no/such/path/at/all"


async def _done(subject: Subject, method: str, **params: Any) -> dict[str, Any]:
    reply = await subject.probe.ask(method, {"Name": subject.name} | params)
    if isinstance(reply, Failure):
        raise Unmet(f"{method} succeeds", f"{reply.code} {reply.message}")
    return reply


async def _tree(subject: Subject, service: str) -> None:
    nodes = (await _done(subject, f"{service}.Keys", Path=""))["Nodes"]
    expect(isinstance(nodes, list), "a list of Nodes at the root", nodes)
    expect(nodes == sorted(nodes), "Nodes in order", nodes)
    expect((await _done(subject, f"{service}.Keys", Path="."))["Nodes"] == nodes, "the same for `.`", nodes)
    for node in nodes[:10]:
        below = await _done(subject, f"{service}.Keys", Path=node)
        expect("Nodes" in below, f"Nodes of {node}", below)
        value = await _done(subject, f"{service}.Get", Path=node)
        expect("Value" in value, f"the Value of {node}", value)
    expect(not (await _done(subject, f"{service}.Keys", Path=NOWHERE))["Nodes"], "null for no such path", nodes)
    nothing = (await _done(subject, f"{service}.Get", Path=NOWHERE)).get("Value")
    expect(nothing is None, "null where there is nothing", nothing)


@METADATA.rule("tree", "keys are sorted names, what is not there is null, and every key has a value")
async def metadata(subject: Subject) -> None:
    await _tree(subject, "Metadata")


@UPDATABLE.rule("tree", "keys are sorted names, what is not there is null, and every key has a value")
async def updatable(subject: Subject) -> None:
    await _tree(subject, "Updatable")


@UPDATABLE.rule("changes", "changes are proposed with the key that proves what they were made from; nothing is written")
async def changes(subject: Subject) -> None:
    change = {"Path": "infrakit-check/x", "Value": 1}
    proposal = await _done(subject, "Updatable.Changes", Changes=[change])
    expect({"Original", "Proposed", "Cas"} <= proposal.keys(), "Original, Proposed and Cas", proposal)
    there = (await _done(subject, "Updatable.Get", Path="infrakit-check/x")).get("Value")
    expect(there is None, "nothing written yet", there)
    reply = await subject.probe.ask(
        "Updatable.Commit", {"Name": subject.name, "Proposed": proposal["Proposed"], "Cas": "wrong"}
    )
    expect(isinstance(reply, Failure), "an error for a wrong Cas", str(reply))


@GROUP.rule("inspect", "every group is told with its ID and properties")
async def inspect(subject: Subject) -> None:
    groups = (await _done(subject, "Group.InspectGroups", ID="")).get("Groups") or []
    for each in groups:
        expect("ID" in each and "Properties" in each, "ID and Properties", each)
        described = (await _done(subject, "Group.DescribeGroup", ID=each["ID"]))["Description"]
        expect("Instances" in described and "Converged" in described, "Instances and Converged", described)
        size = (await _done(subject, "Group.Size", ID=each["ID"]))["Size"]
        expect(isinstance(size, int), "a Size", size)


@GROUP.rule("unknown", "a group that nobody knows is an error")
async def unknown(subject: Subject) -> None:
    for method in ("DescribeGroup", "FreeGroup", "DestroyGroup", "Size"):
        reply = await subject.probe.ask(f"Group.{method}", {"Name": subject.name, "ID": "infrakit-check-none"})
        expect(isinstance(reply, Failure), f"an error from {method}", str(reply))


@GROUP.rule("pretend", "a pretended commit says what it would do, and does nothing")
async def pretend(subject: Subject) -> None:
    groups = (await _done(subject, "Group.InspectGroups", ID="")).get("Groups") or []
    if not groups:
        raise Inapplicable("no group is declared whose properties could be used")
    spec = groups[0] | {"ID": "infrakit-check-pretended"}
    said = await _done(subject, "Group.CommitGroup", Spec=spec, Pretend=True)
    expect(isinstance(said.get("Details"), str), "Details, a text", said)
    after = (await _done(subject, "Group.InspectGroups", ID="")).get("Groups") or []
    expect(spec["ID"] not in [each["ID"] for each in after], "no new group", after)


@EVENT.rule("list", "topics are names, one level at a time")
async def topics(subject: Subject) -> None:
    reply = await subject.probe.ask("Event.List", {"Topic": "."})
    expect(isinstance(reply, dict) and isinstance(reply.get("Nodes"), list), "a list of Nodes", str(reply))
