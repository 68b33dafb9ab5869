"""Bearer tokens. The server stores names and hashes in a file, `name:sha256` per line, never the tokens themselves."""

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from infrakit.spi.errors import Refused, invalid

_LINE = re.compile(r"(?P<name>[^:]+):(?P<hashed>[0-9a-fA-F]{64})")


class Tokens:
    """The tokens of one file. Raises `Refused` if the file is invalid, or if other users may read it."""

    def __init__(self, path: Path) -> None:
        try:
            mode, text = path.stat().st_mode, path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise Refused(f"the tokens cannot be read: {reason}", where=str(path)) from None
        if mode & 0o077:
            raise Refused("other users may read or write it", where=str(path), remedy=f"chmod 600 {path}")
        self._hashes: list[tuple[str, str]] = []
        for number, line in enumerate(map(str.strip, text.splitlines()), 1):
            if not line or line.startswith("#"):
                continue
            found = _LINE.fullmatch(line)
            if found is None or not found["name"].isprintable():
                raise Refused(f"line {number} is not NAME:SHA256", where=str(path))
            self._hashes.append((found["hashed"].lower(), found["name"]))

    def name(self, header: str) -> str:
        """Return the name of the token in an `Authorization` header, or an empty string. It runs in constant time."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return ""
        presented = _hash(token.strip())
        found = [name for hashed, name in self._hashes if hmac.compare_digest(hashed, presented)]
        return found[0] if found else ""


def issue(path: Path, name: str) -> str:
    """Create a token, add its hash to the file, and return it. It cannot be recovered later."""
    if not name or ":" in name or not name.isprintable() or name != name.strip() or name.startswith("#"):
        raise invalid("", f"{name!r} cannot be the name of a token")
    token = secrets.token_urlsafe(32)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        ended = not size or os.pread(descriptor, 1, size - 1) == b"\n"
        file.write(f"{'' if ended else os.linesep}{name}:{_hash(token)}\n".encode())
    return token


def _hash(token: str) -> str:
    """Hash a token, which may contain bytes that are not text."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
