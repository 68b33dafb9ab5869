"""The base of requests with a document; each operation extends it."""

import contextlib
from collections.abc import Iterator

import msgspec

from infrakit.spi import errors


class DocumentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A document, the operator who submits it, and the reason."""

    text: str
    source: str  # its name in messages
    who: str
    why: str
    destroys: int = 0  # the consent to destroy that many members, see `spi.manager.Manager.commit`


@contextlib.contextmanager
def consent_named(command: str) -> Iterator[None]:
    """In an error that asks for consent, name this command instead of `infrakit commit`."""
    try:
        yield
    except errors.Refused as refused:
        if "--destroys" not in refused.remedy:
            raise
        remedy = f"{refused.remedy.replace('infrakit commit', command)}; without FILE, the last declaration continues"
        raise errors.Refused(refused.what, where=refused.where, remedy=remedy) from None
