"""A store in the Swarm itself: in what its managers agree on anyway, so that it needs nothing beside the cluster.

The head of each document is a config, `infrakit-head-NAME`: its labels list the revisions (`revisions.py`). Labels are
changed from a version that was seen, and the Swarm refuses that if anybody was first: the compare-and-swap. Each
document has its own, so no other document and nobody's `docker swarm update` is ever in the way. Larger bodies are
configs that are made before the swap, and are no revision unless it succeeds; what losers and crashes have left behind
is swept up later (`sweep.py`). Reads prove first that they are not old (`proof.py`).

Nothing in it is secret: whoever may ask a manager of the Swarm may read it.
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

KEEP = 16  # revisions of a document for which the caller names no number
KEEP_MAX = 200  # of any document: every manager holds all of them in memory
WATCH_INTERVAL_S = 0.25
RESUME_S = 0.5  # after a watch broke
READERS = 8  # at a time
ATTEMPTS_MAX = 8
RETRY_S = 0.02
NAME_MAX = 24
WHAT_IT_IS = (
    b"A document of InfraKit, in the labels of this config. Never remove it: infrakit reads what it does here.\n"
)


class SwarmStore:
    """Documents in a Swarm, whose client it closes with itself."""

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
        self._last: dict[str, tuple[Revision, bytes]] = {}  # what was read: revisions do not change

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return urls.names_engine(url)

    @classmethod
    def from_url(cls, url: SplitResult, *, keep: Mapping[str, int]) -> Self:
        return cls(urls.swarm(url), keep=keep)

    async def read(self, *, name: str) -> Document:
        for attempt in range(ATTEMPTS_MAX):
            head = _head(name, await self._heads.proven())
            if not head.revisions:
                return Document(name=name, revision=0, body=b"")
            try:
                return await self._load(name, head.revisions[0])
            except errors.NotFound:  # it was forgotten meanwhile, or who answers has not caught up
                await asyncio.sleep(RETRY_S * attempt)
        raise revisions.damaged(name, head.revisions[0], "a config that holds a part of it was removed")

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        packed = revisions.pack(name, body)
        for attempt in range(ATTEMPTS_MAX):
            await asyncio.sleep(self._rng.uniform(0.0, RETRY_S * attempt))
            found = await self._heads.remembered()
            if _head(name, found).newest != expected:
                found = await self._heads.proven()  # before anybody is told so
            head = _head(name, found)
            if head.newest != expected:
                raise errors.Conflict(f"{name} is at revision {head.newest}, not {expected}", where="store")
            revision = revisions.revision(expected + 1, body, packed, parts=await self._parts(name, packed))
            after = head.followed_by(revision, keep=self._kept(name))
            try:
                await self._swap(name, found.get(name), after)
            except (errors.Conflict, errors.NotFound):
                # Somebody was first, with the document or with its labels. Or it was this very call: whoever leads no
                # more may have done it before it is asked of the next leader, in the same words.
                if revision not in _head(name, await self._heads.proven()).revisions:
                    await self._remove(revision.parts)
                    continue
            except errors.Refused:  # all revisions together are too large
                await self._remove(revision.parts)
                raise
            self._last[name] = revision, body
            await self._remove(head.parts - after.parts)
            self._sweep.begin_if_due()
            return revision.number
        raise errors.Unreachable(f"others keep changing the config {HEAD}{name}", where=self.where)

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        for _attempt in range(2):
            kept = _head(name, await self._heads.proven()).revisions[:limit]
            found = await self._load_all(name, kept)
            if not found or not isinstance(found[0], errors.NotFound):
                break
        documents = []
        for document in found:
            if isinstance(document, Document):
                documents.append(document)
            elif document is found[0] or not isinstance(document, Damaged | errors.NotFound):
                raise document  # an older one that is damaged costs no more than itself
        return documents

    async def watch(self, *, name: str) -> AsyncIterator[int]:
        _check(name)
        seen: int | None = None
        while True:
            try:
                found = await self._heads.glimpsed(age_s=0.0 if seen is None else WATCH_INTERVAL_S / 2)
                newest = _head(name, found).newest
            except (errors.Unreachable, errors.Refused):  # no leader for the moment, or no manager any more
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

    def _kept(self, name: str) -> int:
        return min(self._keep.get(name, KEEP), KEEP_MAX)

    async def _parts(self, name: str, packed: bytes) -> list[str]:
        """IDs of configs that hold it; none, if it is small enough for the head."""
        if len(packed) * self._kept(name) <= revisions.INLINE_BYTES:
            return []
        mark = f"{self._rng.getrandbits(64):016x}"
        made = []
        try:
            for number, part in enumerate(revisions.cut(packed)):
                made.append(await self._swarm.create_config(f"{PART}{name}-{mark}-{number}", labels={}, data=part))
        except (errors.OutcomeUnknown, errors.Conflict) as error:  # of the part: the document is surely what it was
            raise errors.Unreachable(error.what, where=error.where) from None
        return made

    async def _swap(self, name: str, before: Config | None, after: Head) -> None:
        labels = {LABEL: after.encode()}
        if before is None:
            await self._swarm.create_config(f"{HEAD}{name}", labels=labels, data=WHAT_IT_IS)
        else:
            await self._swarm.update_config_labels(before, labels)

    async def _remove(self, configs: Iterable[str]) -> None:
        """As far as that can be done now; the rest is swept up."""
        with contextlib.suppress(errors.InfraKitError):
            for each in configs:
                await self._swarm.remove_config(each)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _load(self, name: str, revision: Revision) -> Document:
        """Raises `NotFound` when a part of it is not there, and `Damaged`."""
        known, body = self._last.get(name, (None, b""))
        if known != revision:
            parts = [(await self._swarm.config(each)).data for each in revision.parts]
            body = revisions.unpack(name, revision, parts)
            if known is None or known.number < revision.number:
                self._last[name] = revision, body
        return Document(name=name, revision=revision.number, body=body)

    async def _load_all(self, name: str, kept: Sequence[Revision]) -> list[Document | errors.InfraKitError]:
        turn = asyncio.Semaphore(READERS)

        async def load(revision: Revision) -> Document | errors.InfraKitError:
            async with turn:
                try:
                    return await self._load(name, revision)
                except errors.InfraKitError as error:
                    return error

        async with asyncio.TaskGroup() as tasks:
            loading = [tasks.create_task(load(each)) for each in kept]
        return [task.result() for task in loading]


def _check(name: str) -> None:
    if len(name) > NAME_MAX or not name.replace("-", "").replace("_", "").isalnum():
        raise errors.Refused(f"{name!r} is no name of a document", where="store")


def _head(name: str, found: Mapping[str, Config]) -> Head:
    _check(name)
    config = found.get(name)
    return revisions.decode(config.labels.get(LABEL, ""), name) if config is not None else Head()
