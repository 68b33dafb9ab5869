"""What the checks make: every instance carries a tag of this run, is remembered, and is ended."""

import asyncio
import uuid
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from infrakit.conformance.check import WRONG, Subject, expect
from infrakit.conformance.probe import Failure, Unmet

TAG = "infrakit.check"
CASE = "infrakit.check.case"
LOOK_S = 0.1  # between two listings at first; longer each time
LOOK_MAX_S = 2.0

Described = dict[str, dict[str, Any]]


def own() -> dict[str, str]:
    """A tag for one check alone."""
    return {CASE: uuid.uuid4().hex[:8]}


def spec(subject: Subject, tags: Mapping[str, str], **fields: Any) -> dict[str, Any]:
    """What is asked of `Instance.Provision`."""
    asked = {"Properties": subject.properties, "Tags": {TAG: subject.run, **tags}, "Init": subject.init}
    return asked | {"LogicalID": None, "Attachments": None} | fields


async def ask(subject: Subject, **params: Any) -> dict[str, Any] | Failure:
    """A provision that may fail or not; what it makes is remembered."""
    subject.unanswered += 1
    reply = await subject.ask("Instance.Provision", **params)
    subject.unanswered -= 1
    made = reply.get("ID") if isinstance(reply, dict) else None
    if isinstance(made, str) and made:
        subject.made.add(made)
    return reply


async def create(subject: Subject, asked: Mapping[str, Any], **params: Any) -> str:
    """The ID of a new instance by this spec. Raises `Unmet`."""
    reply = await ask(subject, Spec=asked, **params)
    if isinstance(reply, Failure):
        raise Unmet("Instance.Provision succeeds", f"{reply.code} {reply.message}")
    made = reply.get("ID")
    expect(isinstance(made, str) and made, "the ID of the new instance, a string", reply)
    return str(made)


async def provision(subject: Subject, tags: Mapping[str, str], **fields: Any) -> str:
    """The same for a spec of ours."""
    return await create(subject, spec(subject, tags, **fields))


async def destroy(subject: Subject, *instances: str, **params: Any) -> None:
    """Raises `Unmet` if it is refused."""
    for instance in instances:
        await subject.done("Instance.Destroy", Instance=instance, **{"Context": {"Reason": "terminate"}} | params)
        subject.made.discard(instance)
        subject.ended.add(instance)


async def listed(subject: Subject, tags: Mapping[str, str] | None, *, properties: bool = False) -> Described:
    """Descriptions by ID. Raises `Unmet` for what is no listing."""
    reply = await subject.done("Instance.DescribeInstances", Tags=tags, Properties=properties)
    found = reply.get("Descriptions", "none")
    expect(found is None or isinstance(found, list), "Descriptions, a list or null", reply)
    described = [each for each in found or () if isinstance(each, dict) and isinstance(each.get("ID"), str)]
    expect(len(described) == len(found or ()), "descriptions, each with an ID, a string", reply)
    ids = [each["ID"] for each in described]
    expect(len(set(ids)) == len(ids), "each instance once", ids)
    return dict(zip(ids, described, strict=True))


def tags_of(described: Mapping[str, Any]) -> dict[str, str]:
    """Null or a map. Raises `Unmet`."""
    found = described.get("Tags")
    expect(found is None or isinstance(found, dict), "Tags, a map or null", described)
    return dict(found or {})


async def until(
    subject: Subject, tags: Mapping[str, str], wanted: AbstractSet[str], *, more: bool = False
) -> Described:
    """The listing, once it shows exactly these, or with `more` at least these; it may lag behind for a while."""
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
    """End what the checks have left, also what nobody was told of; answers what remains."""
    pause, strangers = _Pause(subject.settle_s), 0
    while True:
        there = await _ours(subject)
        new = there - subject.made - subject.ended
        subject.made |= new
        strangers += len(new)
        ended = {each for each in sorted(subject.made) if await _end(subject, each)}
        if not there | subject.made and strangers >= subject.unanswered:
            return []
        if pause.over:
            return sorted(there - ended | subject.made)
        await pause.rest()


async def _ours(subject: Subject) -> set[str]:
    """What is listed with our tag, looked at here too: a plugin may be wrong about tags, and others must live."""
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
    """Looks again and again, less often each time, until it has been too long."""

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
