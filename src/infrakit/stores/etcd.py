"""A store in etcd: each revision is a key, created by a transaction on condition that the one before is the newest.

Reads are linearizable: they go through the quorum, so that a member without it cannot answer from memory.

A full database must still take a halt. So a write that is refused for that reason makes room first, and a reserve is
stored beside the documents, whose deletion makes room even if all else in the database is in use.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Self
from urllib.parse import SplitResult

from infrakit.clients import urls
from infrakit.clients.etcd import FULL, Answer, Etcd, after, decode, encode
from infrakit.clients.etcd_space import make_room
from infrakit.spi import errors
from infrakit.spi.store import Document

BODY_BYTES_MAX = 1_000_000  # before base64; etcd rejects requests of over 1.5 MiB unless configured otherwise
KEEP = 16  # revisions of a document that `keep` does not name
KEEP_MAX = 200  # upper limit for any document: a database of etcd is small, 2 GiB unless configured otherwise
RESERVE_BYTES = 1024 * 1024  # more than most writes: the one that reaches the quota may be applied beyond it
RESERVE_AGAIN_S = 3600.0  # after the reserve was deleted, until it is stored again
ROOM_AGAIN_S = 60.0  # between two attempts to make room
RESUME_S = 0.5  # pause before a failed watch is resumed
SILENT_S = 5.0  # after which a watch without a message is opened again, because its member may have stopped


class EtcdStore:
    """Documents below `prefix`: `<prefix>/<name>/<revision>`."""

    form = "etcd://HOST:PORT[,HOST:PORT]/PREFIX"

    def __init__(self, client: Etcd, prefix: str = "/infrakit", *, keep: Mapping[str, int] | None = None) -> None:
        self._client = client
        self._prefix = prefix.rstrip("/")
        self._keep = dict(keep or {})
        self._reserve = encode(f"{self._prefix}/reserve")
        self._reserve_due = -math.inf  # the loop time from which the reserve is to be stored
        self._room: asyncio.Task[None] | None = None  # the last attempt to make room
        self._room_at = -math.inf

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return bool(url.netloc)

    @classmethod
    def from_url(cls, url: SplitResult, *, keep: Mapping[str, int]) -> Self:
        return cls(urls.etcd(url), urls.etcd_prefix(url), keep=keep)

    def _folder(self, name: str) -> str:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise errors.Refused(f"{name!r} is not a valid document name", where="store")
        return f"{self._prefix}/{name}/"

    def _key(self, name: str, revision: int) -> str:
        return encode(f"{self._folder(name)}{revision:010}")

    async def read(self, *, name: str) -> Document:
        return self._document_of(name, await self._client.read("kv/range", self._range(name, 1)))

    async def newest(self, *, name: str) -> int:
        answer = await self._client.read("kv/range", self._range(name, 1) | {"keys_only": True})
        return self._newest_of(name, answer)

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        reads = [{"requestRange": self._range(name, limit=1)}, self._newest(head)]
        answer = await self._client.read("kv/txn", {"success": reads})
        first, second = (each["response_range"] for each in answer["responses"])
        return self._document_of(name, first), self._newest_of(head, second)

    def _document_of(self, name: str, answer: Answer) -> Document:
        newest = [self._document(name, kv) for kv in answer.get("kvs", ())]
        return newest[0] if newest else Document(name=name, revision=0, body=b"")

    def _newest_of(self, name: str, answer: Answer) -> int:
        return max((self._document(name, kv).revision for kv in answer.get("kvs", ())), default=0)

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if len(body) > BODY_BYTES_MAX:
            raise errors.Refused(f"{name} has {len(body)} bytes, the limit in etcd is {BODY_BYTES_MAX}", where="store")
        revision = expected + 1
        change: list[object] = [{"requestPut": {"key": self._key(name, revision), "value": encode(body)}}]
        pruned = revision - min(self._keep.get(name, KEEP), KEEP_MAX)
        if pruned > 0:
            change.append({"requestDeleteRange": {"key": self._key(name, pruned)}})
        transaction = {"compare": self._is_newest(name, expected), "success": change, "failure": [self._newest(name)]}
        document = Document(name=name, revision=revision, body=body)
        try:
            answer, was_full = await self._write(transaction)
        except errors.Refused as refused:
            if refused.what == FULL and await self.read(name=name) == document:
                return revision
            raise
        if not answer.get("succeeded", False):
            found = [self._document(name, kv) for kv in answer["responses"][0]["response_range"].get("kvs", ())]
            if was_full and await self.read(name=name) == document:
                return revision
            newest = found[0].revision if found else 0
            raise errors.Conflict(f"{name} is at revision {newest}, not {expected}", where="store")
        return revision

    async def _write(self, transaction: Mapping[str, object]) -> tuple[Answer, bool]:
        """Write, and make room first if the database is full; return the answer, and whether it was full.

        Raises `Refused` if there is no room. etcd may apply the very write with which the database reaches its quota,
        and return an error although it has: its quota is checked again when a write is applied.
        """
        try:
            answer = await self._client.change("kv/txn", transaction)
        except errors.Refused as refused:
            if refused.what != FULL or not await self._make_room():
                raise
            return await self._client.change("kv/txn", transaction), True
        if asyncio.get_running_loop().time() >= self._reserve_due:
            self._reserve_due = math.inf
            with contextlib.suppress(errors.InfraKitError):
                await self._store_reserve()
        return answer, False

    async def _store_reserve(self) -> None:
        if not (await self._client.read("kv/range", {"key": self._reserve, "keys_only": True})).get("kvs"):
            await self._client.change("kv/put", {"key": self._reserve, "value": encode(bytes(RESERVE_BYTES))})

    async def _make_room(self) -> bool:
        """Return true once there may be room, false if it was made a short time ago. Raises what etcd raises.

        It may take longer than the caller waits, so it continues without the caller.
        """
        loop = asyncio.get_running_loop()
        if self._room is None or self._room.done():
            if loop.time() - self._room_at < ROOM_AGAIN_S:
                return False
            self._room_at = loop.time()
            self._reserve_due = loop.time() + RESERVE_AGAIN_S
            self._room = loop.create_task(make_room(self._client, self._reserve))
        await asyncio.shield(self._room)
        return True

    def _is_newest(self, name: str, revision: int) -> list[object]:
        """Require that this revision exists and no later one does. An empty range has version 0."""
        later = {"key": self._key(name, revision + 1), "range_end": after(self._folder(name))}
        conditions: list[object] = [{**later, "target": "VERSION", "result": "EQUAL", "version": "0"}]
        if revision > 0:
            conditions.append(
                {"key": self._key(name, revision), "target": "VERSION", "result": "GREATER", "version": "0"}
            )
        return conditions

    def _newest(self, name: str) -> object:
        return {"requestRange": self._range(name, limit=1) | {"keys_only": True}}

    def _range(self, name: str, limit: int) -> dict[str, object]:
        return {
            "key": encode(self._folder(name)),
            "range_end": after(self._folder(name)),
            "sort_order": "DESCEND",
            "sort_target": "KEY",
            "limit": str(limit),
        }

    def _document(self, name: str, kv: Answer) -> Document:
        revision = int(decode(kv["key"]).rpartition(b"/")[2])
        return Document(name=name, revision=revision, body=decode(kv.get("value", "")))

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        answer = await self._client.read("kv/range", self._range(name, limit))
        return [self._document(name, kv) for kv in answer.get("kvs", ())]

    async def watch(self, *, name: str) -> AsyncIterator[int]:
        seen: int | None = None
        while True:
            answer = await self._client.read("kv/range", self._range(name, 1) | {"keys_only": True})
            newest = self._newest_of(name, answer)
            if newest != seen:
                seen = newest
                yield newest
            try:
                async for change in self._changes(name, since=int(answer["header"]["revision"]) + 1):
                    if change > seen:
                        seen = change
                        yield change
            except (
                errors.Unreachable,
                errors.OutcomeUnknown,
                errors.Refused,
            ):  # the stream broke or was silent, or its revision was compacted
                await asyncio.sleep(RESUME_S)

    async def _changes(self, name: str, *, since: int) -> AsyncIterator[int]:
        request = {
            "key": encode(self._folder(name)),
            "range_end": after(self._folder(name)),
            "start_revision": str(since),
            "progress_notify": True,  # keeps an idle watch open, if etcd is configured to send these more often
        }
        async for message in self._client.stream("watch", {"create_request": request}, silent_s=SILENT_S):
            if message.get("canceled"):
                raise errors.Unreachable(str(message.get("cancel_reason", "the watch was cancelled")), where="store")
            for event in message.get("events", ()):
                if event.get("type", "PUT") == "PUT":
                    yield self._document(name, event["kv"]).revision

    async def close(self) -> None:
        if self._room is not None:
            self._room.cancel()
            await asyncio.wait({self._room})
        await self._client.close()
