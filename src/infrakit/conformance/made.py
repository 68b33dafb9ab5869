"""The instances that the checks create: each carries the tag of its run, is recorded, and is destroyed."""

import asyncio
import uuid
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from infrakit.conformance.check import RESPONSE_ERRORS, Subject, expect
from infrakit.conformance.probe import Failure, Unmet

TAG = "infrakit.check"
CASE = "infrakit.check.case"
POLL_S = 0.1  # from one listing to the next; increases each time
POLL_MAX_S = 2.0

Described = dict[str, dict[str, Any]]


def case_tag() -> dict[str, str]:
    """Return a tag for a single check."""
    return {CASE: uuid.uuid4().hex[:8]}


def spec(subject: Subject, tags: Mapping[str, str], **fields: Any) -> dict[str, Any]:
    """Return a spec for `Instance.Provision`."""
    standard = {"Properties": subject.properties, "Tags": {TAG: subject.run, **tags}, "Init": subject.init}
    return standard | {"LogicalID": None, "Attachments": None} | fields


async def request_creation(subject: Subject, **params: Any) -> dict[str, Any] | Failure:
    """Request a creation, which may fail, and record a created instance."""
    subject.unconfirmed += 1
    reply = await subject.ask("Instance.Provision", **params)
    subject.unconfirmed -= 1
    created = reply.get("ID") if isinstance(reply, dict) else None
    if isinstance(created, str) and created:
        subject.created.add(created)
    return reply


async def create(subject: Subject, requested: Mapping[str, Any], **params: Any) -> str:
    """Create an instance from this spec and return its ID. Raises `Unmet`."""
    reply = await request_creation(subject, Spec=requested, **params)
    if isinstance(reply, Failure):
        raise Unmet("Instance.Provision succeeds", f"{reply.code} {reply.message}")
    created = reply.get("ID")
    expect(isinstance(created, str) and created, "the ID of the new instance, a string", reply)
    return str(created)


async def provision(subject: Subject, tags: Mapping[str, str], **fields: Any) -> str:
    """Create an instance with these tags and return its ID. Raises `Unmet`."""
    return await create(subject, spec(subject, tags, **fields))


async def destroy(subject: Subject, *instances: str, **params: Any) -> None:
    """Destroy instances. Raises `Unmet` if one is refused."""
    for instance in instances:
        await subject.succeed("Instance.Destroy", Instance=instance, **{"Context": {"Reason": "terminate"}} | params)
        subject.created.discard(instance)
        subject.destroyed.add(instance)


async def listed(subject: Subject, tags: Mapping[str, str] | None, *, properties: bool = False) -> Described:
    """Return descriptions by ID. Raises `Unmet` if the listing is malformed."""
    reply = await subject.succeed("Instance.DescribeInstances", Tags=tags, Properties=properties)
    found = reply.get("Descriptions", "none")
    expect(found is None or isinstance(found, list), "Descriptions, a list or null", reply)
    described = [each for each in found or () if isinstance(each, dict) and isinstance(each.get("ID"), str)]
    expect(len(described) == len(found or ()), "descriptions, each with an ID, a string", reply)
    ids = [each["ID"] for each in described]
    expect(len(set(ids)) == len(ids), "each instance once", ids)
    return dict(zip(ids, described, strict=True))


def tags_of(described: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a description. Raises `Unmet` if they are neither a map nor null."""
    found = described.get("Tags")
    expect(found is None or isinstance(found, dict), "Tags, a map or null", described)
    return dict(found or {})


async def wait_for(
    subject: Subject, tags: Mapping[str, str], wanted: AbstractSet[str], *, more: bool = False
) -> Described:
    """Poll the listing until it shows exactly these instances, or with `more` at least these, and return it."""
    pauses = _Pauses(subject.settle_s)
    while True:
        found = await listed(subject, tags)
        if found.keys() == wanted or (more and found.keys() >= wanted):
            return found
        if pauses.over:
            expected = f"within {subject.settle_s:g} s {'at least' if more else 'exactly'} {sorted(wanted)}"
            raise Unmet(f"{expected} with the tags {dict(tags)}", sorted(found))
        await pauses.sleep()


async def clean(subject: Subject) -> list[str]:
    """Destroy the remaining instances, including those whose creation was not confirmed; return what cannot be."""
    pauses, unconfirmed = _Pauses(subject.settle_s), 0
    while True:
        existing = await _tagged(subject)
        new = existing - subject.created - subject.destroyed
        subject.created |= new
        unconfirmed += len(new)
        destroyed = {each for each in sorted(subject.created) if await _try_destroy(subject, each)}
        if not existing | subject.created and unconfirmed >= subject.unconfirmed:
            return []
        if pauses.over:
            return sorted(existing - destroyed | subject.created)
        await pauses.sleep()


async def _tagged(subject: Subject) -> set[str]:
    """Return the listed instances that actually have the tag of this run, because a plugin may filter wrongly."""
    try:
        found = await listed(subject, {TAG: subject.run})
    except (Unmet, *RESPONSE_ERRORS):
        return set()
    tagged = {instance: each["Tags"] for instance, each in found.items() if isinstance(each.get("Tags"), dict)}
    return {instance for instance, tags in tagged.items() if tags.get(TAG) == subject.run}


async def _try_destroy(subject: Subject, instance: str) -> bool:
    try:
        await destroy(subject, instance)
    except (Unmet, *RESPONSE_ERRORS):
        return False
    return True


class _Pauses:
    """The pauses of a poll loop: they increase each time, until the timeout."""

    def __init__(self, timeout_s: float) -> None:
        self._now = asyncio.get_running_loop().time
        self._deadline = self._now() + timeout_s
        self._pause_s = POLL_S

    @property
    def over(self) -> bool:
        return self._now() >= self._deadline

    async def sleep(self) -> None:
        await asyncio.sleep(min(self._pause_s, max(0.0, self._deadline - self._now())))
        self._pause_s = min(POLL_MAX_S, self._pause_s * 1.5)
