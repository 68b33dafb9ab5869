"""Bearer tokens: the server keeps a file of names and hashes, `name:sha256`, one a line, and never the token itself."""

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from infrakit.spi.errors import Refused

_LINE = re.compile(r"(?P<name>[^:]+):(?P<hashed>[0-9a-fA-F]{64})")


class Tokens:
    """The tokens of one file, as it is now. Raises `Refused` if it is wrong, or if others may read it."""

    def __init__(self, path: Path) -> None:
        try:
            mode, text = path.stat().st_mode, path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            words = error.strerror if isinstance(error, OSError) else "it is no text"
            raise Refused(f"the tokens cannot be read: {words}", where=str(path)) from None
        if mode & 0o077:
            raise Refused("others may read or write it", where=str(path), remedy=f"chmod 600 {path}")
        self._hashes: list[tuple[str, str]] = []
        for number, line in enumerate(map(str.strip, text.splitlines()), 1):
            if not line or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line)
            if found is None or not found["name"].isprintable():
                raise Refused(f"line {number} is not NAME:SHA256", where=str(path))
            self._hashes.append((found["hashed"].lower(), found["name"]))

    def name(self, header: str) -> str:
        """Whose token an `Authorization` header holds; empty if nobody's. It takes as long for each."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return ""
        shown = _hash(token.strip())
        found = [name for hashed, name in self._hashes if hmac.compare_digest(hashed, shown)]
        return found[0] if found else ""


def issue(path: Path, name: str) -> str:
    """Make a token, add its hash to the file, and return it: nobody can tell it again."""
    if not name or ":" in name or not name.isprintable() or name != name.strip() or name.startswith("#"):
        raise Refused(f"{name!r} cannot be the name of a token")
    token = secrets.token_urlsafe(32)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        ended = not size or os.pread(descriptor, 1, size - 1) == b"\n"
        file.write(f"{'' if ended else os.linesep}{name}:{_hash(token)}\n".encode())
    return token


def _hash(token: str) -> str:
    """Headers may hold bytes that are no text."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
