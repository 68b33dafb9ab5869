"""A store in a bucket of S3, or of a compatible server: each revision is an object.

The compare-and-swap is the creation of an object on condition that it does not exist (`If-None-Match: *`). Keys count
down, so that the first key of a listing, which S3 sorts in ascending order, is the newest revision, however many there
are: `<prefix>/<name>/9999999987-12` is revision 12. The store depends on three guarantees, which Amazon S3
gives (https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html, "data consistency model", and "conditional
writes"): the condition is honoured, which is tested before the first request; a listing shows every acknowledged
write, so a bucket that is replicated between sites is written at one site only; and nothing expires, so no lifecycle
rule may apply to the prefix.

A revision number must never be used twice, not even by a writer that was suspended between its listing and its write
while others used that number and pruned it. So objects are removed only long after their creation, and the outcome of
a late write is unknown. Both are measured by the server's clock, because a suspended machine does not know for how long
it slept.
"""

import asyncio
import contextlib
import hashlib
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Self
from urllib.parse import SplitResult, parse_qs

from infrakit.clients.s3 import NEEDS_CONDITIONS, Bucket, ListedObject, Listing
from infrakit.spi import errors
from infrakit.spi.store import Document

FORM = "s3://BUCKET[/PREFIX][?endpoint=http://HOST:PORT&region=REGION]"
PREFIX = "infrakit"
BODY_BYTES_MAX = 8 * 1024 * 1024
KEEP = 16  # revisions of a document that `keep` does not name
KEEP_MAX = 200  # upper limit for any document: each costs a request when the history is read
WATCH_INTERVAL_S = 1.0
MIN_AGE = timedelta(hours=1)  # of an object that is removed: longer than a signature is valid, with clock skew
LATE = timedelta(minutes=15)  # longest accepted time from the listing to the write
PRUNE_EVERY = 256  # revisions between two prunings
PRUNE_MAX = 100_000  # objects that one pruning lists; with frequent writes, most are too young to remove
READERS = 8  # concurrent downloads
_REVISION_MAX = 9_999_999_999
_MAGIC = b"infrakit-s3-1"
_KEY = re.compile(r"(\d{10})-(\d+)")


class _Damaged(errors.Refused):
    """The content of an object does not match its checksum."""


class S3Store:
    """Stores documents below `prefix` in a bucket; closing the store closes the bucket's client."""

    form = "s3://BUCKET/PREFIX"

    def __init__(
        self,
        bucket: Bucket,
        prefix: str = PREFIX,
        *,
        keep: Mapping[str, int] | None = None,
        rng: random.Random | None = None,
        watch_interval_s: float = WATCH_INTERVAL_S,
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._keep = dict(keep or {})
        self._rng = rng or random.SystemRandom()
        self._watch_interval_s = watch_interval_s
        self._is_tested = False
        self._last: dict[str, tuple[ListedObject, Document]] = {}  # cache of what was read: objects are immutable
        self._pruning: asyncio.Task[None] | None = None

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return bool(url.netloc)

    @classmethod
    def from_url(cls, url: SplitResult, *, keep: Mapping[str, int]) -> Self:
        """Return the store at `s3://BUCKET/PREFIX?endpoint=http://HOST:PORT&region=REGION`; default endpoint: Amazon's.

        Raises `Refused` if the URL is wrong, or if the extra `s3` is not installed.
        """
        options = {name: values[-1] for name, values in parse_qs(url.query).items()}
        endpoint = options.pop("endpoint", "")
        region = options.pop("region", "")
        if options or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", url.netloc):
            raise errors.invalid("store", "the URL names no bucket", hint=f"write it as {FORM}")
        if url.netloc.endswith("--x-s3"):
            raise errors.Refused(
                "a directory bucket does not list its objects in order",
                where=url.geturl(),
                remedy="use a general purpose bucket",
            )
        if endpoint and not re.fullmatch(r"https?://[^/@?#]+/?", endpoint):
            raise errors.invalid("store", "the endpoint is not an HTTP address", hint=f"write it as {FORM}")
        bucket = Bucket(url.netloc, endpoint=endpoint.rstrip("/"), region=region)
        return cls(bucket, url.path.strip("/") or PREFIX, keep=keep)

    def _revisions_kept(self, name: str) -> int:
        return min(self._keep.get(name, KEEP), KEEP_MAX)

    async def read(self, *, name: str) -> Document:
        for _attempt in range(3):
            newest = (await self._list(name, limit=1)).entries
            if not newest:
                return Document(name=name, revision=0, body=b"")
            try:
                return await self._load(name, newest[0])
            except errors.NotFound:  # removed by an operator in the meantime: list again
                continue
        raise errors.Unreachable(f"{name} changes faster than it can be read", where=self._bucket.where)

    async def newest(self, *, name: str) -> int:
        return max((_revision(entry) for entry in (await self._list(name, limit=1)).entries), default=0)

    async def read_with(self, *, name: str, head: str) -> tuple[Document, int]:
        document, newest = await asyncio.gather(self.read(name=name), self.newest(name=head), return_exceptions=True)
        if isinstance(document, BaseException):
            raise document
        if isinstance(newest, BaseException):
            raise newest
        return document, newest

    async def replace(self, *, name: str, body: bytes, expected: int) -> int:
        if len(body) > BODY_BYTES_MAX:
            raise errors.Refused(f"{name} has {len(body)} bytes, the limit is {BODY_BYTES_MAX}", where="store")
        seen = await self._list(name, limit=1)
        newest = max((_revision(entry) for entry in seen.entries), default=0)
        if newest != expected:
            raise errors.Conflict(f"{name} is at revision {newest}, not {expected}", where="store")
        revision = expected + 1
        content = self._encode(body)
        try:
            at = await self._bucket.create(self._key(name, revision), content)
        except errors.Conflict:
            await self._find_own(name, revision, content)
            return revision
        if at - seen.at > LATE:
            raise errors.OutcomeUnknown(
                f"revision {revision} of {name} was written {at - seen.at} after the listing before it",
                where=self._bucket.where,
                remedy="read it again",
            )
        if revision % PRUNE_EVERY == 0 and (self._pruning is None or self._pruning.done()):
            self._pruning = asyncio.get_running_loop().create_task(self._prune(name, revision))
        return revision

    async def _find_own(self, name: str, revision: int, content: bytes) -> None:
        """Check that the existing object is the one that this call was to create. Raises `Conflict` if it is not."""
        conflict = errors.Conflict(f"another writer has created revision {revision} of {name}", where="store")
        try:
            if await self._bucket.fetch(self._key(name, revision)) != content:
                raise conflict
            newest = max((_revision(entry) for entry in (await self._list(name, limit=1)).entries), default=0)
        except (errors.Unreachable, errors.Throttled) as error:
            raise errors.OutcomeUnknown(error.what, where=error.where) from None
        except errors.NotFound:  # a concurrent writer has not finished
            raise conflict from None
        if newest != revision:  # when the object was created is unknown: it may have been late
            raise errors.OutcomeUnknown(
                f"revision {revision} of {name} was written, but the newest is already {newest}",
                where=self._bucket.where,
                remedy="read it again",
            )

    async def history(self, *, name: str, limit: int) -> Sequence[Document]:
        kept = (await self._list(name, limit=min(limit, self._revisions_kept(name)))).entries
        slots = asyncio.Semaphore(READERS)

        async def load(entry: ListedObject) -> Document | errors.InfraKitError:
            async with slots:
                try:
                    return await self._load(name, entry)
                except errors.InfraKitError as error:
                    return error

        async with asyncio.TaskGroup() as tasks:
            loading = [tasks.create_task(load(entry)) for entry in kept]
        documents = []
        for entry, found in zip(kept, (task.result() for task in loading), strict=True):
            if isinstance(found, Document):
                documents.append(found)
            elif isinstance(found, _Damaged) and entry is not kept[0]:
                continue  # the other revisions are readable
            elif not isinstance(found, errors.NotFound):  # removed by an operator in the meantime
                raise found
        return documents

    async def watch(self, *, name: str) -> AsyncIterator[int]:
        seen: int | None = None
        while True:
            entries = (await self._list(name, limit=1)).entries
            newest = _revision(entries[0]) if entries else 0
            if newest != seen:
                seen = newest
                yield newest
            await asyncio.sleep(self._watch_interval_s)

    async def close(self) -> None:
        if self._pruning is not None:
            self._pruning.cancel()
            await asyncio.wait({self._pruning})
        await self._bucket.close()

    # -- objects ---------------------------------------------------------------------------------------------------

    def _folder(self, name: str) -> str:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise errors.Refused(f"{name!r} is not a valid document name", where="store")
        return f"{self._prefix}/{name}/"

    def _key(self, name: str, revision: int) -> str:
        return f"{self._folder(name)}{_REVISION_MAX - revision:010}-{revision}"

    async def _list(self, name: str, *, limit: int, after: int | None = None) -> Listing:
        """List the newest `limit` revisions, newest first; with `after`, only older ones."""
        folder = self._folder(name)
        await self._test_conditions()
        # Consoles create a folder as an empty object of that name; it is not listed, because keys start after it.
        start = folder if after is None else self._key(name, after)
        listing = await self._bucket.list(folder, after=start, limit=limit)
        for entry in listing.entries:
            found = _KEY.fullmatch(entry.key.removeprefix(folder))
            if not found or entry.key != self._key(name, int(found[2])):  # the first key may not be the newest
                raise errors.Refused(
                    f"{entry.key} is no revision of {name}", where=self._bucket.where, remedy="move it away"
                )
        return listing

    async def _test_conditions(self) -> None:
        """Raise `Refused` if the server ignores `If-None-Match` and overwrites: no compare-and-swap would be safe."""
        key = f"{self._prefix}/.probe"
        if self._is_tested:
            return
        for _attempt in range(2):
            try:
                await self._bucket.create(key, b"InfraKit tests here whether If-None-Match is honoured.\n")
            except errors.Conflict:
                self._is_tested = True
                return
            except errors.OutcomeUnknown as error:
                raise errors.Unreachable(error.what, where=error.where) from None
        raise errors.Refused(
            "it ignores If-None-Match and overwrites objects: compare-and-swap, and so fencing, would fail",
            where=self._bucket.where,
            remedy=NEEDS_CONDITIONS,
        )

    def _encode(self, body: bytes) -> bytes:
        """Encode an object: a checksum, a random number that makes each write unique, and the body."""
        return b"%b %b %016x\n%b" % (_MAGIC, _checksum(body), self._rng.getrandbits(64), body)

    async def _load(self, name: str, entry: ListedObject) -> Document:
        """Load the document in an object. Raises `NotFound`, and `Refused` if it is damaged."""
        last, document = self._last.get(name, (None, None))
        if document is not None and last == entry:
            return document
        header, _, body = (await self._bucket.fetch(entry.key)).partition(b"\n")
        revision = _revision(entry)
        if header.rpartition(b" ")[0] != b"%b %b" % (_MAGIC, _checksum(body)):
            raise _Damaged(
                f"{entry.key} is damaged: its content does not match its checksum",
                where=self._bucket.where,
                remedy=f"restore it from a backup, or, to go back to revision {revision - 1} knowingly, move it away",
            )
        document = Document(name=name, revision=revision, body=body)
        if last is None or _revision(last) < revision:
            self._last[name] = entry, document
        return document

    async def _prune(self, name: str, newest: int) -> None:
        """Remove revisions beyond the limit that are older than `MIN_AGE`; after an error, the next pruning retries."""
        oldest_kept = newest - self._revisions_kept(name) + 1
        if oldest_kept <= 1:
            return
        with contextlib.suppress(errors.InfraKitError):
            older = await self._list(name, limit=PRUNE_MAX, after=oldest_kept)
            for entry in older.entries:
                if older.at - entry.modified > MIN_AGE:
                    await self._bucket.remove(entry.key)


def _revision(entry: ListedObject) -> int:
    return int(entry.key.rpartition("-")[2])


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
