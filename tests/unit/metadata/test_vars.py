"""The plugin `vars`: every reader finds what is set, and no writer overwrites a change it has not seen."""

import asyncio
import hashlib
import json
from typing import Any

import msgspec
import pytest

from infrakit.metadata.vars import NAME, Vars
from infrakit.metadata.vars.edits import BYTES_MAX
from infrakit.spi import errors
from infrakit.spi.metadata import Change, Metadata, Updatable, Versioned, Written
from infrakit.spi.store import Document
from infrakit.stores.memory import MemoryStore


class Clock:
    def now(self) -> float:
        return 0.0


class LosesResponses(MemoryStore):
    """Writes, and loses the response; or loses the write, too."""

    lost = 0
    swallowed = 0

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if self.swallowed:
            self.swallowed -= 1
            raise errors.OutcomeUnknown("no answer")
        revision = await super().replace(name=name, body=body, expected=expected)
        if self.lost:
            self.lost -= 1
            raise errors.OutcomeUnknown("no answer")
        return revision


class YieldsBeforeWriting(MemoryStore):
    """Lets other tasks run before it writes, as every remote store does."""

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        await asyncio.sleep(0)
        return await super().replace(name=name, body=body, expected=expected)


class LosesARace(MemoryStore):
    """The first write loses a race: another write is stored instead, and the response to this one is lost."""

    other = b'{"Tree": {"other": 1}}'

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if not self.other:
            return await super().replace(name=name, body=body, expected=expected)
        other, self.other = self.other, b""
        await super().replace(name=name, body=other, expected=expected)
        raise errors.OutcomeUnknown("no answer")


class HangingStore(MemoryStore):
    async def read(self, *, name: str) -> Document:
        await asyncio.sleep(3600)
        raise AssertionError


def changes(**values: Any) -> tuple[Change, ...]:
    return tuple(
        Change(path=path.replace("__", "/"), value=msgspec.Raw(json.dumps(v).encode())) for path, v in values.items()
    )


async def put(vars_: Vars, *, remove: Any = (), expected: Any = None, **values: Any) -> Written:
    return await vars_.write(changes=changes(**values), remove=remove, who="ann", why="because", expected=expected)


async def get(vars_: Metadata, path: str = "") -> Any:
    return json.loads(bytes(await vars_.get(path=path)))


@pytest.fixture
def vars_() -> Vars:
    return Vars(MemoryStore(), Clock())


async def test_vars_is_an_updatable_and_versioned_tree(vars_: Vars) -> None:
    assert isinstance(vars_, Updatable)
    assert isinstance(vars_, Versioned)
    assert await vars_.keys(path="") == []
    assert await vars_.keys(path="a") is None
    assert await get(vars_, "a") is None


async def test_a_value_that_is_set_is_found_and_replaces_the_previous_one(vars_: Vars) -> None:
    assert (await put(vars_, cluster__name="blue", cluster__size=3)).version == 1
    assert await vars_.keys(path="cluster") == ["name", "size"]
    assert await get(vars_, "cluster/name") == "blue"
    assert (await put(vars_, cluster={"zone": "a"})).version == 2
    assert await get(vars_) == {"cluster": {"zone": "a"}}
    assert await vars_.keys(path="cluster/zone") == []


async def test_removing_a_path_removes_everything_below(vars_: Vars) -> None:
    await put(vars_, a__b=1, a__c=2, d=3)
    await put(vars_, remove=("a/b", "d"))
    assert await get(vars_) == {"a": {"c": 2}}
    with pytest.raises(errors.NotFound, match=r"a/cc: .* did you mean a/c\?"):
        await put(vars_, remove=("a/cc",), e=1)
    with pytest.raises(errors.Refused, match="root cannot be removed"):
        await put(vars_, remove=(".",))
    assert await get(vars_) == {"a": {"c": 2}}  # a change is atomic


async def test_every_change_has_a_version_and_can_be_restored(vars_: Vars) -> None:
    await put(vars_, a=1)
    await put(vars_, b=2, remove=("a",))
    assert (await put(vars_, b=2)).version == 2  # nothing to change
    assert (await put(vars_, b=True)).version == 3
    newest, before, first = await vars_.history()
    assert (newest.version, newest.who, newest.why, newest.what) == (3, "ann", "because", "set b")
    assert before.what == "set b; remove a"
    assert first.when == "1970-01-01T00:00:00.000000Z"
    assert bytes(await vars_.show(version=1)) == b'{"a":1}'
    assert (await vars_.restore(version=1, who="bob", why="better")).version == 4
    assert await get(vars_) == {"a": 1}
    assert (await vars_.history(limit=1))[0].what == "restore 1"
    with pytest.raises(errors.NotFound, match="no version 9"):
        await vars_.restore(version=9, who="bob", why="better")


async def test_one_and_true_are_not_the_same(vars_: Vars) -> None:
    await put(vars_, a=1)
    assert (await put(vars_, a=True)).version == 2
    assert bytes(await vars_.get(path="a")) == b"true"


async def test_many_paths_are_named_in_part(vars_: Vars) -> None:
    await put(vars_, **{f"n{number:02}": number for number in range(12)})
    assert (await vars_.history())[0].what.endswith("n09 and 2 more")


async def test_a_write_to_an_outdated_version_reports_what_has_changed(vars_: Vars) -> None:
    await put(vars_, a=1, b=1)
    await put(vars_, a=2, expected=1)
    with pytest.raises(errors.Conflict, match=r"version 2 \(by ann: because\), not 1; changed since: a;"):
        await put(vars_, b=2, expected=1)
    with pytest.raises(errors.Conflict, match="no longer stored"):
        await put(vars_, b=2, expected=7)
    assert await get(vars_) == {"a": 2, "b": 1}


async def test_concurrent_writers_lose_nothing() -> None:
    store = YieldsBeforeWriting()
    replicas = [Vars(store, Clock()) for _ in range(3)]
    async with asyncio.TaskGroup() as tasks:
        for number in range(30):
            tasks.create_task(put(replicas[number % 3], **{f"n{number}": number}))
    assert await get(replicas[0]) == {f"n{number}": number for number in range(30)}
    assert len(await replicas[1].history()) == 30


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"a__b": 2}, "a/b: the path leads through a value"),
        ({"l__[0]": 2}, "a list can only be replaced as a whole"),
        ({"n": None}, "null means a missing value"),
        ({"n": {"m": [0, {"k": None}]}}, r"n/m/\[1\]/k: null means a missing value; omit it from the value"),
        ({".": [1]}, "its value must be a map"),
        ({"big": "x" * BYTES_MAX}, "at most"),
        ({"m": {"a/b": 1, "": 2, "..": 3, "x[0]": 4}}, r"'a/b'(.|\n)*''(.|\n)*'\.\.'(.|\n)*'x\[0\]'"),
        ({"m": {"esc\x1b": 1}}, "no path could address"),
        ({"deep": json.loads("[" * 600 + "]" * 600)}, "nested deeper than 32 levels"),
    ],
)
async def test_values_that_no_path_could_address_are_refused(vars_: Vars, given: dict[str, Any], why: str) -> None:
    await put(vars_, a=1, l=[1, None])
    assert await get(vars_, "l") == [1, None]
    with pytest.raises((errors.Refused, errors.InvalidSpec), match=why):
        await put(vars_, **given)
    assert await get(vars_, "a") == 1


async def test_a_value_that_is_nested_too_deeply_is_refused(vars_: Vars) -> None:
    deep: Any = 1
    for _ in range(50):
        deep = {"d": deep}
    with pytest.raises(errors.InvalidSpec, match="deeper than 32"):
        await put(vars_, a=deep)


# -- the original's two steps ----------------------------------------------------------------------------------------


async def test_changes_are_merged_and_hashed_as_by_the_original(vars_: Vars) -> None:
    proposal = await vars_.changes(changes=changes(cluster__name="foo", cluster__size=3))
    assert bytes(proposal.original) == b"{}"
    assert bytes(proposal.proposed) == b'{"cluster":{"name":"foo","size":3}}'
    assert proposal.cas == "840d13e2b28596adb23c3ca09c8e96c7"
    assert await get(vars_) == {}
    await vars_.commit(proposed=proposal.proposed, cas=proposal.cas)
    assert await get(vars_, "cluster/size") == 3
    merged = await vars_.changes(changes=changes(cluster={"size": None, "zone": "a"}))
    assert json.loads(bytes(merged.proposed)) == {"cluster": {"name": "foo", "zone": "a"}}
    assert (await vars_.history())[0].what == "set cluster"


async def test_a_proposal_can_be_committed_once_and_only_to_the_tree_it_was_made_from(vars_: Vars) -> None:
    proposal = await vars_.changes(changes=changes(a=1))
    await put(vars_, b=1)
    with pytest.raises(errors.Conflict, match="cas mismatch"):
        await vars_.commit(proposed=proposal.proposed, cas=proposal.cas)
    proposal = await vars_.changes(changes=changes(a=1))
    with pytest.raises(errors.Conflict, match="cas mismatch"):
        await vars_.commit(proposed=msgspec.Raw(b'{"a":2}'), cas=proposal.cas)
    await vars_.commit(proposed=proposal.proposed, cas=proposal.cas)
    with pytest.raises(errors.Conflict, match="cas mismatch"):
        await vars_.commit(proposed=proposal.proposed, cas=proposal.cas)
    assert await get(vars_) == {"a": 1, "b": 1}


async def test_a_proposal_in_another_format_has_the_same_hash(vars_: Vars) -> None:
    pretty = b'{\n\t"a": "x"\n}'
    hash_ = hashlib.md5(b'{}{"a":"x"}').hexdigest()
    await vars_.commit(proposed=msgspec.Raw(pretty), cas=hash_)
    assert await get(vars_) == {"a": "x"}


async def test_two_proposals_from_the_same_tree_cannot_both_be_committed() -> None:
    store = MemoryStore()
    one, other = Vars(store, Clock()), Vars(store, Clock())
    first, second = await one.changes(changes=changes(a=1)), await other.changes(changes=changes(b=1))
    answers = await asyncio.gather(
        one.commit(proposed=first.proposed, cas=first.cas),
        other.commit(proposed=second.proposed, cas=second.cas),
        return_exceptions=True,
    )
    assert [isinstance(answer, errors.Conflict) for answer in answers].count(True) == 1
    assert len(await one.history()) == 1


# -- the store -------------------------------------------------------------------------------------------------------


async def test_the_outcome_of_a_write_without_a_response_is_checked() -> None:
    store = LosesResponses()
    vars_ = Vars(store, Clock())
    store.lost = 1
    assert (await put(vars_, a=1)).version == 1
    store.swallowed = 1
    with pytest.raises(errors.OutcomeUnknown, match="did not report"):
        await put(vars_, a=2)
    assert await get(vars_) == {"a": 1}


async def test_another_write_is_not_mistaken_for_ours() -> None:
    vars_ = Vars(LosesARace(), Clock())
    assert (await put(vars_, mine=1)).version == 2
    assert await get(vars_) == {"other": 1, "mine": 1}


async def test_a_store_that_does_not_answer_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    from infrakit.metadata import vars as module

    monkeypatch.setattr(module, "STORE_DEADLINE_S", 0.01)
    with pytest.raises(errors.Unreachable, match="does not answer"):
        await Vars(HangingStore(), Clock()).get(path="")


@pytest.mark.parametrize("body", [b"{", b'{"Format": 99}'])
async def test_an_unreadable_document_is_refused_and_not_overwritten(body: bytes) -> None:
    store = MemoryStore()
    await store.replace(name=NAME, body=body, expected=0)
    with pytest.raises(errors.Refused, match="tree of vars"):
        await put(Vars(store, Clock()), a=1)
    assert (await store.read(name=NAME)).body == body


async def test_removing_from_no_variables_at_all_explains_how_to_set_one(vars_: Vars) -> None:
    with pytest.raises(errors.NotFound, match="there are no variables yet; to set one: infrakit metadata set vars/"):
        await put(vars_, remove=("nope",))
