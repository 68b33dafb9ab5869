"""The instance plugin: what the group controller relies on. Everything made carries a tag of this run, and is ended."""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

from infrakit.rpc.conformance.check import Inapplicable, Subject, Suite, Unmet, expect
from infrakit.rpc.conformance.probe import Failure
from infrakit.spi.values import TAG_TOKEN

SUITE = Suite("instance")
TAG = "infrakit.check"
AT_ONCE = 8

RUN = uuid.uuid4().hex[:12]  # names what this process makes
_made: list[str] = []


async def _done(subject: Subject, method: str, **params: Any) -> dict[str, Any]:
    reply = await subject.probe.ask(f"Instance.{method}", {"Type": subject.type} | params)
    if isinstance(reply, Failure):
        raise Unmet(f"{method} succeeds", f"{reply.code} {reply.message}")
    return reply


async def _refused(subject: Subject, method: str, **params: Any) -> None:
    reply = await subject.probe.ask(f"Instance.{method}", {"Type": subject.type} | params)
    expect(isinstance(reply, Failure) and isinstance(reply.message, str) and reply.message, "an error", str(reply))


async def _provision(subject: Subject, tags: Mapping[str, str] | None = None, **spec: Any) -> str:
    asked = {"Properties": subject.properties, "Tags": {TAG: RUN} | dict(tags or {}), "Init": subject.init}
    reply = await _done(subject, "Provision", Spec=asked | {"LogicalID": None, "Attachments": None} | spec)
    made = reply.get("ID")
    expect(isinstance(made, str) and made, "the ID of the new instance", made)
    _made.append(str(made))
    return str(made)


async def _listed(subject: Subject, tags: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    reply = await _done(subject, "DescribeInstances", Tags=tags, Properties=False)
    expect("Descriptions" in reply, "Descriptions", reply)
    return {each["ID"]: each for each in reply["Descriptions"] or []}


async def _until(subject: Subject, tags: Mapping[str, str], wanted: set[str]) -> dict[str, dict[str, Any]]:
    """The listing, once it shows exactly these; it may lag behind for as long as the caller allows."""
    loop = asyncio.get_running_loop()
    end = loop.time() + subject.settle_s
    while (found := await _listed(subject, tags)).keys() != wanted:
        if loop.time() > end:
            raise Unmet(f"within {subject.settle_s:g} s exactly {sorted(wanted)}", sorted(found))
        await asyncio.sleep(0.1)
    return found


async def _destroy(subject: Subject, instance: str) -> None:
    await _done(subject, "Destroy", Instance=instance, Context={"Reason": "terminate"})
    if instance in _made:
        _made.remove(instance)


def _own() -> dict[str, str]:
    """A tag for one check alone."""
    return {"infrakit.check.case": uuid.uuid4().hex[:8]}


@SUITE.rule("validate", "properties that are right are accepted, and nothing is made")
async def validate(subject: Subject) -> None:
    before = await _listed(subject, {})
    await _done(subject, "Validate", Properties=subject.properties)
    after = await _listed(subject, {})
    expect(before.keys() == after.keys(), "the same instances as before", sorted(after))


@SUITE.rule("describe-after-provision", "what is provisioned is listed with the tags that it was asked for with")
async def describe_after_provision(subject: Subject) -> None:
    tags = _own()
    made = await _provision(subject, tags)
    found = (await _until(subject, tags, {made}))[made]
    expect("LogicalID" in found and "Tags" in found, "LogicalID and Tags in every description, null or not", found)
    held = found["Tags"] or {}
    expect(({TAG: RUN} | tags).items() <= held.items(), f"the tags {tags}", held)
    await _destroy(subject, made)


@SUITE.rule("tags-and", "a query answers the instances that carry all of its tags, and no others")
async def tags_and(subject: Subject) -> None:
    case = _own()
    both = await _provision(subject, case | {"colour": "red", "size": "big"})
    one = await _provision(subject, case | {"colour": "red"})
    await _until(subject, case, {both, one})
    for query, wanted in (
        ({"colour": "red"}, {both, one}),
        ({"colour": "red", "size": "big"}, {both}),
        ({"colour": "blue"}, set()),
        ({"absent": "x"}, set()),  # an instance that lacks a tag does not carry it
    ):
        found = await _listed(subject, case | query)
        expect(found.keys() == wanted, f"for {query}: {sorted(wanted)}", sorted(found))
    for made in (both, one):
        await _destroy(subject, made)


@SUITE.rule("no-tags", "a query without tags answers every instance")
async def no_tags(subject: Subject) -> None:
    case = _own()
    made = await _provision(subject, case)
    await _until(subject, case, {made})
    queries: tuple[dict[str, str] | None, ...] = ({}, None)
    for tags in queries:
        found = (await _done(subject, "DescribeInstances", Tags=tags, Properties=False))["Descriptions"] or []
        expect(made in {each["ID"] for each in found}, f"{made} among them, for Tags {tags}", found)
    await _destroy(subject, made)


@SUITE.rule("logical-id", "a logical ID comes back with its instance, and an instance without one has null")
async def logical_id(subject: Subject) -> None:
    case, wanted = _own(), f"check-{RUN}"
    try:
        made = await _provision(subject, case, LogicalID=wanted)
    except Unmet as unmet:
        raise Inapplicable(f"this provider takes no such logical ID: {unmet.seen}") from None
    found = (await _until(subject, case, {made}))[made]
    tag = (found["Tags"] or {}).get("infrakit.logical_id")
    expect(wanted in (found["LogicalID"], tag), f"LogicalID {wanted}", found)
    await _destroy(subject, made)


@SUITE.rule("label", "labels are merged into the tags: new ones added, equal ones replaced, others kept")
async def label(subject: Subject) -> None:
    case = _own()
    made = await _provision(subject, case | {"kept": "1", "changed": "1"})
    await _until(subject, case, {made})
    await _done(subject, "Label", Instance=made, Labels={"changed": "2", "new": "3"})
    await _until(subject, case | {"kept": "1", "changed": "2", "new": "3"}, {made})
    await _destroy(subject, made)


@SUITE.rule("destroy", "what is destroyed is listed no more")
async def destroy(subject: Subject) -> None:
    case = _own()
    made = await _provision(subject, case)
    await _until(subject, case, {made})
    await _destroy(subject, made)
    await _until(subject, case, set())


@SUITE.rule("destroy-twice", "destroying what is gone is safe: it succeeds, or is an error, and ends nothing else")
async def destroy_twice(subject: Subject) -> None:
    case = _own()
    made, other = await _provision(subject, case), await _provision(subject, case)
    await _until(subject, case, {made, other})
    await _destroy(subject, made)
    await _until(subject, case, {other})
    await subject.probe.ask("Instance.Destroy", {"Type": subject.type, "Instance": made, "Context": {}})
    await _until(subject, case, {other})
    await _destroy(subject, other)


@SUITE.rule("unknown-instance", "labelling an instance that never was is an error")
async def unknown_instance(subject: Subject) -> None:
    await _refused(subject, "Label", Instance=f"none-{RUN}", Labels={"a": "b"})


@SUITE.rule("concurrency", "creations at the same time make as many instances, each with an ID of its own")
async def concurrency(subject: Subject) -> None:
    case = _own()
    made = await asyncio.gather(*(_provision(subject, case) for _ in range(AT_ONCE)))
    expect(len(set(made)) == AT_ONCE, f"{AT_ONCE} different IDs", sorted(made))
    await _until(subject, case, set(made))
    await asyncio.gather(*(_destroy(subject, each) for each in made))
    await _until(subject, case, set())


@SUITE.rule("field-names", "fields of a request are found in any case")
async def field_names(subject: Subject) -> None:
    case = _own()
    made = await _provision(subject, case)
    await _until(subject, case, {made})
    reply = await subject.probe.ask("Instance.DescribeInstances", {"type": subject.type, "TAGS": case})
    found = reply.get("Descriptions") if isinstance(reply, dict) else reply
    expect(isinstance(found, list) and [each["ID"] for each in found] == [made], f"[{made}]", str(found))
    await _destroy(subject, made)


@SUITE.rule("wrong-params", "params of the wrong type are an error, and the plugin lives on")
async def wrong_params(subject: Subject) -> None:
    for params in ({"Spec": 7}, {"Spec": {"Tags": [1]}}, 7):
        reply = await subject.probe.ask("Instance.Provision", params)
        expect(isinstance(reply, Failure), f"an error for {params}", str(reply))
    await _listed(subject, {})


@SUITE.rule("wrong-type", "an object that is not there is an error")
async def wrong_type(subject: Subject) -> None:
    params = {"Type": f"none-{RUN}", "Tags": {}, "Properties": False}
    reply = await subject.probe.ask("Instance.DescribeInstances", params)
    expect(isinstance(reply, Failure), "an error", str(reply))


@SUITE.rule("tokens", "capability: a creation with the token of an earlier one makes nothing, and answers its instance")
async def tokens(subject: Subject) -> bool:
    case = _own() | {TAG_TOKEN: f"check/{RUN}/{uuid.uuid4().hex[:8]}"}
    first = await _provision(subject, case)
    await _until(subject, case, {first})
    spec = {"Properties": subject.properties, "Tags": {TAG: RUN} | case, "Init": subject.init}
    again = await subject.probe.ask("Instance.Provision", {"Type": subject.type, "Spec": spec})
    second = again.get("ID") if isinstance(again, dict) else None
    if isinstance(second, str) and second != first:
        _made.append(second)
    for each in {first, second} - {None}:
        await _destroy(subject, str(each))
    return second == first


async def clean(subject: Subject) -> list[str]:
    """End what checks have left behind; answers what could not be ended."""
    for instance in _made:
        try:
            await _destroy(subject, instance)
        except (Unmet, ValueError, TypeError):
            continue
    left, _made[:] = list(_made), []
    return left
