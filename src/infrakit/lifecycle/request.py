"""The base of requests with a document; each operation extends it."""

import msgspec


class DocumentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A document, the operator who submits it, and the reason."""

    text: str
    source: str  # its name in messages
    who: str
    why: str
