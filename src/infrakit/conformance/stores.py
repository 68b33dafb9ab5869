"""Checks of a spec store: whether it provides the guarantees of `spi.store.Store`.

Unlike a plugin, a store is not called over the wire: it is opened in this process, twice, as by two replicas. All
documents that the checks write have unique names, `check-...`. They remain, because a store deletes nothing.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import NamedTuple

import msgspec

from infrakit import conformance
from infrakit.conformance.check import Inapplicable, Outcome, expect
from infrakit.conformance.probe import Unmet
from infrakit.spi import errors
from infrakit.spi.store import Document, Store

KEEP = 3  # revisions that the checks ask the store to keep of one document
LARGE_BYTES = 512 * 1024  # every store takes a body of this size
WRITERS, ROUNDS = 8, 5
SHOWN_S = 2.0  # timeout for a write to appear in the other opening, if both share documents
WATCH_S = 10.0

Open = Callable[[Mapping[str, int]], Store]


class Subject(msgspec.Struct, kw_only=True):
    """The store that is checked, opened twice."""

    store: Store
    other: Store
    writes: bool  # whether documents may be written
    run: str
    shared: bool = False  # both openings show the same documents

    def name(self, suffix: str) -> str:
        """Return the name of a document that only this run writes."""
        return f"check-{self.run}-{suffix}"


class Rule(NamedTuple):
    name: str
    rule: str
    test: Callable[[Subject], Awaitable[bool | None]]
    writes: bool


RULES: list[Rule] = []


def _rule(name: str, rule: str, *, writes: bool = True) -> Callable[..., Callable[[Subject], Awaitable[bool | None]]]:
    def add(test: Callable[[Subject], Awaitable[bool | None]]) -> Callable[[Subject], Awaitable[bool | None]]:
        RULES.append(Rule(f"store/{name}", rule, test, writes))
        return test

    return add


async def run(open_: Open, *, writes: bool) -> AsyncGenerator[Outcome, None]:
    """Run every check of the store that `open_` opens; its argument is how many revisions to keep, by document.

    Without `writes`, rules that write are skipped. Raises `Unreachable`, `Refused` if the store cannot be read.
    """
    run_ = uuid.uuid4().hex[:8]
    keep = {f"check-{run_}-keep": KEEP}
    store = open_(keep)
    try:
        other = open_(keep)
        try:
            subject = Subject(store=store, other=other, writes=writes, run=run_)
            await store.read(name=subject.name("none"))
            for rule in RULES:
                verdict, expected, seen = await conformance.evaluate(_run(rule, subject))
                yield Outcome(name=rule.name, rule=rule.rule, verdict=verdict, expected=expected, seen=seen)
        finally:
            await other.close()
    finally:
        await store.close()


async def _run(rule: Rule, subject: Subject) -> bool | None:
    if rule.writes and not subject.writes:
        raise Inapplicable("it writes documents check-..., which cannot be removed: allow it with --write")
    try:
        return await rule.test(subject)
    except (Unmet, Inapplicable):
        raise
    except Exception as error:
        raise Unmet("no error", f"{type(error).__name__}: {error}") from error


async def _write(store: Store, name: str, count: int, *, start: int = 0) -> None:
    """Write revisions, each with its number as its body. Raises `Unmet` if one gets another number."""
    for number in range(start + 1, start + count + 1):
        written = await store.replace(name=name, body=b"%d" % number, expected=number - 1)
        expect(written == number, f"replace returns revision {number}", written)


async def _expect_read(store: Store, name: str, revision: int, body: bytes) -> None:
    newest = await store.newest(name=name)
    expect(newest == revision, f"newest returns revision {revision}", newest)
    _expect_document(await store.read(name=name), name, revision, body)
    document, head = await store.read_with(name=name, head=name)
    _expect_document(document, name, revision, body)
    expect(head == revision, f"read_with returns the head {revision}", head)


def _expect_document(found: Document, name: str, revision: int, body: bytes) -> None:
    expect(found.name == name, f"a document named {name}", found.name)
    expect(found.revision == revision, f"revision {revision}", found.revision)
    expect(found.body == body, f"its body, {_shown(body)}", _shown(found.body))


async def _expect_conflict(store: Store, name: str, expected: int) -> None:
    try:
        written = await store.replace(name=name, body=b"stale", expected=expected)
    except errors.Conflict:
        return
    except errors.InfraKitError as error:
        raise Unmet("Conflict", f"{type(error).__name__}: {error}") from None
    raise Unmet(f"Conflict for a write that expects revision {expected}", f"revision {written} is written")


def _shown(body: bytes) -> str:
    return repr(body) if len(body) <= 40 else f"{len(body)} bytes"


@_rule("unknown", "a document that was never written has revision 0, an empty body and no history", writes=False)
async def _unknown(subject: Subject) -> None:
    name = subject.name("none")
    await _expect_read(subject.store, name, 0, b"")
    history = await subject.store.history(name=name, limit=10)
    expect(not history, "an empty history", [each.revision for each in history])


@_rule("read-after-write", "what was written is read, byte by byte; an empty body is a revision, too")
async def _read_after_write(subject: Subject) -> None:
    name, store = subject.name("read"), subject.store
    bodies = (bytes(range(256)), b"", b"\n", '{"ü": 1}'.encode())
    for revision, body in enumerate(bodies, start=1):
        await store.replace(name=name, body=body, expected=revision - 1)
        await _expect_read(store, name, revision, body)


@_rule("revisions", "each write has the next revision, and documents do not affect each other")
async def _revisions(subject: Subject) -> None:
    one, two = subject.name("one"), subject.name("two")
    await _write(subject.store, one, 3)
    await _write(subject.store, two, 1)
    await _write(subject.store, one, 1, start=3)
    await _expect_read(subject.store, one, 4, b"4")
    await _expect_read(subject.store, two, 1, b"1")
    for name, head in (one, two), (two, one), (subject.name("none"), one):
        document, newest = await subject.store.read_with(name=name, head=head)
        wanted = {one: 4, two: 1}
        expect(
            document.revision == wanted.get(name, 0), f"read_with: revision {wanted.get(name, 0)}", document.revision
        )
        expect(newest == wanted[head], f"read_with: the head {wanted[head]} of the other document", newest)


@_rule("conflict", "a write that expects any but the newest revision raises Conflict and writes nothing")
async def _conflict(subject: Subject) -> None:
    name, store = subject.name("conflict"), subject.store
    await _expect_conflict(store, name, 1)
    await _expect_read(store, name, 0, b"")
    await _write(store, name, 2)
    for expected in (0, 1, 3, 99):
        await _expect_conflict(store, name, expected)
        await _expect_read(store, name, 2, b"2")
    found = [each.revision for each in await store.history(name=name, limit=10)]
    expect(found == [2, 1], "the history [2, 1]", found)


@_rule("history", "the history is newest first, whole, and no longer than its limit")
async def _history(subject: Subject) -> None:
    name = subject.name("history")
    await _write(subject.store, name, 5)
    for limit in (10, 5, 2):
        found = await subject.store.history(name=name, limit=limit)
        wanted = [Document(name=name, revision=each, body=b"%d" % each) for each in range(5, 0, -1)][:limit]
        expect(list(found) == wanted, f"revisions {[each.revision for each in wanted]}", str(list(found)))


@_rule("keep", "the newest revisions that the caller needs are kept; numbers continue when older ones are removed")
async def _keep(subject: Subject) -> None:
    name = subject.name("keep")
    await _write(subject.store, name, 3 * KEEP)
    found = [each.revision for each in await subject.store.history(name=name, limit=3 * KEEP)]
    expect(found == list(range(3 * KEEP, 3 * KEEP - len(found), -1)), "revisions without a gap, newest first", found)
    expect(len(found) >= KEEP, f"at least {KEEP} revisions", found)
    await _write(subject.store, name, 1, start=3 * KEEP)


@_rule("large", f"a body of {LARGE_BYTES // 1024} KiB is written and read whole")
async def _large(subject: Subject) -> None:
    name, body = subject.name("large"), random.Random(1).randbytes(LARGE_BYTES)  # noqa: S311 - not compressible
    await subject.store.replace(name=name, body=body, expected=0)
    await _expect_read(subject.store, name, 1, body)


@_rule("watch", "a watch yields the newest revision at once, and again after a change")
async def _watch(subject: Subject) -> None:
    name = subject.name("watch")
    await _write(subject.store, name, 2)
    watch = subject.store.watch(name=name)
    await _expect_next(watch.__anext__(), {2})
    await _write(subject.store, name, 1, start=2)
    await _expect_next(watch.__anext__(), {3})
    await _write(subject.store, name, 2, start=3)
    await _expect_next(watch.__anext__(), {4, 5})


async def _expect_next(coming: Awaitable[int], revisions: set[int]) -> None:
    wanted = f"revision {' or '.join(map(str, sorted(revisions)))}"
    try:
        async with asyncio.timeout(WATCH_S):
            found = await coming
    except TimeoutError:
        raise Unmet(f"{wanted} within {WATCH_S:g} s", "nothing") from None
    expect(found in revisions, wanted, found)


@_rule("shared", "capability: what one opening writes, another reads; replicas need it, a single daemon does not")
async def _shared(subject: Subject) -> bool:
    name = subject.name("shared")
    await _write(subject.store, name, 1)
    deadline = asyncio.get_running_loop().time() + SHOWN_S
    while not subject.shared and asyncio.get_running_loop().time() < deadline:
        subject.shared = (await subject.other.read(name=name)).revision == 1
        await asyncio.sleep(0 if subject.shared else SHOWN_S / 50)
    return subject.shared


@_rule("fresh", "a read that begins after a write has returned shows it, in another opening, too")
async def _fresh(subject: Subject) -> None:
    if not subject.shared:
        raise Inapplicable("its openings share no documents")
    name, writer, reader = subject.name("fresh"), subject.store, subject.other
    for revision in range(1, 11):
        await _write(writer, name, 1, start=revision - 1)
        await _expect_read(reader, name, revision, b"%d" % revision)
        writer, reader = reader, writer


@_rule("concurrent", "of several writers that expect the same revision, exactly one wins; the others raise Conflict")
async def _concurrent(subject: Subject) -> None:
    name = subject.name("race")
    stores = [subject.store, subject.other] if subject.shared else [subject.store]
    winners: list[bytes] = []
    for revision in range(ROUNDS):
        bodies = [b"%d by %d" % (revision + 1, writer) for writer in range(WRITERS)]
        racing = (_race(stores[at % len(stores)], name, body, revision) for at, body in enumerate(bodies))
        outcomes = dict(zip(bodies, await asyncio.gather(*racing, return_exceptions=True), strict=True))
        for error in (each for each in outcomes.values() if isinstance(each, BaseException)):
            raise error
        won = [body for body, result in outcomes.items() if result == "won"]
        unknown = [body for body, result in outcomes.items() if result == "unknown"]
        found = await subject.store.read(name=name)
        expect(found.revision == revision + 1, f"revision {revision + 1}", found.revision)
        expect(len(won) <= 1, "one winner", [body.decode() for body in won])
        expect(found.body in (won or unknown), "the body of the winner", _shown(found.body))
        winners.insert(0, found.body)
    kept = [each.body for each in await subject.store.history(name=name, limit=ROUNDS)]
    expect(kept == winners[: len(kept)], "a history of the winners", str(kept))


async def _race(store: Store, name: str, body: bytes, expected: int) -> str:
    """Write concurrently with others and return the outcome. A busy store may fail a write without effect."""
    try:
        await store.replace(name=name, body=body, expected=expected)
    except (errors.Conflict, errors.Unreachable, errors.Throttled):
        return "lost"
    except errors.OutcomeUnknown:
        return "unknown"
    return "won"
