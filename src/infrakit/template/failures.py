"""Translates exceptions inside templates to errors for the template's author: template, line, chain of includes.

The place comes from Python's traceback: every template is compiled under a unique file name, and Jinja2 maps each line
of the compiled code to a line of the template.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn

from jinja2 import TemplateSyntaxError, UndefinedError

from infrakit.spi.errors import InfraKitError, InvalidSpec, NotFound, Problem, Refused, Throttled, Unreachable
from infrakit.template.limits import Exceeded

_NAME_BYTES_MAX = 64
_CANDIDATES_MAX = 1000
_MESSAGE_BYTES_MAX = 2000
_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")  # the `repr` of a Python object
_OTHER_KINDS = {"Function": "function", "CallerFunction": "function", "Macro": "function", "_Variables": "namespace"}
_SCOPES = "{% set %} in a loop or a macro is local to it"
_ODD_CHARACTER = re.compile(r"unexpected char (?P<shown>.+) at \d+")  # its offset is of no use to the author
_NATIVE = (NotFound, Refused, Unreachable)  # errors of fetching, raised unchanged


class Fault(Exception):
    """A mistake of the template's author that a function or the sandbox has detected."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UndefinedFault(UndefinedError):
    """An undefined name: of a variable, or of a member of `owner`."""

    def __init__(self, name: Any, owner: Any, message: str | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.owner = owner


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint with the most similar known name; empty if none is similar."""
    if len(name) > _NAME_BYTES_MAX:  # the cost of a comparison is the product of both lengths
        return ""
    candidates = sorted({each for each in known if len(each) <= _NAME_BYTES_MAX})[:_CANDIDATES_MAX]
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def syntax_error(error: Exception, name: str) -> InvalidSpec:
    """Return the error for a template that cannot be compiled."""
    line, hint = None, ""
    if isinstance(error, TemplateSyntaxError):
        message, line, hint = error.message or "malformed", error.lineno, getattr(error, "hint", "")
        if odd := _ODD_CHARACTER.fullmatch(message):
            is_quote = odd["shown"].strip("'\"") == "" or odd["shown"][1:-1] in {'"', "'"}
            message = "unterminated string" if is_quote else f"unexpected character {odd['shown']}"
    elif isinstance(error, Fault | Exceeded):
        message, hint = str(error), getattr(error, "hint", "")
    elif isinstance(error, RecursionError | MemoryError | SyntaxError):
        message = "blocks or expressions are nested too deeply"
    else:
        message = f"cannot be compiled: {error}"
    return InvalidSpec([Problem(path="", line=line, message=_sentence(message), hint=hint)], where=name)


def explained(
    error: Exception, places: Sequence[tuple[str, int]], names: Collection[str], masked: Callable[[str], str]
) -> InfraKitError:
    """Return the error to raise, without secrets.

    `places` are templates and lines, from the outermost to the one that failed.
    """

    def shown(text: str) -> str:
        text = masked(text)
        text = text if len(text) <= _MESSAGE_BYTES_MAX else f"{text[:_MESSAGE_BYTES_MAX]}..."
        return _OBJECT.sub("an object", text)

    where, line = places[-1] if places else ("", None)
    chain = [f"line {number} of {template}" for template, number in places[:-1]]
    via = f"included from {', '.join(reversed(chain))}" if chain else ""
    if isinstance(error, Throttled):
        return Throttled(shown(error.what), after_s=error.after_s, where=error.where, remedy=error.remedy)
    if isinstance(error, _NATIVE):
        needed_by = f"named in line {line} of {where}" if places else ""
        remedy = _joined(needed_by, via, error.remedy)
        return type(error)(shown(error.what), where=shown(error.where), remedy=shown(remedy))
    if isinstance(error, InvalidSpec):  # an included template that cannot be compiled
        here = f"included from line {line} of {where}" if places else ""
        hint = ", ".join(part for part in (here, *reversed(chain)) if part)
        problems = [
            Problem(
                path=each.path,
                message=shown(each.message),
                line=each.line,
                hint=_joined(each.hint, hint),
            )
            for each in error.problems
        ]
        return InvalidSpec(problems, where=error.where)
    message, hint = _described(error, names)
    hint = _joined(hint, via)
    return InvalidSpec([Problem(path="", line=line, message=shown(message), hint=shown(hint))], where=where)


def frames(trace: TracebackType | None) -> Iterator[tuple[str, int]]:
    """Yield file and line of each stack frame, outermost first."""
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


def string_argument(value: object, what: str) -> str:
    """Return `value` if it is a string. Raises `Fault` otherwise; `what` is the function or the argument."""
    if not isinstance(value, str):
        raise Fault(f"expected a string for {what}, got {kind_of(value)}")
    return value


def refuse(message: str, hint: str = "") -> NoReturn:
    """Raise a `Fault`: the statement as an expression."""
    raise Fault(message, hint)


def _described(error: Exception, names: Collection[str]) -> tuple[str, str]:
    if isinstance(error, UndefinedFault):
        return _undefined(error, names)
    if isinstance(error, Fault):
        return error.message, error.hint
    if isinstance(error, RecursionError):
        return "values, macros or includes are nested too deeply", ""
    text = str(error) if isinstance(error, Exceeded | InfraKitError) else _sentence(str(error))
    return text or type(error).__name__, ""


def _undefined(error: UndefinedFault, names: Collection[str]) -> tuple[str, str]:
    if isinstance(error.owner, Mapping):
        return f"there is no {error.name!r} in this mapping", nearest(str(error.name), map(str, error.owner))
    if error.name is not None and not _is_missing(error.owner):
        return f"{kind_of(error.owner)} has no {error.name!r}", ""
    if error.name is not None and error.name in names:  # defined in another scope, or later
        name = error.name
        return f"{name!r} is not defined here", f"read a variable of set({name!r}, ...) with var({name!r}); {_SCOPES}"
    if error.name is not None:
        return f"{error.name!r} is not defined", nearest(str(error.name), names)
    return _sentence(str(error)), ""


def _is_missing(owner: object) -> bool:
    from jinja2.utils import missing

    return owner is missing


def kind_of(value: object) -> str:
    """Return the kind of a value in words, such as `a list`."""
    names = {
        str: "a string",
        int: "a number",
        float: "a number",
        bool: "a boolean",
        list: "a list",
        tuple: "a list",
        dict: "a mapping",
    }
    if value is None:
        return "null"
    return names.get(type(value)) or f"a {_OTHER_KINDS.get(type(value).__name__, type(value).__name__)}"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _sentence(text: str) -> str:
    """Format a message of another library like ours: without capital letter and full stop."""
    text = " ".join(text.split()).rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
