"""Bearer tokens: the server keeps a file of names and hashes, `name:sha256`, one a line, and never the token itself."""

import asyncio
import hashlib
import hmac
import logging
import os
import secrets
from pathlib import Path

from infrakit.spi.errors import Refused

RELOAD_S = 5.0  # between two looks at the file

_log = logging.getLogger(__name__)


class Tokens:
    """The tokens of one file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._names: dict[str, str] = {}
        self.read()

    def read(self) -> None:
        """Take over the file if it is another than before. Raises `Refused` if it is wrong, or others may read it."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return
            if status.st_mode & 0o077:
                raise Refused("others may read or write it", where=str(self._path), remedy=f"chmod 600 {self._path}")
            lines = [line.strip() for line in self._path.read_text().splitlines()]
        except OSError as error:
            raise Refused(f"the tokens cannot be read: {error.strerror}", where=str(self._path)) from None
        names = {}
        for number, line in enumerate(lines, 1):
            name, colon, hashed = line.partition(":")
            if line and (not name or not colon or len(hashed) != 64):
                raise Refused(f"line {number} is not NAME:SHA256", where=str(self._path))
            if line:
                names[hashed.lower()] = name
        self._seen, self._names = seen, names

    def name(self, header: str) -> str:
        """Whose token an `Authorization` header holds; empty if nobody's."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return ""
        shown = _hash(token.strip())
        found = [name for hashed, name in self._names.items() if hmac.compare_digest(hashed, shown)]
        return found[0] if found else ""


async def renew(tokens: Tokens) -> None:
    """Read the file again whenever it changes, for ever. Of a wrong one is told, and what was known stays."""
    while True:
        await asyncio.sleep(RELOAD_S)
        try:
            await asyncio.to_thread(tokens.read)
        except Refused as error:
            _log.error("the old tokens are kept: %s", error)


def issue(path: Path, name: str) -> str:
    """Make a token, add its hash to the file, and return it: nobody can tell it again."""
    if not name or ":" in name or not name.isprintable():
        raise Refused(f"{name!r} cannot be the name of a token")
    token = secrets.token_urlsafe(32)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "a") as file:
        file.write(f"{name}:{_hash(token)}\n")
    return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
