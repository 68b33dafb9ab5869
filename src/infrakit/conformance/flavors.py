"""Checks of the flavor plugin."""

from typing import Any

from infrakit.conformance import envelope
from infrakit.conformance.check import Subject, Suite, expect, expect_error
from infrakit.conformance.probe import Failure

SUITE = Suite("flavor")
ALLOCATION = {"Size": 3, "LogicalIDs": None}
INDEX = {"Group": "check", "Sequence": 1}
TAGS = {"infrakit.group": "check"}
INSTANCE = {"ID": "check-1", "LogicalID": None, "Tags": TAGS}
SPEC: dict[str, Any] = {"Properties": {"x": [1, 2]}, "Tags": TAGS, "Init": "", "LogicalID": None, "Attachments": None}
HEALTH = (0, 1, 2)  # unknown, healthy, unhealthy


async def _prepared(subject: Subject, spec: dict[str, Any], **params: Any) -> dict[str, Any]:
    params = {"Properties": subject.properties, "Allocation": ALLOCATION, "Index": INDEX} | params
    prepared = (await subject.succeed("Flavor.Prepare", Spec=spec, **params)).get("Spec")
    expect(isinstance(prepared, dict), "the Spec, completed", prepared)
    held = dict(prepared or {})
    expect(isinstance(held.get("Init"), str), "Init, a text", held)
    for name, kind in (("Tags", dict), ("Attachments", list)):
        expect(held.get(name) is None or isinstance(held[name], kind), f"{name}, a {kind.__name__} or null", held)
    return held


@SUITE.rule("validate", "valid properties are accepted")
async def validate(subject: Subject) -> None:
    await subject.succeed("Flavor.Validate", Properties=subject.properties, Allocation=ALLOCATION)


@SUITE.rule("prepare", "a spec is completed: its properties and tags are kept, and tags may be added")
async def prepare(subject: Subject) -> None:
    held = await _prepared(subject, SPEC)
    expect(held.get("Properties") == SPEC["Properties"], "the Properties unchanged", held)
    expect(TAGS.items() <= (held.get("Tags") or {}).items(), f"at least the Tags {TAGS}", held)


@SUITE.rule("prepare-cattle", "a spec without a logical ID gets none")
async def prepare_cattle(subject: Subject) -> None:
    held = await _prepared(subject, SPEC)
    expect(held.get("LogicalID") is None, "LogicalID null", held)


@SUITE.rule("prepare-pet", "a pet's spec keeps its logical ID")
async def prepare_pet(subject: Subject) -> None:
    allocation = {"Size": 0, "LogicalIDs": ["check-1"]}
    held = await _prepared(subject, SPEC | {"LogicalID": "check-1"}, Allocation=allocation)
    expect(held.get("LogicalID") == "check-1", "LogicalID check-1", held)


@SUITE.rule("prepare-attachments", "attachments that a spec already has are kept")
async def prepare_attachments(subject: Subject) -> None:
    volume = {"ID": "check-volume", "Type": "check"}
    held = await _prepared(subject, SPEC | {"Attachments": [volume]})
    expect(volume in (held.get("Attachments") or []), f"{volume} among the Attachments", held)


@SUITE.rule("prepare-nothing", "an empty list, null and a missing list mean the same in a spec")
async def prepare_nothing(subject: Subject) -> None:
    for spec in (
        SPEC | {"Tags": None, "Attachments": []},
        SPEC | {"Tags": {}},
        {"Properties": SPEC["Properties"], "Init": ""},
    ):
        await _prepared(subject, spec)


@SUITE.rule("healthy", "a verdict is 0 (unknown), 1 (healthy) or 2 (unhealthy)")
async def healthy(subject: Subject) -> None:
    verdict = await subject.succeed("Flavor.Healthy", Properties=subject.properties, Instance=INSTANCE)
    health = verdict.get("Health")
    expect(type(health) is int and health in HEALTH, "0, 1 or 2", verdict)


@SUITE.rule("drain", "a drain gets a reply")
async def drain(subject: Subject) -> None:
    await subject.succeed("Flavor.Drain", Properties=subject.properties, Instance=INSTANCE)


async def _announces(subject: Subject, service: str) -> bool:
    return any(each.partition("/")[0] == service for each in await envelope.announced(subject.probe))


async def _has_member_list(subject: Subject) -> bool:
    return await _announces(subject, "Members")


@SUITE.rule("membership", "capability: it returns the changes that its member list needs, or an error with the reason")
async def membership(subject: Subject) -> bool:
    if not await _has_member_list(subject):
        return False
    params = {"Type": subject.type, "Properties": subject.properties, "Allocation": ALLOCATION}
    reply = await subject.ask("Members.Membership", **params, Instances=[INSTANCE])
    if isinstance(reply, Failure):  # it may have no cluster whose member list it could read
        expect_error(reply, "Members.Membership")
    else:
        changes = reply.get("Changes")
        expect(isinstance(changes, list), "Changes, a list", reply)
        for change in changes or ():
            texts = isinstance(change, dict) and all(isinstance(change.get(n), str) for n in ("ID", "What"))
            expect(texts and change["ID"] and change["What"], "each change with its ID and What, texts", changes)
            expect(isinstance(change.get("Due", True), bool), "Due, true or false", change)
            expect(isinstance(change.get("Instance") or "", str), "Instance, a text or null", change)
        ids = [change["ID"] for change in changes or ()]
        expect(len(set(ids)) == len(ids), "a different ID for each change", ids)
    await subject.fail("Members.Membership", **params, Instances=7)
    return True


@SUITE.rule("membership-change", "capability: a member list change that it has not returned gets a reply")
async def membership_change(subject: Subject) -> bool:
    if not await _has_member_list(subject):
        return False
    params = {"Type": subject.type, "Properties": subject.properties, "Allocation": ALLOCATION, "Instances": []}
    change = {"ID": "check/none", "What": "nothing", "Due": False, "Instance": None}
    reply = await subject.ask("Members.ChangeMembership", **params, Change=change)
    if isinstance(reply, Failure):
        expect_error(reply, "Members.ChangeMembership")
    await subject.fail("Members.ChangeMembership", **params, Change=7)
    return True


@SUITE.rule("voters", "capability: it returns the voters of its quorum, or an error with the reason")
async def voters(subject: Subject) -> bool:
    if not await _announces(subject, "Voters"):
        return False
    params = {"Type": subject.type, "Properties": subject.properties, "Allocation": ALLOCATION}
    reply = await subject.ask("Voters.Voters", **params, Instances=[INSTANCE])
    if isinstance(reply, Failure):  # it may have no cluster whose member list it could read
        expect_error(reply, "Voters.Voters")
    else:
        found = reply.get("Voters")
        expect(isinstance(found, list), "Voters, a list", reply)
        for voter in found or ():
            has_id = isinstance(voter, dict) and isinstance(voter.get("ID"), str) and voter["ID"]
            expect(has_id, "each voter with its ID, a text", found)
            expect(voter.get("Healthy") in (True, False, None), "Healthy, true, false or null", voter)
            instances = voter.get("Instances") or []
            known = isinstance(instances, list) and all(each == INSTANCE["ID"] for each in instances)
            expect(known, "Instances, a list of IDs of the request", voter)
    await subject.fail("Voters.Voters", **params, Instances=7)
    return True


@SUITE.rule("field-names", "fields of a request are found in any case")
async def field_names(subject: Subject) -> None:
    params = {"type": subject.type, "properties": subject.properties, "ALLOCATION": ALLOCATION, "index": INDEX}
    reply = await subject.probe.ask("Flavor.Prepare", params | {"SPEC": SPEC})
    spec = reply.get("Spec") if isinstance(reply, dict) else None
    kept = isinstance(spec, dict) and spec.get("Properties") == SPEC["Properties"]
    expect(kept, "SPEC taken for Spec: its properties kept", str(reply))


@SUITE.rule("unknown-fields", "unknown fields are ignored")
async def unknown_fields(subject: Subject) -> None:
    await _prepared(subject, SPEC | {"Unknown": 1}, Unknown={"a": [1]})


@SUITE.rule("wrong-params", "params of the wrong type are an error, and the plugin keeps running")
async def wrong_params(subject: Subject) -> None:
    await subject.fail("Flavor.Healthy", Properties=subject.properties, Instance=7)
    await subject.fail("Flavor.Prepare", Properties=subject.properties, Spec=[7])
    expect_error(await subject.probe.ask("Flavor.Validate", 7), "Flavor.Validate with params 7")
    await validate(subject)


@SUITE.rule("wrong-type", "an object that does not exist is an error")
async def wrong_type(subject: Subject) -> None:
    await subject.fail("Flavor.Validate", Type="none/such", Properties={}, Allocation=ALLOCATION)
