"""What a template may know of the machine it is rendered on, and of its secrets."""

import os
import shlex
import signal
import tempfile
from pathlib import Path

from infrakit.spi.errors import Refused
from infrakit.template import addresses, loaders
from infrakit.template.failures import Fault, nearest
from infrakit.template.failures import text as text_argument
from infrakit.template.functions.documents import fetched
from infrakit.template.functions.table import ABSENT, function
from infrakit.template.run import Frame

COMMAND_S_MAX = 10.0
SECRET_BYTES_MAX = 64_000


@function("env(name, default)", example="{{ env('REGION') }} {{ env('ZONE', 'a') }}", result="north a")
def env(frame: Frame, name: str, default: object = ABSENT) -> object:
    """An environment variable, if it is on the list of those that may be read; else the default."""
    text_argument(name, "env")
    value = os.environ.get(name) if name in frame.run.scope.env else None
    found = "environment" if value is not None else "" if default is ABSENT else "default"
    frame.run.need(frame, "env", name, found)
    if value is not None:
        return value
    if default is not ABSENT:
        return default
    if name not in frame.run.scope.env:
        hint = nearest(name, frame.run.scope.env) or f"allow it for this render; on the command line: --env {name}"
        raise Fault(f"the environment variable {name!r} is not among those that may be read", hint)
    raise Fault(f"the environment variable {name!r} is not set", "set it, or give a default")


@function("file(path)", example="{{ file('motd') }}", result="welcome")
def file(frame: Frame, path: str) -> str:
    """The text of a file of this machine, beside the template unless its path is absolute."""
    if "://" in text_argument(path, "file") or path == loaders.STDIN:
        raise Fault("file takes a path", "use fetch for other addresses")
    local_only(frame, "file", path)
    document = fetched(frame, _address(frame, path), kind="file")
    frame.run.need(frame, "file", path, document.address)
    return document.text


@function(
    "secret(reference)", example="{{ secret('file:token') | hash('md5') }}", result="5ebe2294ecd0e0f08eab7690d2a6ee69"
)
def secret(frame: Frame, reference: str) -> str:
    """A secret from `file:PATH`, `env:NAME` or `cmd:PROGRAM ARGUMENTS`, without its last newline; masked when shown.

    It stands in the output, and there only: messages, traces and explanations show `***`.
    """
    run = frame.run
    kind, _, rest = text_argument(reference, "secret").partition(":")
    if kind not in _SOURCES or not rest:
        raise Fault("secret takes file:PATH, env:NAME or cmd:PROGRAM ARGUMENTS")
    shown = reference if kind != "cmd" else f"cmd:{rest.split(maxsplit=1)[0]}"
    local_only(frame, "secret", shown)
    key = f"{frame.template.address} {reference}"
    if key not in run.secret_values:
        run.need(frame, "secret", shown, "")
        value = _SOURCES[kind](frame, rest).removesuffix("\n")
        if not value:
            raise Fault(f"the secret {shown!r} is empty")
        run.secret_values[key] = value
        run.secrets.add(value)
        run.found(frame, "secret", shown, kind)
    return run.secret_values[key]


def local_only(frame: Frame, kind: str, name: str) -> None:
    """Only templates of this machine may reach for what is on it, and only where they may do so at all."""
    scope, loader = frame.run.scope, frame.run.engine.loader
    if not scope.local_files or not loader.is_trusted(frame.template.source):
        frame.run.need(frame, kind, name, "")
        where = "templates may not" if not scope.local_files else "a template from elsewhere may not"
        what = f"{where} read files, variables or secrets of this machine here"
        raise Refused(what, where=name, remedy=addresses.TRUST if scope.local_files else "")


def _address(frame: Frame, path: str) -> str:
    """Of a file: beside the template, if that is one; else where the process is."""
    is_file = addresses.scheme(frame.template.address) == "file"
    return path if is_file else Path(path).absolute().as_uri()


def _from_file(frame: Frame, path: str) -> str:
    return fetched(frame, _address(frame, path), kind="secret").text


def _from_environment(frame: Frame, name: str) -> str:
    return str(env.body(frame, name))


def _from_command(frame: Frame, command: str) -> str:
    """The output of a command, run without a shell. Its output on failure is not shown: it may be the secret."""
    import subprocess

    try:
        arguments = shlex.split(command)
    except ValueError:
        raise Fault("the command of a secret has a quote without end") from None
    timeout_s = min(COMMAND_S_MAX, frame.run.budget.remaining_s())
    with tempfile.TemporaryFile() as output:  # not a pipe, which a grandchild could hold open
        try:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            raise Fault(f"the command {arguments[0]!r} of a secret cannot be run: {error.strerror}") from None
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise Fault(f"the command {arguments[0]!r} of a secret takes more than {timeout_s:.3g} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code:
            raise Fault(f"the command {arguments[0]!r} of a secret ended with {code}")
        output.seek(0)
        body = output.read(SECRET_BYTES_MAX + 1)
    if len(body) > SECRET_BYTES_MAX:
        raise Fault(f"the command {arguments[0]!r} of a secret prints more than {SECRET_BYTES_MAX:,} bytes")
    return loaders.decoded(body, f"output of {arguments[0]}")


_SOURCES = {"file": _from_file, "env": _from_environment, "cmd": _from_command}


@function("unixtime()", example="{{ unixtime() }}", result="1700000000")
def unixtime(frame: Frame) -> int:
    """Seconds since 1970."""
    return int(frame.run.scope.clock.now())
