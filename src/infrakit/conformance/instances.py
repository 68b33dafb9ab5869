"""Checks of the instance plugin: the guarantees that the group controller relies on."""

import asyncio
import uuid
from typing import Any

from infrakit.conformance.check import Inapplicable, Subject, Suite, expect, expect_error
from infrakit.conformance.made import (
    case_tag,
    create,
    destroy,
    listed,
    provision,
    request_creation,
    spec,
    tags_of,
    wait_for,
)
from infrakit.conformance.probe import Unmet, request
from infrakit.spi.values import TAG_TOKEN

SUITE = Suite("instance")
AT_ONCE = 8
TAG_LOGICAL_ID = "infrakit.logical_id"
LISTINGS = 4
AWKWARD = """# "quoted", 'too', <tag> & more\n# \\ Grüße, 日本\n"""  # appended to a script, which it does not change


@SUITE.rule("validate", "valid properties are accepted, and no instance is created")
async def validate(subject: Subject) -> None:
    before = await listed(subject, {})
    await subject.succeed("Instance.Validate", Properties=subject.properties)
    after = await listed(subject, {})
    expect(before.keys() == after.keys(), "the same instances as before", sorted(after))


@SUITE.rule("describe-after-provision", "a provisioned instance is listed once, with the requested tags")
async def describe_after_provision(subject: Subject) -> None:
    tags = case_tag()
    created = await provision(subject, tags)
    found = (await wait_for(subject, tags, {created}))[created]
    expect("LogicalID" in found and "Tags" in found, "LogicalID and Tags in every description, null or not", found)
    wanted = spec(subject, tags)["Tags"]
    expect(wanted.items() <= tags_of(found).items(), f"the tags {wanted}", found)
    await destroy(subject, created)


@SUITE.rule("describe-properties", "the flag Properties is optional to honour: the same instances are listed with it")
async def describe_properties(subject: Subject) -> None:
    case = case_tag()
    created = await provision(subject, case)
    await wait_for(subject, case, {created}, more=True)
    found = await listed(subject, case, properties=True)
    expect(created in found, f"{created} among them", sorted(found))
    await destroy(subject, created)


@SUITE.rule("tags-and", "a query returns the instances that carry all of its tags, and no others")
async def tags_and(subject: Subject) -> None:
    case = case_tag()
    both = await provision(subject, case | {"colour": "red", "size": "big"})
    one = await provision(subject, case | {"colour": "red"})
    await wait_for(subject, case, {both, one}, more=True)
    for query, present, absent in (
        ({"colour": "red"}, {both, one}, set()),
        ({"colour": "red", "size": "big"}, {both}, {one}),
        ({"colour": "blue"}, set(), {both, one}),
        ({"absent": "x"}, set(), {both, one}),  # an instance that lacks a tag does not carry it
    ):
        found = await listed(subject, case | query)
        expect(found.keys() >= present, f"for {query}: {sorted(present)}", sorted(found))
        expect(not found.keys() & absent, f"for {query}: {sorted(present)}", sorted(found))
    await destroy(subject, both, one)


@SUITE.rule("no-tags", "a query without tags, {} or null, returns every instance")
async def no_tags(subject: Subject) -> None:
    case = case_tag()
    created = await provision(subject, case)
    await wait_for(subject, case, {created}, more=True)
    queries: tuple[dict[str, str] | None, ...] = ({}, None)
    for tags in queries:
        found = await listed(subject, tags)
        expect(created in found, f"{created} among them, for Tags {tags}", sorted(found))
    await destroy(subject, created)


@SUITE.rule("logical-id", "an instance is listed with its logical ID")
async def logical_id(subject: Subject) -> None:
    case, wanted = case_tag(), f"check-{subject.run}"
    try:
        created = await provision(subject, case, LogicalID=wanted)
    except Unmet as unmet:
        raise Inapplicable(f"the provider does not accept this logical ID: {unmet.seen}") from None
    found = (await wait_for(subject, case, {created}, more=True))[created]
    expect(wanted in (found.get("LogicalID"), tags_of(found).get(TAG_LOGICAL_ID)), f"LogicalID {wanted}", found)
    await destroy(subject, created)


@SUITE.rule("no-logical-id", "an instance without a logical ID is listed with null")
async def no_logical_id(subject: Subject) -> None:
    case = case_tag()
    created = await provision(subject, case)
    found = (await wait_for(subject, case, {created}, more=True))[created]
    expect(found.get("LogicalID") is None, "LogicalID null", found)
    await destroy(subject, created)


@SUITE.rule("attachments", "attachments are accepted with an instance, or refused with a reason")
async def attachments(subject: Subject) -> None:
    case = case_tag()
    volume = {"ID": f"check-{subject.run}", "Type": "check"}
    try:
        created = await provision(subject, case, Attachments=[volume])
    except Unmet as unmet:
        raise Inapplicable(f"the provider does not accept this attachment: {unmet.seen}") from None
    await wait_for(subject, case, {created}, more=True)
    await destroy(subject, created)


@SUITE.rule("init", "a boot script of several lines, with quotes, < and &, and non-ASCII letters, is kept unchanged")
async def init(subject: Subject) -> None:
    case = case_tag()
    created = await provision(subject, case, Init=subject.init + AWKWARD)
    await wait_for(subject, case, {created}, more=True)
    found = (await listed(subject, case, properties=True)).get(created) or {}
    shown = found.get("Properties")
    if isinstance(shown, dict) and isinstance(shown.get("Init"), str):
        expect(shown["Init"] == subject.init + AWKWARD, "Init unchanged", shown)
    await destroy(subject, created)


@SUITE.rule("empty-fields", "an empty list, null and a missing list mean the same in a spec")
async def empty_fields(subject: Subject) -> None:
    case = case_tag()
    full = spec(subject, case)
    brief = {name: value for name, value in full.items() if name not in ("LogicalID", "Attachments")}
    created = {await create(subject, asked) for asked in (full | {"Attachments": []}, full, brief)}
    await wait_for(subject, case, created, more=True)
    await destroy(subject, *created)


@SUITE.rule("label", "labels are merged into the tags: new ones added, equal ones replaced, others kept")
async def label(subject: Subject) -> None:
    case = case_tag()
    created = await provision(subject, case | {"kept": "1", "changed": "1"})
    await wait_for(subject, case, {created}, more=True)
    await subject.succeed("Instance.Label", Instance=created, Labels={"changed": "2", "new": "3"})
    await wait_for(subject, case | {"kept": "1", "changed": "2", "new": "3"}, {created}, more=True)
    await destroy(subject, created)


@SUITE.rule("notification", "a call without an id is carried out too")
async def notification(subject: Subject) -> None:
    case = case_tag()
    created = await provision(subject, case)
    await wait_for(subject, case, {created}, more=True)
    labels = {"Type": subject.type, "Instance": created, "Labels": {"notified": "yes"}}
    await subject.probe.send(request("Instance.Label", labels))
    await wait_for(subject, case | {"notified": "yes"}, {created}, more=True)
    await destroy(subject, created)


@SUITE.rule("destroy", "a destroyed instance is no longer listed")
async def destroyed(subject: Subject) -> None:
    case = case_tag()
    created = await provision(subject, case)
    await wait_for(subject, case, {created}, more=True)
    await destroy(subject, created)
    others = (await listed(subject, case)).keys() - {created}
    await wait_for(subject, case, others)


@SUITE.rule("destroy-reasons", "an instance may be destroyed for any reason, or none")
async def destroy_reasons(subject: Subject) -> None:
    for context in ({"Reason": "terminate"}, {"Reason": "rolling_update"}, {"Reason": ""}, None):
        await destroy(subject, await provision(subject, case_tag()), Context=context)


@SUITE.rule("destroy-twice", "destroying a terminated instance succeeds or is an error, and destroys nothing else")
async def destroy_twice(subject: Subject) -> None:
    case = case_tag()
    created, other = await provision(subject, case), await provision(subject, case)
    await wait_for(subject, case, {created, other}, more=True)
    await destroy(subject, created)
    await subject.ask("Instance.Destroy", Instance=created, Context={"Reason": "terminate"})
    await subject.ask("Instance.Destroy", Instance=f"none-{subject.run}", Context={"Reason": "terminate"})
    for _ in range(LISTINGS):
        found = await listed(subject, case)
        expect(other in found, f"{other} still exists: no call has destroyed it", sorted(found))
    await destroy(subject, other)


@SUITE.rule("unknown-instance", "labelling an unknown instance is an error")
async def unknown_instance(subject: Subject) -> None:
    await subject.fail("Instance.Label", Instance=f"none-{subject.run}", Labels={"a": "b"})


@SUITE.rule("concurrency", "concurrent creations and listings create as many instances, each with a unique ID")
async def concurrency(subject: Subject) -> None:
    case = case_tag()
    creations = [provision(subject, case) for _ in range(AT_ONCE)]
    listings = [listed(subject, case) for _ in range(AT_ONCE)]
    results = await asyncio.gather(*creations, *listings, return_exceptions=True)
    if failures := [each for each in results if isinstance(each, BaseException)]:
        raise failures[0]
    created = {str(each) for each in results[:AT_ONCE]}
    expect(len(created) == AT_ONCE, f"{AT_ONCE} different IDs", sorted(created))
    await wait_for(subject, case, created)
    await asyncio.gather(*(destroy(subject, each) for each in created))


@SUITE.rule("field-names", "fields of a request are found in any case")
async def field_names(subject: Subject) -> None:
    case, another = case_tag(), case_tag()
    created, other = await provision(subject, case), await provision(subject, another)
    await wait_for(subject, case, {created}, more=True)
    await wait_for(subject, another, {other}, more=True)
    asked = {"type": subject.type, "TAGS": case, "pROPERTIES": False}
    reply = await subject.probe.ask("Instance.DescribeInstances", asked)
    found = reply.get("Descriptions") if isinstance(reply, dict) else None
    ids = [each["ID"] for each in found or ()]
    expect(created in ids and other not in ids, f"TAGS taken for Tags: {created} without {other}", str(reply))
    await destroy(subject, created, other)


@SUITE.rule("unknown-fields", "unknown fields are ignored")
async def unknown_fields(subject: Subject) -> None:
    created = await create(subject, spec(subject, case_tag(), Unknown={"a": [1]}), Unknown=1)
    await destroy(subject, created)


@SUITE.rule("wrong-params", "params of the wrong type are an error, and the plugin keeps running")
async def wrong_params(subject: Subject) -> None:
    wrongs: tuple[Any, ...] = (7, {"Tags": [1]}, {"Init": {}})
    for wrong in wrongs:
        expect_error(await request_creation(subject, Spec=wrong), f"Instance.Provision with Spec {wrong}")
    expect_error(await subject.probe.ask("Instance.Provision", 7), "Instance.Provision with params 7")
    await subject.fail("Instance.DescribeInstances", Tags="x")
    await subject.fail("Instance.Label", Instance=7, Labels={})
    await listed(subject, {})


@SUITE.rule("wrong-type", "an object that does not exist is an error")
async def wrong_type(subject: Subject) -> None:
    await subject.fail("Instance.DescribeInstances", Type=f"none-{subject.run}", Tags={}, Properties=False)


@SUITE.rule("tokens", "capability: creating with the token of an earlier creation only returns its instance")
async def tokens(subject: Subject) -> bool:
    case = case_tag()
    token = {TAG_TOKEN: f"check/{subject.run}/{uuid.uuid4().hex[:8]}"}
    first = await provision(subject, case | token)
    await wait_for(subject, case, {first}, more=True)
    again = await request_creation(subject, Spec=spec(subject, case | token))
    second = again.get("ID") if isinstance(again, dict) else None
    kept = second == first and (await listed(subject, case)).keys() == {first}
    await destroy(subject, *{str(each) for each in (first, second) if each})
    return kept


@SUITE.rule("any-text", "capability: a tag may be any text, with quotes, < and &, and non-ASCII letters")
async def any_text(subject: Subject) -> bool:
    case = case_tag()
    try:
        created = await provision(subject, case | {"text": AWKWARD})
    except Unmet:
        return False
    found = await wait_for(subject, case, {created}, more=True)
    await destroy(subject, created)
    return tags_of(found[created]).get("text") == AWKWARD
