"""The format of what replicas keep in the store, one number for all documents.

A release that writes anything else than the one before raises `FORMAT`, and reads every earlier format. It goes on to
write the earlier one for as long as the roster names a replica that reads no newer: so replicas are upgraded one by
one. What is newer than this release is refused whole, because a field that it does not know would be lost when it
writes.
"""

from typing import TypeVar

import msgspec

from infrakit.spi import errors
from infrakit.spi.values import Wire

FORMAT = 1

T = TypeVar("T")


class _Header(Wire, frozen=True):
    format: int = FORMAT


def decode(body: bytes, document: type[T], what: str) -> T:
    """An empty body is an empty document. Raises `Refused` for a format from the future, and for what is damaged."""
    if not body:
        return document()
    try:
        found = msgspec.json.decode(body, type=_Header).format
        if found <= FORMAT:
            return msgspec.json.decode(body, type=document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise errors.Refused(
            f"the {what} cannot be read: {error}", where="store", remedy="restore the store from a backup"
        ) from None
    raise errors.Refused(
        f"the {what} has format {found}, this InfraKit reads up to {FORMAT}",
        where="store",
        remedy="run a newer InfraKit",
    )
