"""Functions that read the rendering machine: environment variables, files, secrets and the time."""

import os
import shlex
import signal
import tempfile
from pathlib import Path

from infrakit.spi.errors import Refused
from infrakit.template import addresses, loaders
from infrakit.template.failures import Fault, nearest, string_argument
from infrakit.template.functions.documents import fetch_document
from infrakit.template.functions.table import ABSENT, function
from infrakit.template.run import Frame

COMMAND_S_MAX = 10.0
SECRET_BYTES_MAX = 64_000


@function("env(name, default)", example="{{ env('REGION') }} {{ env('ZONE', 'a') }}", result="north a")
def env(frame: Frame, name: str, default: object = ABSENT) -> object:
    """Return an environment variable that templates may read; else the default."""
    string_argument(name, "env")
    value = os.environ.get(name) if name in frame.run.scope.env else None
    found = "environment" if value is not None else "" if default is ABSENT else "default"
    frame.run.record_need(frame, "env", name, found)
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
    """Return the content of a file of this machine. A relative path is relative to the template."""
    if "://" in string_argument(path, "file") or path == loaders.STDIN:
        raise Fault("file takes a path", "use fetch for other addresses")
    require_local(frame, "file", path)
    document = fetch_document(frame, _address(frame, path), kind="file")
    frame.run.record_need(frame, "file", path, document.address)
    return document.text


@function(
    "secret(reference)", example="{{ secret('file:token') | hash('md5') }}", result="5ebe2294ecd0e0f08eab7690d2a6ee69"
)
def secret(frame: Frame, reference: str) -> str:
    """Return a secret from `file:PATH`, `env:NAME` or `cmd:PROGRAM ARGUMENTS`, without its last newline. Messages
    and traces mask it.

    It appears in the output only; elsewhere, `***` is shown.
    """
    run = frame.run
    kind, _, rest = string_argument(reference, "secret").partition(":")
    if kind not in _SOURCES or not rest:
        raise Fault("secret takes file:PATH, env:NAME or cmd:PROGRAM ARGUMENTS")
    shown = reference if kind != "cmd" else f"cmd:{rest.split(maxsplit=1)[0]}"
    require_local(frame, "secret", shown)
    key = f"{frame.template.address} {reference}"
    if key not in run.secret_values:
        run.record_need(frame, "secret", shown, "")
        value = _SOURCES[kind](frame, rest).removesuffix("\n")
        if not value:
            raise Fault(f"the secret {shown!r} is empty")
        run.secret_values[key] = value
        run.secrets.add(value)
        run.resolve_need(frame, "secret", shown, kind)
    return run.secret_values[key]


def require_local(frame: Frame, kind: str, name: str) -> None:
    """Raise `Refused` unless the template is trusted and the scope allows access to this machine."""
    scope, loader = frame.run.scope, frame.run.engine.loader
    if not scope.local_files or not loader.is_trusted(frame.template.source):
        frame.run.record_need(frame, kind, name, "")
        where = "templates may not" if not scope.local_files else "an untrusted template may not"
        what = f"{where} read files, variables or secrets of this machine here"
        raise Refused(what, where=name, remedy=addresses.TRUST if scope.local_files else "")


def _address(frame: Frame, path: str) -> str:
    """Return the address of a path: relative to the template if that is a file, else to the working directory."""
    is_file = addresses.scheme(frame.template.address) == "file"
    return path if is_file else Path(path).absolute().as_uri()


def _from_file(frame: Frame, path: str) -> str:
    return fetch_document(frame, _address(frame, path), kind="secret").text


def _from_environment(frame: Frame, name: str) -> str:
    return str(env.body(frame, name))


def _from_command(frame: Frame, command: str) -> str:
    """Run a command without a shell and return its output. A failure does not show it: it may contain the secret."""
    import subprocess

    try:
        arguments = shlex.split(command)
    except ValueError:
        raise Fault("the command of a secret has an unterminated quote") from None
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
            raise Fault(f"the command {arguments[0]!r} of a secret did not exit within {timeout_s:.3g} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code:
            raise Fault(f"the command {arguments[0]!r} of a secret exited with status {code}")
        output.seek(0)
        body = output.read(SECRET_BYTES_MAX + 1)
    if len(body) > SECRET_BYTES_MAX:
        raise Fault(f"the command {arguments[0]!r} of a secret prints more than {SECRET_BYTES_MAX:,} bytes")
    return loaders.decoded(body, f"output of {arguments[0]}")


_SOURCES = {"file": _from_file, "env": _from_environment, "cmd": _from_command}


@function("unixtime()", example="{{ unixtime() }}", result="1700000000")
def unixtime(frame: Frame) -> int:
    """Return the Unix time: seconds since 1970."""
    return int(frame.run.scope.clock.now())
