"""A long run in parts: which seeds are done, with their figures, in a file that the next part continues.

Figures of different code cannot be added, so the file contains a digest of the package that produced them.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

import infrakit
from infrakit.spi import codec, errors, files


class Progress(msgspec.Struct, kw_only=True):
    """What has been run so far, of one code and with the same options."""

    code: str
    options: str
    done: list[tuple[int, int]] = []  # ranges of seeds, first and last
    figures: dict[str, int] = {}
    broken: dict[str, str] = {}  # the broken law, by seed
    took_s: float = 0.0  # of all parts

    @property
    def count(self) -> int:
        return sum(last - first + 1 for first, last in self.done)

    def left(self, seeds: Iterable[int]) -> Iterator[int]:
        """Yield the seeds that have not been run yet."""
        for seed in seeds:
            if not any(first <= seed <= last for first, last in self.done):
                yield seed

    def add(self, seeds: Iterable[int]) -> None:
        """Add seeds that have been run."""
        every = sorted([*self.done, *((seed, seed) for seed in seeds)])
        merged: list[tuple[int, int]] = []
        for first, last in every:
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        self.done = merged


def digest() -> str:
    """The digest of the sources of this package."""
    root, found = Path(infrakit.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def load(path: Path, options: str) -> Progress:
    """Read the file, or start with an empty one. Raises `InvalidSpec` if it is of other code or options, or damaged."""
    code = digest()
    try:
        found = codec.decode(path.read_bytes(), Progress)
    except FileNotFoundError:
        return Progress(code=code, options=options)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise errors.invalid(str(path), f"it is no record of a run: {error}", hint="name another file") from None
    if found.code != code:
        raise errors.invalid(str(path), "it was recorded with other code", hint="name another file, and begin again")
    if found.options != options:
        raise errors.invalid(str(path), f"it was recorded with {found.options}", hint="use the same options")
    return found


def save(path: Path, progress: Progress) -> None:
    """Write the file, so that it is complete at any moment."""
    files.replace(path, msgspec.json.format(msgspec.json.encode(progress)))
