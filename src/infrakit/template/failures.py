"""From an exception inside a template to an error that its author understands: template, line, chain of includes.

Python's own traceback knows where it happened: every template is compiled under a file name of its own, and Jinja2
keeps which line of a template each line of code came from.
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
_OBJECT = re.compile(r"<[^<>]* at 0x[0-9a-f]+>")  # as Python shows what is no value
_OTHER_KINDS = {"Function": "function", "Provided": "function", "Macro": "function", "_Variables": "namespace"}
_SCOPES = "what {% set %} sets in a loop or a macro is known in it only"
_ODD_CHARACTER = re.compile(r"unexpected char (?P<shown>.+) at \d+")  # its offset is of no use to the author
_NATIVE = (NotFound, Refused, Unreachable)  # errors of fetching, raised unchanged


class Fault(Exception):
    """A mistake of the template's author, found by a function or by the sandbox."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UndefinedFault(UndefinedError):
    """A name that means nothing: of a variable, or of a member of `owner`."""

    def __init__(self, name: Any, owner: Any, message: str | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.owner = owner


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint: the known name that was probably meant, if one is near."""
    if len(name) > _NAME_BYTES_MAX:  # comparing takes as many steps as both are long, multiplied
        return ""
    candidates = sorted({each for each in known if len(each) <= _NAME_BYTES_MAX})[:_CANDIDATES_MAX]
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def syntax_error(error: Exception, name: str) -> InvalidSpec:
    """What is wrong with the text of a template itself."""
    line, hint = None, ""
    if isinstance(error, TemplateSyntaxError):
        message, line, hint = error.message or "malformed", error.lineno, getattr(error, "hint", "")
        if odd := _ODD_CHARACTER.fullmatch(message):
            is_quote = odd["shown"].strip("'\"") == "" or odd["shown"][1:-1] in {'"', "'"}
            message = "a text in quotes has no end" if is_quote else f"unexpected character {odd['shown']}"
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
    """The error to raise, without secrets. `places` are templates and lines, from the first to the one that failed."""

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
        asked = f"named in line {line} of {where}" if places else ""
        remedy = _joined(asked, via, error.remedy)
        return type(error)(shown(error.what), where=shown(error.where), remedy=shown(remedy))
    if isinstance(error, InvalidSpec):  # an included text that cannot be compiled
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
    """File and line of everything that was under way, outermost first."""
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


def text(value: object, what: str) -> str:
    """An argument that must be a text."""
    if not isinstance(value, str):
        raise Fault(f"{what} takes a text, got {kind_of(value)}")
    return value


def refuse(message: str, hint: str = "") -> NoReturn:
    """For use in expressions and short functions."""
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
    if error.name is not None and error.name in names:  # it came to be meanwhile, or elsewhere
        name = error.name
        return f"{name!r} is not defined here", f"what set({name!r}, ...) has set is var({name!r}); {_SCOPES}"
    if error.name is not None:
        return f"{error.name!r} is not defined", nearest(str(error.name), names)
    return _sentence(str(error)), ""


def _is_missing(owner: object) -> bool:
    from jinja2.utils import missing

    return owner is missing


def kind_of(value: object) -> str:
    """What a value is, in words."""
    names = {
        str: "a text",
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
    """Messages of other libraries in the form of ours: no capital, no full stop."""
    text = " ".join(text.split()).rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
