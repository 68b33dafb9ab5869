"""Checks of the group controller. They only read, and pretend commits, unless writing is allowed."""

from typing import Any

from infrakit.conformance.check import Inapplicable, Subject, Suite, expect, expect_error

SUITE = Suite("group")
NONE = "infrakit-check-none"
PRETENDED = "infrakit-check-pretended"


async def _groups(subject: Subject) -> list[dict[str, Any]]:
    reply = await subject.succeed("Group.InspectGroups", ID="")
    groups = reply.get("Groups", "none")
    expect(groups is None or isinstance(groups, list), "Groups, a list or null", reply)
    for each in groups or ():
        expect(isinstance(each, dict) and {"ID", "Properties"} <= each.keys(), "ID and Properties of each", each)
    return list(groups or ())


async def _first_group(subject: Subject) -> dict[str, Any]:
    groups = await _groups(subject)
    if not groups:
        raise Inapplicable("no group is declared here")
    return groups[0]


def _has_logical_ids(group: dict[str, Any]) -> bool:
    return bool(((group["Properties"] or {}).get("Allocation") or {}).get("LogicalIDs"))


async def _described(subject: Subject, group: str) -> dict[str, Any]:
    reply = await subject.succeed("Group.DescribeGroup", ID=group)
    held = reply.get("Description")
    expect(isinstance(held, dict), "a Description", reply)
    return dict(held or {})


@SUITE.rule("inspect", "every group is listed with its ID and properties")
async def inspect(subject: Subject) -> None:
    await _groups(subject)


@SUITE.rule("describe", "a group is described by its instances and whether it has converged")
async def describe(subject: Subject) -> None:
    await _first_group(subject)
    for each in await _groups(subject):
        held = await _described(subject, each["ID"])
        instances = held.get("Instances", "none")
        expect(instances is None or isinstance(instances, list), "Instances, a list or null", held)
        expect(all("ID" in instance for instance in instances or ()), "instances, each with its ID", held)
        expect(isinstance(held.get("Converged"), bool), "Converged, true or false", held)


@SUITE.rule("size", "a group has a size")
async def size(subject: Subject) -> None:
    reply = await subject.succeed("Group.Size", ID=(await _first_group(subject))["ID"])
    expect(type(reply.get("Size")) is int, "Size, a number", reply)


@SUITE.rule("unknown", "an unknown group is an error")
async def unknown(subject: Subject) -> None:
    for method in ("DescribeGroup", "Size"):
        await subject.fail(f"Group.{method}", ID=NONE)


@SUITE.rule("unknown-write", "freeing, destroying or scaling an unknown group is an error")
async def unknown_write(subject: Subject) -> None:
    _check_writes(subject)
    for method in ("FreeGroup", "DestroyGroup"):
        await subject.fail(f"Group.{method}", ID=NONE)
    await subject.fail("Group.SetSize", ID=NONE, Size=1)
    await subject.fail("Group.DestroyInstances", ID=NONE, Instances=["none"])


@SUITE.rule("pretend", "a pretended commit returns what it would do, and changes nothing")
async def pretend(subject: Subject) -> None:
    first = await _first_group(subject)
    before = await _groups(subject)
    # A copy of pets would declare their logical IDs twice: then the group itself is pretended.
    copied = next((each | {"ID": PRETENDED} for each in before if not _has_logical_ids(each)), first)
    reply = await subject.succeed("Group.CommitGroup", Spec=copied, Pretend=True)
    expect(isinstance(reply.get("Details"), str), "Details, a text", reply)
    before_ids, after_ids = ([each["ID"] for each in groups] for groups in (before, await _groups(subject)))
    expect(sorted(after_ids) == sorted(before_ids), f"the groups {sorted(before_ids)}", sorted(after_ids))


@SUITE.rule("same-again", "committing the current declaration, and setting the current size, changes nothing")
async def same_again(subject: Subject) -> None:
    _check_writes(subject)
    group = await _first_group(subject)
    had = await subject.succeed("Group.Size", ID=group["ID"])
    before = _ids(await _described(subject, group["ID"]))
    await subject.succeed("Group.CommitGroup", Spec=group, Pretend=False)
    if not _has_logical_ids(group):
        await subject.succeed("Group.SetSize", ID=group["ID"], Size=had["Size"])
    has = await subject.succeed("Group.Size", ID=group["ID"])
    expect(has["Size"] == had["Size"], f"Size {had['Size']}", has)
    after = _ids(await _described(subject, group["ID"]))
    expect(before == after, f"the instances {sorted(before)}", sorted(after))


@SUITE.rule("wrong-params", "params of the wrong type are an error, and the plugin keeps running")
async def wrong_params(subject: Subject) -> None:
    await subject.fail("Group.DescribeGroup", ID=7)
    await subject.fail("Group.CommitGroup", Spec=7, Pretend=True)
    expect_error(await subject.probe.ask("Group.Size", 7), "Group.Size with params 7")
    await _groups(subject)


def _check_writes(subject: Subject) -> None:
    if not subject.writes:
        raise Inapplicable("it changes the declaration: allow it with --write")


def _ids(description: dict[str, Any]) -> set[str]:
    return {each["ID"] for each in description.get("Instances") or ()}
