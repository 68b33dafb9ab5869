"""The schema of `Instance.Properties` for groups whose instances are processes of this machine."""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec

from infrakit.spec import validate
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.group import DurationText, Strict, seconds

RESERVED = "INFRAKIT_"  # prefix of the environment variables that InfraKit sets

ExitCode = Annotated[int, msgspec.Meta(ge=0, le=255)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**60)]


class Limits(Strict, frozen=True, kw_only=True, gc=False):
    """Resource limits (rlimits); each applies to every single process of the instance."""

    open_files: Annotated[int, msgspec.Meta(ge=16, le=2**30)] | None = None
    processes: Annotated[int, msgspec.Meta(ge=1, le=2**30)] | None = None  # of the user in total
    address_space_bytes: Annotated[int, msgspec.Meta(ge=2**24, le=2**60)] | None = None
    cpu_seconds: Seconds | None = msgspec.field(default=None, name="CPUSeconds")
    core_bytes: Size | None = None


class Properties(Strict, frozen=True, kw_only=True):
    """All properties of a local instance. None is required."""

    files: dict[str, str] = msgspec.field(default_factory=dict)  # files in the working directory: name -> content
    environment: dict[str, str] = msgspec.field(default_factory=dict)  # in addition to the variables InfraKit sets
    limits: Limits = Limits()  # resource limits
    success_codes: tuple[ExitCode, ...] = ()  # exit codes that mean that the instance has finished as intended
    grace_period: DurationText = "5s"  # from TERM to KILL

    @property
    def grace_s(self) -> float:
        return seconds(self.grace_period)


def decode(raw: msgspec.Raw) -> Properties:
    """Decode and check properties. Raises `InvalidSpec` with every problem."""
    declared = validate.properties(raw, Properties)
    found = [*_files(declared.files), *_environment(declared.environment)]
    if found:
        raise InvalidSpec(found)
    return declared


def _files(files: Mapping[str, str]) -> Iterator[Problem]:
    for name in files:
        path = f"Files[{name!r}]"
        parts = name.split("/")
        if "\0" in name or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
            yield Problem(path=path, message="expected a relative path that stays inside the working directory")
        elif any(parent.as_posix() in files for parent in pathlib.PurePosixPath(name).parents):
            yield Problem(path=path, message="found a file where this one needs a directory")


def _environment(environment: Mapping[str, str]) -> Iterator[Problem]:
    for name, value in environment.items():
        path = f"Environment[{name!r}]"
        if not name or "=" in name or "\0" in name:
            yield Problem(path=path, message='expected a name without "=" and without NUL')
        elif name.startswith(RESERVED):
            yield Problem(path=path, message=f"names that begin with {RESERVED} are reserved for InfraKit")
        if "\0" in value:
            yield Problem(path=path, message="found a NUL byte, which no environment variable can contain")
