"""A store in the Swarm itself, in its replicated configs, so that it needs no other service.

The head of each document is a config, `infrakit-head-NAME`, whose labels list the revisions (`revisions.py`). The
compare-and-swap is an update of the labels from the version that was read, which the Swarm rejects if another writer
was faster. Each document has a config of its own, so writes to other documents and `docker swarm update` never cause a
conflict. Larger bodies are configs that are created before the swap, and are no revision unless it succeeds; those that
failed swaps and crashes leave behind are garbage-collected later (`sweep.py`). A read first proves that it is not stale
(`proof.py`).

Nothing in it is secret: every client with access to a manager of the Swarm can read it.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Self
from urllib.parse import SplitResult

from infrakit.clients import urls
from infrakit.clients.swarm import Swarm
from infrakit.clients.swarm_values import Config
from infrakit.spi import errors
from infrakit.spi.store import Document
from infrakit.stores.swarm import revisions
from infrakit.stores.swarm.proof import HEAD, Heads
from infrakit.stores.swarm.revisions import LABEL, Damaged, Head, Revision
from infrakit.stores.swarm.sweep import PART, Sweep

KEEP = 16  # revisions of a document that `keep` does not name
KEEP_MAX = 200  # upper limit for any document: every manager holds all of them in memory
WATCH_INTERVAL_S = 0.25
RESUME_S = 0.5  # pause before a failed watch is resumed
READERS = 8  # concurrent requests
ATTEMPTS_MAX = 8
RETRY_S = 0.02
NAME_MAX = 24
CONFIG_TEXT = (
    b"A document of InfraKit, in the labels of this config. Never remove it: it holds the state of InfraKit.\n"
)


class SwarmStore:
    """Stores documents in a Swarm; closing the store closes its client."""

    form = "swarm:[///SOCKET]"

    def __init__(
        self, swarm: Swarm, *, keep: Mapping[str, int] | None = None, rng: random.Random | None = None
    ) -> None:
        self.where = swarm.where
        self._swarm = swarm
        self._keep = dict(keep or {})
        self._rng = rng or random.SystemRandom()
        self._heads = Heads(swarm, self._rng)
        self._sweep = Sweep(swarm, self._heads)
        self._last: dict[str, tuple[Revision, bytes]] = {}  # cache of what was read: revisions are immutable

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return urls.names_engine(url)

    @classmethod
    def from_url(cls, url: SplitResult, *, keep: Mapping[str, int]) -> Self:
        return cls(urls.swarm(url), keep=keep)

    async def read(self, *, name: str) -> Document:
        return (await self.read_with(name=name, head=name))[0]

    async def newest(self, *, name: str) -> int:
        return _head(name, await self._heads.linearizable()).newest

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        for attempt in range(ATTEMPTS_MAX):
            found = await self._heads.linearizable()
            kept, newest = _head(name, found).revisions, _head(head, found).newest
            if not kept:
                return Document(name=name, revision=0, body=b""), newest
            try:
                return await self._load(name, kept[0]), newest
            except errors.NotFound:  # pruned in the meantime, or the leader has not caught up
                await asyncio.sleep(RETRY_S * attempt)
        raise revisions.damaged(name, kept[0], "a config that holds a part of it was removed")

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        packed = revisions.pack(name, body)
        for attempt in range(ATTEMPTS_MAX):
            await asyncio.sleep(self._rng.uniform(0.0, RETRY_S * attempt))
            found = await self._heads.possibly_stale()
            if _head(name, found).newest != expected:
                found = await self._heads.linearizable()  # the first listing may be stale
            head = _head(name, found)
            if head.newest != expected:
                raise errors.Conflict(f"{name} is at revision {head.newest}, not {expected}", where="store")
            revision = revisions.revision(expected + 1, body, packed, parts=await self._create_parts(name, packed))
            after = head.with_revision(revision, keep=self._revisions_kept(name))
            try:
                await self._swap(name, found.get(name), after)
            except (errors.Conflict, errors.NotFound):
                # Another writer was faster, with the document or with its labels. Or this very call was: the previous
                # leader may have applied it before the Engine repeated the request at the new leader.
                if revision not in _head(name, await self._heads.linearizable()).revisions:
                    await self._remove(revision.parts)
                    continue
            except errors.Refused:  # all revisions together are too large
                await self._remove(revision.parts)
                raise
            self._last[name] = revision, body
            await self._remove(head.parts - after.parts)
            self._sweep.begin_if_due()
            return revision.number
        raise errors.Unreachable(f"other writers keep changing the config {HEAD}{name}", where=self.where)

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        for _attempt in range(2):
            kept = _head(name, await self._heads.linearizable()).revisions[:limit]
            found = await self._load_all(name, kept)
            if not found or not isinstance(found[0], errors.NotFound):
                break
        documents = []
        for document in found:
            if isinstance(document, Document):
                documents.append(document)
            elif document is found[0] or not isinstance(document, Damaged | errors.NotFound):
                raise document  # a damaged older revision is only omitted
        return documents

    async def watch(self, *, name: str) -> AsyncIterator[int]:
        _check_name(name)
        seen: int | None = None
        while True:
            try:
                found = await self._heads.recent(age_s=0.0 if seen is None else WATCH_INTERVAL_S / 2)
                newest = _head(name, found).newest
            except (
                errors.Unreachable,
                errors.Refused,
            ):  # there is no leader at present, or the node is no longer a manager
                await asyncio.sleep(RESUME_S)
                continue
            if newest != seen:
                seen = newest
                yield newest
            await asyncio.sleep(WATCH_INTERVAL_S)

    async def close(self) -> None:
        await self._sweep.close()
        await self._heads.close()
        await self._swarm.close()

    # -- writing ---------------------------------------------------------------------------------------------------

    def _revisions_kept(self, name: str) -> int:
        return min(self._keep.get(name, KEEP), KEEP_MAX)

    async def _create_parts(self, name: str, packed: bytes) -> list[str]:
        """Create the configs for a body and return their IDs; none if the body is small enough for the head."""
        if len(packed) * self._revisions_kept(name) <= revisions.INLINE_BYTES:
            return []
        nonce = f"{self._rng.getrandbits(64):016x}"
        created = []
        try:
            for number, part in enumerate(revisions.split(packed)):
                created.append(await self._swarm.create_config(f"{PART}{name}-{nonce}-{number}", labels={}, data=part))
        except (errors.OutcomeUnknown, errors.Conflict) as error:  # creating the part: the document is unchanged
            raise errors.Unreachable(error.what, where=error.where) from None
        return created

    async def _swap(self, name: str, before: Config | None, after: Head) -> None:
        labels = {LABEL: after.encode()}
        if before is None:
            await self._swarm.create_config(f"{HEAD}{name}", labels=labels, data=CONFIG_TEXT)
        else:
            await self._swarm.update_config_labels(before, labels)

    async def _remove(self, configs: Iterable[str]) -> None:
        """Remove configs as far as possible; the sweep removes the rest."""
        with contextlib.suppress(errors.InfraKitError):
            for each in configs:
                await self._swarm.remove_config(each)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _load(self, name: str, revision: Revision) -> Document:
        """Load the document of a revision. Raises `NotFound` if a part of it does not exist, and `Damaged`."""
        known, body = self._last.get(name, (None, b""))
        if known != revision:
            parts = [(await self._swarm.config(each)).data for each in revision.parts]
            body = revisions.unpack(name, revision, parts)
            if known is None or known.number < revision.number:
                self._last[name] = revision, body
        return Document(name=name, revision=revision.number, body=body)

    async def _load_all(self, name: str, kept: Sequence[Revision]) -> list[Document | errors.InfraKitError]:
        slots = asyncio.Semaphore(READERS)

        async def load(revision: Revision) -> Document | errors.InfraKitError:
            async with slots:
                try:
                    return await self._load(name, revision)
                except errors.InfraKitError as error:
                    return error

        async with asyncio.TaskGroup() as tasks:
            loading = [tasks.create_task(load(each)) for each in kept]
        return [task.result() for task in loading]


def _check_name(name: str) -> None:
    if len(name) > NAME_MAX or not name.replace("-", "").replace("_", "").isalnum():
        raise errors.Refused(f"{name!r} is not a valid document name", where="store")


def _head(name: str, found: Mapping[str, Config]) -> Head:
    _check_name(name)
    config = found.get(name)
    return revisions.decode(config.labels.get(LABEL, ""), name) if config is not None else Head()
