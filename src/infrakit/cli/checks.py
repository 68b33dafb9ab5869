"""Detects the format of a rendered text (shell, JSON or YAML) and checks its syntax, without running any of it."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from infrakit.cli import rendering
from infrakit.spi.errors import Refused

KINDS = ("bash", "sh", "json", "yaml")
TIMEOUT_S = 30.0

_BY_SUFFIX = {"sh": "bash", "bash": "bash", "json": "json", "yaml": "yaml", "yml": "yaml"}
_BY_FIRST_LINE = (
    (re.compile(r"#!.*\bbash\b"), "bash"),
    (re.compile(r"#!.*[/ ](sh|dash)\b"), "sh"),
    (re.compile(r"#cloud-config\b"), "yaml"),
)
# bash prints `FILE: line 3: ...`, dash prints `FILE: 3: ...`.
_SHELL_ERROR = re.compile(r"^.*?: (?:line )?(?P<line>\d+): (?P<message>.*)$")


class Found(NamedTuple):
    """One syntax error in a text, with its line counted from 1, or None if the line is unknown."""

    line: int | None
    message: str


def kind(text: str, name: str) -> str:
    """Detect one of `KINDS` from the first line of the text, else from the name of its template; empty if unknown."""
    first = text.partition("\n")[0]
    for pattern, known in _BY_FIRST_LINE:
        if pattern.match(first):
            return known
    if first.startswith("#!"):
        return ""
    _, dot, suffix = rendering.without_suffix(name).rpartition("/")[2].rpartition(".")
    return _BY_SUFFIX.get(suffix.lower(), "") if dot else ""


def problems(text: str, kind: str) -> list[Found]:
    """Return all syntax errors that the parser reports. Raises `Refused` if this machine lacks the parser."""
    match kind:
        case "json":
            return list(_json(text))
        case "yaml":
            return list(_yaml(text))
        case "sh":  # first the strict shell; then bash, if installed, which finds more and explains better
            return _shell(text, "sh") or _shell(text, "bash", needed=False)
        case _:
            return _shell(text, "bash")


def _json(text: str) -> Iterator[Found]:
    import json

    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        yield Found(error.lineno, f"not JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        yield Found(None, "not JSON that parsers accept: nested too deeply")


def _yaml(text: str) -> Iterator[Found]:
    import yaml

    try:
        for _ in yaml.compose_all(text, Loader=yaml.CSafeLoader):
            pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(each for each in (error.context, error.problem) if each)
        yield Found(mark.line + 1 if mark else None, f"not YAML: {words}")
    except yaml.YAMLError as error:
        yield Found(None, f"not YAML: {error}")
    except RecursionError:
        yield Found(None, "not YAML that parsers accept: nested too deeply")


def _shell(text: str, shell: str, *, needed: bool = True) -> list[Found]:
    import shutil
    import subprocess
    import tempfile

    path = shutil.which(shell)
    if path is None:
        if not needed:
            return []
        raise Refused(f"{shell} is not installed on this machine", where="--check", remedy=f"install {shell}")
    with tempfile.NamedTemporaryFile("w", prefix="infrakit-", encoding="utf-8", errors="surrogateescape") as script:
        script.write(text)
        script.flush()
        try:
            done = subprocess.run(
                [path, "-n", script.name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={"LC_ALL": "C"},
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [Found(None, f"{shell} -n did not finish within {TIMEOUT_S:g}s")]
    return list(_shell_errors(done.stderr, shell)) if done.returncode else []


def _shell_errors(stderr: str, shell: str) -> Iterator[Found]:
    """Yield one `Found` per line that the shell rejects; a quotation of that line is appended to the message."""
    last: Found | None = None
    for each in stderr.splitlines():
        found = _SHELL_ERROR.match(each)
        line, message = (int(found["line"]), found["message"]) if found else (None, each)
        if last is not None and line == last.line and message.startswith("`"):
            last = Found(last.line, f"{last.message}, in {message}")
            continue
        if last is not None:
            yield last
        last = Found(line, f"{shell}: {message}")
    yield last or Found(None, f"{shell} -n failed without a message")
