"""Checks of metadata, readable and updatable, and of event topics: trees of names, addressed like files."""

from typing import Any

import msgspec

from infrakit.conformance.check import Inapplicable, Subject, Suite, expect, expect_error
from infrakit.conformance.probe import Failure, request
from infrakit.spi import codec

METADATA = Suite("metadata")
UPDATABLE = Suite("updatable")
EVENT = Suite("event")

NOWHERE = "no/such/path/at/all"
TEST_PATH = "infrakit-check/x"  # the path that is written, if writing is allowed
READ_ONLY = f"readonly:{TEST_PATH}"
READ_MAX = 10  # names of the root whose values are read


async def _keys(subject: Subject, service: str, path: str) -> list[str] | None:
    reply = await subject.succeed(f"{service}.Keys", Path=path)
    nodes = reply.get("Nodes", "none")
    expect(nodes is None or isinstance(nodes, list), "Nodes, a list or null", reply)
    expect(all(isinstance(node, str) for node in nodes or ()), "Nodes, which are names", reply)
    return list(nodes) if isinstance(nodes, list) else None


def _add_read_checks(suite: Suite, service: str) -> None:
    """Add the checks of reading, which are the same for both kinds of trees."""

    @suite.rule("keys", "keys are sorted names; the root is the empty path or `.`; no keys are [] or null")
    async def keys(subject: Subject) -> None:
        nodes = await _keys(subject, service, "") or []
        expect(nodes == sorted(nodes), "Nodes in order", nodes)
        dot = await _keys(subject, service, ".") or []
        expect(dot == nodes, "the same for `.` as for the empty path", dot)
        for node in nodes[:READ_MAX]:
            await _keys(subject, service, node)

    @suite.rule("values", "every key has a value, any JSON")
    async def values(subject: Subject) -> None:
        for node in (await _keys(subject, service, "") or [])[:READ_MAX]:
            reply = await subject.succeed(f"{service}.Get", Path=node)
            expect("Value" in reply, f"the Value of {node}", reply)

    @suite.rule("absent", "a missing path returns null, not an error")
    async def absent(subject: Subject) -> None:
        nodes = await _keys(subject, service, NOWHERE)
        expect(not nodes, "Nodes null", nodes)
        reply = await subject.succeed(f"{service}.Get", Path=NOWHERE)
        expect(reply.get("Value") is None, "Value null", reply)

    @suite.rule("wrong-params", "params of the wrong type are an error, and the plugin keeps running")
    async def wrong_params(subject: Subject) -> None:
        await subject.fail(f"{service}.Keys", Path=7)
        expect_error(await subject.probe.ask(f"{service}.Get", 7), f"{service}.Get with params 7")
        await _keys(subject, service, "")


async def _proposed(subject: Subject) -> dict[str, Any]:
    """Return the proposal of a change. Like the original's, some updatable trees report that they are read-only."""
    change = {"Path": TEST_PATH, "Value": subject.run}
    reply = await subject.ask("Updatable.Changes", Changes=[change])
    if isinstance(reply, Failure) and READ_ONLY in str(reply.message):
        raise Inapplicable("the tree is read-only")
    return await subject.succeed("Updatable.Changes", Changes=[change])


_add_read_checks(METADATA, "Metadata")
_add_read_checks(UPDATABLE, "Updatable")


@UPDATABLE.rule("changes", "changes return a proposal with a compare-and-swap key, and write nothing")
async def changes(subject: Subject) -> None:
    before = await subject.succeed("Updatable.Get", Path=TEST_PATH)
    proposal = await _proposed(subject)
    expect({"Original", "Proposed", "Cas"} <= proposal.keys(), "Original, Proposed and Cas", proposal)
    expect(isinstance(proposal["Cas"], str) and proposal["Cas"], "Cas, a text", proposal)
    after = await subject.succeed("Updatable.Get", Path=TEST_PATH)
    expect(before.get("Value") == after.get("Value"), "nothing written yet", after)


@UPDATABLE.rule("wrong-cas", "a commit with a wrong key is an error")
async def wrong_cas(subject: Subject) -> None:
    proposal = await _proposed(subject)
    await subject.fail("Updatable.Commit", Proposed=proposal.get("Proposed"), Cas="wrong")


@UPDATABLE.rule("commit", "a proposal is committed and read back; its key is valid only once")
async def written(subject: Subject) -> None:
    if not subject.writes:
        raise Inapplicable(f"it writes {TEST_PATH}, which cannot be removed: allow it with --write")
    await _proposed(subject)
    change = [{"Path": TEST_PATH, "Value": subject.run}]
    body = request("Updatable.Changes", subject.address("Updatable.Changes") | {"Changes": change}, id_=1)
    proposal = codec.decode(await subject.probe.send(body), _Reply).result
    commit = _commit_request(subject, proposal)
    reply = await subject.probe.reply(commit)
    expect(isinstance(reply.get("result"), dict), "Updatable.Commit succeeds", reply)
    found = await subject.succeed("Updatable.Get", Path=TEST_PATH)
    expect(found.get("Value") == subject.run, f"Value {subject.run}", found)
    again = await subject.probe.reply(commit)
    expect(isinstance(again.get("error"), dict), "an error for a repeated commit", again)


class _Proposal(msgspec.Struct, rename="pascal"):
    proposed: msgspec.Raw
    cas: str


class _Reply(msgspec.Struct):
    result: _Proposal


def _commit_request(subject: Subject, proposal: _Proposal) -> bytes:
    """Return a commit of the proposal, byte for byte, because the key is computed from its bytes."""
    params = subject.address("Updatable.Commit") | {"Proposed": proposal.proposed, "Cas": proposal.cas}
    return msgspec.json.encode({"jsonrpc": "2.0", "method": "Updatable.Commit", "params": params, "id": 2})


@EVENT.rule("list", "topics are names, one level at a time")
async def topics(subject: Subject) -> None:
    for topic in ("", ".", NOWHERE):
        reply = await subject.ask("Event.List", Topic=topic)
        if topic == NOWHERE and isinstance(reply, Failure):
            expect_error(reply, "Event.List")
            continue
        expect(isinstance(reply, dict), f"topics of {topic!r}", str(reply))
        nodes = reply.get("Nodes", "none") if isinstance(reply, dict) else None
        expect(nodes is None or isinstance(nodes, list), "Nodes, a list or null", nodes)
