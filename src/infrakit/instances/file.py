"""The provider `file`: an instance is a file, and nothing else, so that groups can be watched with `ls` and `cat`.

This is the original's first plugin, with the same files: `instance-<number>` in one directory, as JSON with `ID`,
`LogicalID`, `Tags` and the whole `Spec`. An instance whose file is removed by hand is terminated. A file that cannot be
read fails the listing: its group membership is unknown, and unknown is not missing.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random, SystemRandom
from typing import TypeVar

import msgspec

from infrakit.spi import codec, errors, files
from infrakit.spi.instance import Capabilities, DestroyContext
from infrakit.spi.values import TAG_TOKEN, Description, InstanceID, InstanceSpec, LogicalID, Wire

T = TypeVar("T")

DIRECTORY_VARIABLE = "INFRAKIT_INSTANCE_FILE_DIR"
PREFIX = "instance-"


class Stored(Wire, frozen=True, kw_only=True):
    """The content of one instance file."""

    id: InstanceID
    logical_id: LogicalID | None = None
    tags: dict[str, str] | None = None
    spec: InstanceSpec = InstanceSpec()

    def describe(self, *, properties: bool) -> Description:
        """Return the description; its properties are the whole spec, as in the original."""
        whole = msgspec.Raw(msgspec.json.encode(self.spec)) if properties else msgspec.UNSET
        return Description(id=self.id, logical_id=self.logical_id, tags=self.tags or {}, properties=whole)


class File:
    """Satisfies `Instance`, `Capable`, `Inspects` and `Identified`.

    Files are below `$INFRAKIT_INSTANCE_FILE_DIR`, or `directory`.
    """

    def __init__(self, directory: Path, *, random: Random | None = None) -> None:
        self._directory = Path(os.environ.get(DIRECTORY_VARIABLE) or directory)
        self._random = random or SystemRandom()

    async def capabilities(self) -> Capabilities:
        return Capabilities(listing_lag_s=0.0, tokens=True)

    async def identity(self) -> str:
        if not await asyncio.to_thread(self._directory.is_dir):
            return ""  # it is created with the first instance
        return await self._run_locked(lambda: files.identity(self._directory / "identity"))

    async def validate(self, *, properties: msgspec.Raw) -> None:
        """Accept any properties."""

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        return await self._run_locked(lambda: self._provision(spec))

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        def merge() -> None:
            stored = self._read(self._path(instance))
            self._write(msgspec.structs.replace(stored, tags={**(stored.tags or {}), **labels}))

        await self._run_locked(merge)

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:  # noqa: ARG002
        def remove() -> None:
            try:
                self._path(instance).unlink()
            except FileNotFoundError:
                raise _not_found(instance) from None
            files.sync(self._directory)

        await self._run_locked(remove)

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        stored = await asyncio.to_thread(lambda: list(self._all()))
        return [s.describe(properties=properties) for s in stored if tags.items() <= (s.tags or {}).items()]

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        try:
            stored = await asyncio.to_thread(lambda: self._read(self._path(instance)))
        except errors.NotFound:
            if instance.startswith(PREFIX) and not await asyncio.to_thread(self._directory.is_dir):
                raise errors.PluginError("the directory is missing", where=str(self._directory)) from None
            return None
        return stored.describe(properties=True)

    # -- blocking, in a thread -------------------------------------------------------------------------------------

    async def _run_locked(self, change: Callable[[], T]) -> T:
        """Run one change under the directory's lock, across processes. It completes even if the caller is cancelled."""

        def locked() -> T:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self._directory / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return change()

        try:
            return await asyncio.shield(asyncio.to_thread(locked))
        except OSError as error:
            raise errors.PluginError(f"{error.strerror}", where=str(error.filename or self._directory)) from None

    def _provision(self, spec: InstanceSpec) -> InstanceID:
        token = (spec.tags or {}).get(TAG_TOKEN)
        for stored in self._all():
            if token and (stored.tags or {}).get(TAG_TOKEN) == token:
                return stored.id
            if spec.logical_id is not None and stored.logical_id == spec.logical_id:
                raise errors.Conflict(f"{stored.id} has the logical ID {spec.logical_id}")
        created = InstanceID(f"{PREFIX}{self._random.getrandbits(63)}")
        self._write(Stored(id=created, logical_id=spec.logical_id, tags=spec.tags, spec=spec))
        return created

    def _all(self) -> Iterator[Stored]:
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self._directory.iterdir()):
                if path.name.startswith(PREFIX):
                    with contextlib.suppress(errors.NotFound):  # removed since the directory was read
                        yield self._read(path)

    def _path(self, instance: InstanceID) -> Path:
        if not instance.startswith(PREFIX) or "/" in instance or "\0" in instance:
            raise _not_found(instance)
        return self._directory / instance

    def _read(self, path: Path) -> Stored:
        try:
            return codec.decode(path.read_bytes(), Stored)
        except FileNotFoundError:
            raise _not_found(path.name) from None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise errors.PluginError(
                f"it cannot be read: {error}",
                where=str(path),
                remedy="fix it, or remove it to terminate its instance",
            ) from None

    def _write(self, stored: Stored) -> None:
        text = msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n"
        files.replace(self._directory / stored.id, text)


def _not_found(instance: str) -> errors.NotFound:
    return errors.NotFound(f"there is no instance {instance}")
