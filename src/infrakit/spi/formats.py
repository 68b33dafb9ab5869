"""The format version of the documents that replicas write to the store, one number for all documents.

A release that changes a stored format increments `FORMAT` and still reads every earlier format. While the roster names
a replica that reads only an earlier format, the release keeps writing that one, so that replicas can be upgraded one by
one. Policies that format 1 did not have from its beginning are optional, and not written unless they are declared. An
older replica could not read them, so they are refused while the roster names one that does not list them in its entry.
A document in a newer format than this release knows is refused whole: its unknown fields would be lost on the
next write.
"""

from typing import TypeVar

import msgspec

from infrakit.spi import codec, errors
from infrakit.spi.values import Wire

FORMAT = 1
POLICIES = ("Canary", "BakeTime", "ProgressDeadline")  # that this release reads, beyond those of the first

T = TypeVar("T")


class _Header(Wire, frozen=True):
    format: int = FORMAT


def decode(body: bytes, document: type[T], what: str) -> T:
    """Decode a stored document; an empty body is an empty document. Raises `Refused` if it is newer or damaged."""
    if not body:
        return document()
    try:
        found = codec.decode(body, _Header).format
        if found <= FORMAT:
            return codec.decode(body, document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise errors.Refused(
            f"the {what} cannot be read: {error}", where="store", remedy="restore the store from a backup"
        ) from None
    raise errors.Refused(
        f"the {what} has format {found}, this InfraKit reads up to {FORMAT}",
        where="store",
        remedy="run a newer InfraKit",
    )
