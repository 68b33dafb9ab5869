"""The format of a document in a Swarm: its head lists every revision, newest first, and is the only list of them.

A head is stored as JSON in a label. Bodies are compressed. A small body is part of the head; a larger one is split into
parts, each the data of a config of its own, which the head names by ID.
"""

import base64
import hashlib
import zlib
from collections.abc import Sequence

import msgspec

from infrakit.clients.swarm import CONFIG_BYTES_MAX
from infrakit.spi import codec, errors

FORMAT = 1
LABEL = "infrakit.head"
BODY_BYTES_MAX = 8 * 1024 * 1024
PACKED_BYTES_MAX = 2_000_000  # of one body, compressed: every manager holds all of it in memory
KEPT_BYTES_MAX = 4_000_000  # of all revisions of a document, compressed; the oldest are pruned first
INLINE_BYTES = 64_000  # in total, of the bodies in one head


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One revision: its body or the parts of it, and the checksum."""

    number: int
    sha256: str  # of the body
    size: int  # bytes, compressed
    body: str = ""  # compressed, in base64; empty if the body is in parts
    parts: tuple[str, ...] = ()  # IDs of configs


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """All revisions that are kept, newest first; none, if the document was never written."""

    format: int = FORMAT
    revisions: tuple[Revision, ...] = ()

    @property
    def newest(self) -> int:
        return self.revisions[0].number if self.revisions else 0

    @property
    def parts(self) -> frozenset[str]:
        """The IDs of all configs that hold parts of its bodies."""
        return frozenset(part for each in self.revisions for part in each.parts)

    def with_revision(self, revision: Revision, *, keep: int) -> "Head":
        """Return the head with one more revision, without those beyond `keep` or `KEPT_BYTES_MAX`."""
        kept, size = [revision], revision.size
        for each in self.revisions[: keep - 1]:
            size += each.size
            if size > KEPT_BYTES_MAX:
                break
            kept.append(each)
        return Head(revisions=tuple(kept))

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()


class Damaged(errors.Refused):
    """The content of a revision does not match its checksum, or its head cannot be read."""


def decode(label: str, name: str) -> Head:
    """Decode the head in a label. Raises `Refused` if the label contains none."""
    where = f"the config infrakit-head-{name} of the Swarm"
    try:
        head = codec.decode(label, Head)
    except msgspec.MsgspecError:
        raise Damaged("its label is damaged", where=where, remedy="restore the Swarm from a backup") from None
    if head.format > FORMAT:
        raise errors.Refused(
            f"it has format {head.format}, this InfraKit reads up to {FORMAT}",
            where=where,
            remedy="run a newer InfraKit",
        )
    numbers = [each.number for each in head.revisions]
    if not numbers or numbers != sorted(set(numbers), reverse=True) or numbers[-1] < 1:
        raise Damaged("its revisions are out of order", where=where, remedy="restore the Swarm from a backup")
    return head


def pack(name: str, body: bytes) -> bytes:
    """Compress a body. Raises `Refused` if it is larger than a Swarm should hold."""
    if len(body) > BODY_BYTES_MAX:
        raise errors.Refused(f"{name} has {len(body)} bytes, the limit is {BODY_BYTES_MAX}", where="store")
    packed = zlib.compress(body)
    if len(packed) > PACKED_BYTES_MAX:
        what = f"{name} has {len(packed)} bytes, compressed; the limit in a Swarm is {PACKED_BYTES_MAX}"
        raise errors.Refused(what, where="store", remedy="keep the declaration in etcd or S3, or make it smaller")
    return packed


def revision(number: int, body: bytes, packed: bytes, *, parts: Sequence[str] = ()) -> Revision:
    """Build a revision, which contains the body if there are no parts."""
    return Revision(
        number=number,
        sha256=_sum(body),
        size=len(packed),
        body="" if parts else base64.b64encode(packed).decode(),
        parts=tuple(parts),
    )


def split(packed: bytes) -> list[bytes]:
    """Split a compressed body into parts that fit into a config."""
    return [packed[at : at + CONFIG_BYTES_MAX] for at in range(0, len(packed), CONFIG_BYTES_MAX)]


def unpack(name: str, kept: Revision, parts: Sequence[bytes]) -> bytes:
    """Decompress and check the body of a revision. Raises `Damaged`."""
    try:
        packed = b"".join(parts) if kept.parts else base64.b64decode(kept.body, validate=True)
        body = zlib.decompressobj().decompress(packed, BODY_BYTES_MAX + 1)
    except (ValueError, zlib.error):
        body = None
    if body is None or _sum(body) != kept.sha256:
        raise damaged(name, kept, "its content does not match its checksum")
    return body


def damaged(name: str, kept: Revision, why: str) -> Damaged:
    """Return the error for a damaged revision, with both remedies."""
    remedy = (
        f"restore the Swarm from a backup, or delete all of {name} knowingly: docker config rm infrakit-head-{name}"
    )
    return Damaged(f"revision {kept.number} of {name} is damaged: {why}", where="store", remedy=remedy)


def _sum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
