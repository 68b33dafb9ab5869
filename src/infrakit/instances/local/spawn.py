"""Starts the processes of an instance atomically: a crash at any point leaves either no instance or a complete one.

The first process is a small shell, the wrapper. It is created in its own session with the instance's locks, and blocks
at a gate: a pipe whose other end the daemon has. The daemon records the wrapper's identity, then opens the gate.
If the daemon crashes before that, the pipe breaks, and the wrapper exits without having done anything.
Past the gate it marks the instance as started, runs the init script as its child, and records the exit code, which is
therefore known even if no daemon was running at the time.

The wrapper traps terminating signals, so that it outlives the script and can record how the script ended.
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
from infrakit.spi import files
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

# The variables that an instance inherits from the daemon's environment: paths, user and locale. Nothing else, so that
# the daemon's secrets do not leak, and an instance does not depend on the shell that started the daemon.
_INHERITED = re.compile("PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR")

_RESOURCES = {
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "address_space_bytes": resource.RLIMIT_AS,
    "cpu_seconds": resource.RLIMIT_CPU,
    "core_bytes": resource.RLIMIT_CORE,
}


def command(init: str, script: pathlib.Path) -> list[str]:
    """Return the command that runs the script: the interpreter in its first line, with at most one argument.

    The interpreter is called directly, because executing a script that was just written can fail (ETXTBSY): a process
    forked in the meantime may still have it open for writing.
    """
    first, _, _ = init.partition("\n")
    if not first.startswith("#!"):
        return [_SHELL, str(script)]
    interpreter, *argument = first[2:].strip().split(maxsplit=1)
    return [interpreter, *argument, str(script)]


def environment(
    place: pathlib.Path, spec: InstanceSpec, declared: Properties, volumes: Mapping[str, pathlib.Path]
) -> dict[str, str]:
    """Build the environment of the init script. Precedence: inherited < declared < set by InfraKit."""
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
    """Start the processes of the instance in this directory, which inherit its locks, and release ours.

    Raises `OutcomeUnknown` if it may have started, and any other error if it certainly has not.
    """
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb", buffering=0) as gate:
        try:
            pid = _spawn(place, words, variables, stdin=read_end, locks=locks.held)
        finally:
            os.close(read_end)
        try:
            _limit(pid, limits)
            files.replace(place / "process.json", msgspec.json.encode(processes.identify(pid)))
            locks.close()
        except BaseException:
            gate.close()
            os.waitpid(pid, 0)  # the gate is closed: the wrapper exits by itself
            raise
        with contextlib.suppress(BrokenPipeError):
            gate.write(b"open\n")
        _await_gate_passed(gate.fileno())
    if (place / "started").exists():
        return
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None:
        raise OutcomeUnknown(f"not started within {_GATE_MS / 1000:.0f} s", where=place.name)
    raise ChildProcessError(f"the shell exited before starting the init script: {_log_end(place)}")


def make_non_inheritable() -> None:
    """Make the descriptors that this process has inherited non-inheritable, except standard input, output and error.

    A daemon may itself run in an instance of `local`, and then holds the locks of that instance. Instances that it
    creates must not inherit them, or they would hold the logical ID and the volume of that instance while they run.
    """
    for each in pathlib.Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed in the meantime, such as the descriptor of this listing
            if int(each.name) > 2:  # standard error
                os.set_inheritable(int(each.name), False)


def _spawn(
    place: pathlib.Path, words: Sequence[str], variables: Mapping[str, str], *, stdin: int, locks: Sequence[int]
) -> int:
    log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return os.posix_spawn(
            _SHELL,
            [_SHELL, "-c", _WRAPPER, "infrakit", str(place), *words],
            dict(variables),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                *((os.POSIX_SPAWN_DUP2, each, each) for each in locks),  # onto itself, which makes it inheritable
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
                f"the limit {name} of {limit} is above this user's maximum, {highest}",
                remedy="lower it in Limits, or raise the user's limit",
            ) from error


def _await_gate_passed(gate: int) -> None:
    """Wait until the shell closes its end of the pipe: after passing the gate, or when it exits."""
    poll = select.poll()
    poll.register(gate, 0)
    poll.poll(_GATE_MS)


def _log_end(place: pathlib.Path) -> str:
    return (place / "log").read_text(errors="replace").strip()[-200:] or "it printed nothing"


def _variable(name: str) -> str:
    return re.sub("[^A-Z0-9_]", "_", name.upper())


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
