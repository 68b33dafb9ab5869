"""The metadata plugin `vars`: values that operators and programs set, stored beside the declaration.

The whole tree is one document of the replicated store, so every replica reads and writes the same, leader or not. A
change is a pure function of the tree and one compare-and-swap: after losing a race it is retried on the newer tree,
unless the caller has named the expected version. Each revision records who made it, when and why.

The two steps of the original, `changes` and `commit`, are linked by its proof: a digest of both trees. Any change in
between invalidates the proof, so a commit never overwrites a change that its caller has not read.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from infrakit.metadata.vars import edits
from infrakit.rpc import caller
from infrakit.spi import errors, formats, paths
from infrakit.spi.clock import Clock
from infrakit.spi.event import timestamp
from infrakit.spi.metadata import Change, Proposal, Revision, Written
from infrakit.spi.store import Document, Store
from infrakit.spi.values import Wire

NAME = "vars"  # of the document in the store
KEEP = 200  # revisions in the store
STORE_DEADLINE_S = 15.0
ATTEMPTS_MAX = 50
HISTORY_MAX = 1000
PATHS_MAX = 10  # paths in one entry of the history
WHY = "requested over the wire"


class HistoryEntry(Wire, frozen=True, kw_only=True, gc=False):
    """One entry of the history: who changed what, when (ISO 8601) and why."""

    what: str = ""
    who: str = ""
    when: str = ""
    why: str = ""


class VarsDocument(Wire, frozen=True, kw_only=True):
    """The document in the store."""

    format: int = formats.FORMAT
    entry: HistoryEntry = HistoryEntry()
    tree: dict[str, Any] = msgspec.field(default_factory=dict)


class Vars:
    """Reads and changes the tree. Satisfies `spi.metadata.Updatable` and `Versioned`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    # -- reading ---------------------------------------------------------------------------------------------------

    async def keys(self, *, path: str) -> Sequence[str] | None:
        _, record = await self._load()
        return paths.keys(paths.find(record.tree, paths.split(path)))

    async def get(self, *, path: str) -> msgspec.Raw:
        _, record = await self._load()
        return msgspec.Raw(edits.encode(paths.find(record.tree, paths.split(path))))

    async def history(self, *, limit: int = 50) -> tuple[Revision, ...]:
        async with _reading():
            documents = await self._store.history(name=NAME, limit=max(1, min(limit, HISTORY_MAX)))
        return tuple(Revision(version=d.revision, **msgspec.structs.asdict(_decode(d).entry)) for d in documents)

    async def show(self, *, version: int) -> msgspec.Raw:
        return msgspec.Raw(edits.encode((await self._load_version(version)).tree))

    # -- writing ---------------------------------------------------------------------------------------------------

    async def write(
        self, *, changes: tuple[Change, ...], remove: tuple[str, ...], who: str, why: str, expected: int | None = None
    ) -> Written:
        edited = {"set": [c.path for c in changes], "remove": list(remove)}
        what = "; ".join(f"{verb} {_path_list(changed)}" for verb, changed in edited.items() if changed)

        def change(tree: edits.Values) -> edits.Values:
            return edits.write(tree, changes, remove)

        return await self._change(change, HistoryEntry(what=what, who=who, why=why), expected)

    async def restore(self, *, version: int, who: str, why: str, expected: int | None = None) -> Written:
        earlier = (await self._load_version(version)).tree
        return await self._change(
            lambda _: earlier, HistoryEntry(what=f"restore {version}", who=who, why=why), expected
        )

    async def changes(self, *, changes: tuple[Change, ...]) -> Proposal:
        _, record = await self._load()
        original, proposed = edits.encode(record.tree), edits.encode(edits.merge(record.tree, changes))
        return Proposal(original=msgspec.Raw(original), proposed=msgspec.Raw(proposed), cas=_proof(original, proposed))

    async def commit(self, *, proposed: msgspec.Raw, cas: str) -> None:
        after = edits.checked(msgspec.json.decode(proposed))

        def change(tree: edits.Values) -> edits.Values:
            if cas != _proof(edits.encode(tree), bytes(proposed)):
                raise errors.Conflict(
                    "cas mismatch: the tree has changed since, or the proposal was not sent back unmodified",
                    where=NAME,
                    remedy="request the changes again",
                )
            return after

        await self._change(change, HistoryEntry(what="", who=caller.current().signed(""), why=WHY), None)

    async def _change(
        self, change: Callable[[edits.Values], edits.Values], entry: HistoryEntry, expected: int | None
    ) -> Written:
        """Apply a change durably. Raises `Conflict`, or the error of the change itself."""
        for _attempt in range(ATTEMPTS_MAX):
            version, before = await self._load()
            if expected is not None and expected != version:
                raise await self._conflict(expected, version, before)
            tree = change(before.tree)
            differences = edits.differences(before.tree, tree)
            if not differences:
                return Written(version=version)
            what = entry.what or f"set {_path_list(differences)}"
            entry = msgspec.structs.replace(entry, what=what, when=timestamp(self._clock.now()))
            written = await self._write(VarsDocument(entry=entry, tree=tree), version)
            if written:
                return Written(version=written)
        raise errors.Conflict("other processes keep changing it", where=NAME, remedy="retry")

    async def _write(self, after: VarsDocument, expected: int) -> int:
        """Write the document; return the new version, or 0 if the compare-and-swap lost a race."""
        body = msgspec.json.encode(after)
        try:
            async with asyncio.timeout(STORE_DEADLINE_S):
                return await self._store.replace(name=NAME, body=body, expected=expected)
        except errors.Conflict:
            return 0
        except (errors.OutcomeUnknown, TimeoutError):
            return await self._resolve_outcome(body, expected + 1)

    async def _resolve_outcome(self, body: bytes, version: int) -> int:
        """Resolve a write of unknown outcome: return its version, or 0 if another write has that version."""
        async with _reading():
            for document in await self._store.history(name=NAME, limit=HISTORY_MAX):
                if document.revision == version:
                    return version if document.body == body else 0
        raise errors.OutcomeUnknown(
            "the store did not report whether the change was written",
            where=NAME,
            remedy="see: infrakit metadata history",
        )

    # -- the document ----------------------------------------------------------------------------------------------

    async def _load(self) -> tuple[int, VarsDocument]:
        async with _reading():
            document = await self._store.read(name=NAME)
        return document.revision, _decode(document)

    async def _load_version(self, version: int) -> VarsDocument:
        async with _reading():
            newest = (await self._store.read(name=NAME)).revision
            for document in await self._store.history(name=NAME, limit=max(1, newest - version + 1)):
                if document.revision == version:
                    return _decode(document)
        raise errors.NotFound(f"no version {version} is stored", where=NAME, remedy="see: infrakit metadata history")

    async def _conflict(self, expected: int, version: int, now: VarsDocument) -> errors.Conflict:
        """Build the error that lists the changes since the version that the caller has read."""
        try:
            changed = (
                ", ".join(edits.differences((await self._load_version(expected)).tree, now.tree)[:10]) or "nothing"
            )
        except errors.NotFound:
            changed = "unknown (the version that you have read is no longer stored)"
        return errors.Conflict(
            f"it is at version {version} (by {now.entry.who}: {now.entry.why}), not {expected}; "
            f"changed since: {changed}",
            where=NAME,
            remedy="check the newest version and retry",
        )


@contextlib.asynccontextmanager
async def _reading() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(STORE_DEADLINE_S):
            yield
    except TimeoutError:
        raise errors.Unreachable("it does not answer", where="store") from None


def _path_list(changed: Sequence[str]) -> str:
    """Format the first `PATHS_MAX` paths, and the number of the others."""
    more = len(changed) - PATHS_MAX
    named = " ".join(paths.join(paths.split(each)) for each in changed[:PATHS_MAX])
    return f"{named} and {more} more" if more > 0 else named


def _decode(document: Document) -> VarsDocument:
    return formats.decode(document.body, VarsDocument, "tree of vars")


def _proof(original: bytes, proposed: bytes) -> str:
    """Compute the original's proof: MD5 of both texts, without line breaks, tabs and the space after a colon."""
    normal = (text.replace(b"\n", b"").replace(b"\t", b"").replace(b'": "', b'":"') for text in (original, proposed))
    return hashlib.md5(b"".join(normal), usedforsecurity=False).hexdigest()
