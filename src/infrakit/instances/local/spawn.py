"""Starting the processes of an instance, so that a crash at any point leaves either nothing or the whole.

The first process is a small shell, the wrapper. It is created in a session of its own with the instance's locks, and
waits at a gate: a pipe of which the daemon has the other end. The daemon writes down who it is, then opens the gate.
If the daemon dies before, the pipe breaks, and the wrapper ends without having done anything.
Past the gate it marks the instance as started, runs the init script as its child, and writes down the exit code, which
is therefore known also when no daemon was alive to see it.

The wrapper catches the signals that end others, so that it outlives the script and can tell how that ended.
"""

import contextlib
import os
import pathlib
import re
import resource
import select
import signal
from collections.abc import Mapping, Sequence

import msgspec

from infrakit.instances.local import home, processes
from infrakit.instances.local.properties import Limits, Properties
from infrakit.spi.errors import OutcomeUnknown, Refused
from infrakit.spi.values import TAG_GROUP, TAG_SLOT, InstanceSpec

_WRAPPER = """
read -r gate && [ "$gate" = open ] || exit 125
trap : HUP INT QUIT ALRM TERM USR1 USR2
here=$1
shift
cd "$here/work" || exit 125
: > "$here/started" || exit 125
exec < /dev/null
"$@"
code=$?
printf '%s\\n' "$code" > "$here/exit"
exit "$code"
"""
_SHELL = "/bin/sh"
_GATE_MS = 10_000

# What an instance gets from the daemon's own environment: where programs are, and how the user speaks. Nothing else,
# so that the daemon's secrets stay its own, and an instance is the same whoever started the daemon.
_INHERITED = re.compile("PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR")

_RESOURCES = {
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "address_space_bytes": resource.RLIMIT_AS,
    "cpu_seconds": resource.RLIMIT_CPU,
    "core_bytes": resource.RLIMIT_CORE,
}


def command(init: str, script: pathlib.Path) -> list[str]:
    """What runs the script: its first line's interpreter with at most one argument, as the kernel does it.

    The interpreter is called directly, because a script that was just written cannot always be executed itself: any
    process that happens to be created meanwhile still has it open.
    """
    first, _, _ = init.partition("\n")
    if not first.startswith("#!"):
        return [_SHELL, str(script)]
    interpreter, *argument = first[2:].strip().split(maxsplit=1)
    return [interpreter, *argument, str(script)]


def environment(
    place: pathlib.Path, spec: InstanceSpec, declared: Properties, volumes: Mapping[str, pathlib.Path]
) -> dict[str, str]:
    """Everything an init script finds: inherited < declared < who it is."""
    tags, attachments = spec.tags or {}, spec.attachments or ()
    found = {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}
    found |= declared.environment
    found |= {f"INFRAKIT_TAG_{_variable(name)}": value for name, value in sorted(tags.items())}
    found |= {f"INFRAKIT_VOLUME_{_variable(name)}": str(path) for name, path in volumes.items()}
    if len(volumes) == 1:
        found["INFRAKIT_VOLUME"] = str(*volumes.values())
    known = {
        "INFRAKIT_INSTANCE_ID": place.name,
        processes.MARK: str(place),
        "INFRAKIT_LOGICAL_ID": spec.logical_id,
        "INFRAKIT_GROUP": tags.get(TAG_GROUP),
        "INFRAKIT_SEQUENCE": tags.get(TAG_SLOT),
        "INFRAKIT_TAGS": _json(tags),
        "INFRAKIT_ATTACHMENTS": _json(attachments),
    }
    return found | {name: value for name, value in known.items() if value is not None}


def start(
    place: pathlib.Path, words: Sequence[str], variables: Mapping[str, str], limits: Limits, locks: home.Locks
) -> None:
    """Start the processes of the instance in this directory, and let go of its locks, which are theirs from then on.

    Raises `OutcomeUnknown` when it may have started, and anything else when it surely has not.
    """
    waits, door = os.pipe()
    with os.fdopen(door, "wb", buffering=0) as gate:
        try:
            pid = _spawn(place, words, variables, standing_at=waits, locks=locks.held)
        finally:
            os.close(waits)
        try:
            _limit(pid, limits)
            home.write(place / "process.json", msgspec.json.encode(processes.identify(pid)))
            locks.close()
        except BaseException:
            gate.close()
            os.waitpid(pid, 0)  # the gate is broken: it ends by itself
            raise
        with contextlib.suppress(BrokenPipeError):
            gate.write(b"open\n")
        _await_passage(gate.fileno())
    if (place / "started").exists():
        return
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None:
        raise OutcomeUnknown(f"not started within {_GATE_MS / 1000:.0f} s", where=place.name)
    raise ChildProcessError(f"the shell ended before the init script: {_last_words(place)}")


def keep_inherited() -> None:
    """Let no instance inherit what this process has inherited itself, beyond standard input and output.

    A daemon may run in an instance of `local`, and then holds the locks of that one: those that it makes must not, or
    they would bear the other's logical ID and volume for as long as they live.
    """
    for each in pathlib.Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile, as the one that lists them is
            if int(each.name) > 2:  # standard error
                os.set_inheritable(int(each.name), False)


def _spawn(
    place: pathlib.Path, words: Sequence[str], variables: Mapping[str, str], *, standing_at: int, locks: Sequence[int]
) -> int:
    log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return os.posix_spawn(
            _SHELL,
            [_SHELL, "-c", _WRAPPER, "infrakit", str(place), *words],
            dict(variables),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, standing_at, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                *((os.POSIX_SPAWN_DUP2, each, each) for each in locks),  # onto itself: inherited from then on
            ],
            setsid=True,
            setsigdef=signal.valid_signals(),
            setsigmask=(),
        )
    finally:
        os.close(log)


def _limit(pid: int, limits: Limits) -> None:
    for name, which in _RESOURCES.items():
        limit = getattr(limits, name)
        if limit is None:
            continue
        try:
            resource.prlimit(pid, which, (limit, limit))
        except (ValueError, PermissionError) as error:
            highest = resource.prlimit(pid, which)[1]
            raise Refused(
                f"the limit {name} of {limit} is above the {highest} that this user may have",
                remedy="lower it in Limits, or raise the user's own",
            ) from error


def _await_passage(gate: int) -> None:
    """Past the gate the shell closes its end of the pipe; so it does when it ends."""
    poll = select.poll()
    poll.register(gate, 0)
    poll.poll(_GATE_MS)


def _last_words(place: pathlib.Path) -> str:
    return (place / "log").read_text(errors="replace").strip()[-200:] or "it said nothing"


def _variable(name: str) -> str:
    return re.sub("[^A-Z0-9_]", "_", name.upper())


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
