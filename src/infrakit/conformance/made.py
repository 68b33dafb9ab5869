"""The instances that the checks create: each carries the tag of its run, is recorded, and is destroyed."""

import asyncio
import uuid
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from infrakit.conformance.check import WRONG, Subject, expect
from infrakit.conformance.probe import Failure, Unmet

TAG = "infrakit.check"
CASE = "infrakit.check.case"
LOOK_S = 0.1  # interval between two listings; increases each time
LOOK_MAX_S = 2.0

Described = dict[str, dict[str, Any]]


def own() -> dict[str, str]:
    """Return a tag for a single check."""
    return {CASE: uuid.uuid4().hex[:8]}


def spec(subject: Subject, tags: Mapping[str, str], **fields: Any) -> dict[str, Any]:
    """Return a spec for `Instance.Provision`."""
    asked = {"Properties": subject.properties, "Tags": {TAG: subject.run, **tags}, "Init": subject.init}
    return asked | {"LogicalID": None, "Attachments": None} | fields


async def ask(subject: Subject, **params: Any) -> dict[str, Any] | Failure:
    """Provision, which may fail; a created instance is recorded."""
    subject.unanswered += 1
    reply = await subject.ask("Instance.Provision", **params)
    subject.unanswered -= 1
    made = reply.get("ID") if isinstance(reply, dict) else None
    if isinstance(made, str) and made:
        subject.made.add(made)
    return reply


async def create(subject: Subject, asked: Mapping[str, Any], **params: Any) -> str:
    """Create an instance from this spec and return its ID. Raises `Unmet`."""
    reply = await ask(subject, Spec=asked, **params)
    if isinstance(reply, Failure):
        raise Unmet("Instance.Provision succeeds", f"{reply.code} {reply.message}")
    made = reply.get("ID")
    expect(isinstance(made, str) and made, "the ID of the new instance, a string", reply)
    return str(made)


async def provision(subject: Subject, tags: Mapping[str, str], **fields: Any) -> str:
    """Create an instance with these tags and return its ID. Raises `Unmet`."""
    return await create(subject, spec(subject, tags, **fields))


async def destroy(subject: Subject, *instances: str, **params: Any) -> None:
    """Destroy instances. Raises `Unmet` if one is refused."""
    for instance in instances:
        await subject.done("Instance.Destroy", Instance=instance, **{"Context": {"Reason": "terminate"}} | params)
        subject.made.discard(instance)
        subject.ended.add(instance)


async def listed(subject: Subject, tags: Mapping[str, str] | None, *, properties: bool = False) -> Described:
    """Return descriptions by ID. Raises `Unmet` if the listing is malformed."""
    reply = await subject.done("Instance.DescribeInstances", Tags=tags, Properties=properties)
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


async def until(
    subject: Subject, tags: Mapping[str, str], wanted: AbstractSet[str], *, more: bool = False
) -> Described:
    """Poll the listing until it shows exactly these instances, or with `more` at least these, and return it."""
    pause = _Pause(subject.settle_s)
    while True:
        found = await listed(subject, tags)
        if found.keys() == wanted or (more and found.keys() >= wanted):
            return found
        if pause.over:
            words = f"within {subject.settle_s:g} s {'at least' if more else 'exactly'} {sorted(wanted)}"
            raise Unmet(f"{words} with the tags {dict(tags)}", sorted(found))
        await pause.rest()


async def clean(subject: Subject) -> list[str]:
    """Destroy what the checks have left, including instances whose creation was not confirmed; return the rest."""
    pause, unconfirmed = _Pause(subject.settle_s), 0
    while True:
        there = await _ours(subject)
        new = there - subject.made - subject.ended
        subject.made |= new
        unconfirmed += len(new)
        ended = {each for each in sorted(subject.made) if await _end(subject, each)}
        if not there | subject.made and unconfirmed >= subject.unanswered:
            return []
        if pause.over:
            return sorted(there - ended | subject.made)
        await pause.rest()


async def _ours(subject: Subject) -> set[str]:
    """Return the listed instances that really have our tag: a plugin may filter wrongly, and others must survive."""
    try:
        found = await listed(subject, {TAG: subject.run})
    except (Unmet, *WRONG):
        return set()
    tagged = {instance: each["Tags"] for instance, each in found.items() if isinstance(each.get("Tags"), dict)}
    return {instance for instance, tags in tagged.items() if tags.get(TAG) == subject.run}


async def _end(subject: Subject, instance: str) -> bool:
    try:
        await destroy(subject, instance)
    except (Unmet, *WRONG):
        return False
    return True


class _Pause:
    """The pauses of a poll loop: they increase each time, until the timeout."""

    def __init__(self, patience_s: float) -> None:
        self._now = asyncio.get_running_loop().time
        self._end = self._now() + patience_s
        self._rest_s = LOOK_S

    @property
    def over(self) -> bool:
        return self._now() >= self._end

    async def rest(self) -> None:
        await asyncio.sleep(min(self._rest_s, max(0.0, self._end - self._now())))
        self._rest_s = min(LOOK_MAX_S, self._rest_s * 1.5)
