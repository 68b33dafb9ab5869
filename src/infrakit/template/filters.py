"""Filters and tests: those of Jinja2 that suit configuration. Arguments are bounded, and results charged to the budget.

Not available are filters for web pages (`escape`, `safe`, `urlize`, `xmlattr`, `striptags`), those whose run time
within one call is unbounded (`wordwrap`, `slice`), and those that access attributes or randomness (`attr`, `random`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from types import GeneratorType
from typing import Any

import jinja2
from jinja2 import filters as native
from jinja2.runtime import Undefined

from infrakit.template import operators
from infrakit.template.failures import Fault, kind_of
from infrakit.template.limits import Budget
from infrakit.template.run import TemplateContext, text_of

_ITEMS_MAX = 100_000
_ARGUMENT_ERROR = re.compile(r"[\w.]*\(\) (?P<what>(missing|takes|got) .*)", re.DOTALL)
_NATIVE = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last",
    "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr",
    "sort", "title", "trim", "truncate", "upper", "urlencode", "wordcount", "batch", "round", "center", "indent",
)  # fmt: skip
_STRING_FILTERS = ("capitalize", "center", "indent", "lower", "title", "trim", "truncate", "upper", "wordcount")
TESTS = (
    "boolean", "defined", "divisibleby", "eq", "equalto", "even", "false", "float", "ge", "gt", "in", "integer",
    "iterable", "le", "lower", "lt", "mapping", "ne", "none", "number", "odd", "sequence", "string", "test",
    "filter", "true", "undefined", "upper", "==", "!=", ">", ">=", "<", "<=", "greaterthan", "lessthan", "sameas",
)  # fmt: skip
REPLACEMENTS = {
    "tojson": "to_json", "e": "leave it out: nothing is escaped", "escape": "leave it out: nothing is escaped",
    "safe": "leave it out: nothing is escaped", "b64encode": "base64", "b64decode": "unbase64",
    "shell_quote": "quote", "wordwrap": "truncate", "format": "%",
}  # fmt: skip


def _center(budget: Budget, value: Any, width: int = 80) -> None:
    budget.size(max(width, len(value)))


def _indent(budget: Budget, value: Any, width: int | str = 4, *_: Any, **__: Any) -> None:
    one = width if isinstance(width, int) else len(width)
    budget.size(len(value) + (value.count("\n") + 1) * max(one, 0))


def _batch(_budget: Budget, _value: Any, linecount: int, *_: Any, **__: Any) -> None:
    if not 0 < linecount <= _ITEMS_MAX:
        raise Fault(f"batch takes 1 to {_ITEMS_MAX:,} items, got {linecount}")


def _round(_budget: Budget, _value: Any, precision: int = 0, *_: Any, **__: Any) -> None:
    if not -20 <= precision <= 20:
        raise Fault(f"round takes a precision from -20 to 20, got {precision}")


def _trim(_budget: Budget, _value: Any, chars: str | None = None) -> None:
    operators.check_needle(chars or "")


_CHECKS: dict[str, Callable[..., None]] = {
    "center": _center, "trim": _trim, "indent": _indent, "batch": _batch, "round": _round,
}  # fmt: skip


def guarded(name: str, body: Callable[..., Any], check: Callable[..., None] | None = None) -> Callable[..., Any]:
    """Return `body` as a filter that is charged to the budget of its render.

    `body` takes the context first. `check` validates the arguments before the call.
    """

    @jinja2.pass_context
    def bounded(context: TemplateContext, /, value: Any, *args: Any, **kwargs: Any) -> Any:
        run = context.frame.run
        run.budget.step()
        if check is not None:
            if isinstance(value, Undefined):
                str(value)  # raises
            check(run.budget, value, *args, **kwargs)
        try:
            result = body(context, value, *args, **kwargs)
        except (TypeError, AttributeError) as error:
            raise _call_error(name, value, str(error)) from error
        if isinstance(result, GeneratorType | map | filter):
            result = list(_counted(run.budget, result))
        run.budget.value(result)
        if run.secrets:
            run.taint(iter((value, *args, *kwargs.values())), result)
        if run.pieces and isinstance(value, str) and isinstance(result, str):
            run.track_reshaped(value, result)
        return result

    bounded.__name__ = name
    return bounded


def _call_error(name: str, value: object, text: str) -> Fault:
    """Translate Python's error for an invalid call to the terms of templates."""
    arguments = _ARGUMENT_ERROR.match(text)
    if arguments:
        return Fault(f"the filter {name}: {arguments['what']}")
    return Fault(f"the filter {name} cannot be used on {kind_of(value)}")


def _counted(budget: Budget, items: Iterator[Any]) -> Iterator[Any]:
    for each in items:
        budget.step()
        yield each


def _adapted(name_of_filter: str) -> Callable[..., Any]:
    """Adapt a filter of Jinja2 to the signature of `guarded`: pass it the context, the environment, or neither.

    A filter of strings receives a value as it would be printed.
    """
    body = native.FILTERS[name_of_filter]
    takes_string = name_of_filter in _STRING_FILTERS
    passes = getattr(body, "jinja_pass_arg", None)
    name = getattr(passes, "name", "")

    def adapted(context: TemplateContext, value: Any, *args: Any, **kwargs: Any) -> Any:
        value = text_of(value) if takes_string else value
        if name == "context":
            return body(context, value, *args, **kwargs)
        if name == "eval_context":
            return body(context.eval_ctx, value, *args, **kwargs)
        if name == "environment":
            return body(context.environment, value, *args, **kwargs)
        return body(value, *args, **kwargs)

    return adapted


def _join(context: TemplateContext, value: Any, separator: str = "", attribute: Any = None) -> str:
    items = value if attribute is None else native.sync_do_map(context, value, attribute=attribute)
    texts = [text_of(each) for each in _counted(context.frame.run.budget, iter(items))]
    operators.check_join(context.frame.run.budget, separator, texts)
    return separator.join(texts)


def _replace(context: TemplateContext, value: Any, old: Any, new: Any, count: int = -1) -> str:
    text, before, after = text_of(value), text_of(old), text_of(new)
    operators.check_replace(context.frame.run.budget, text, before, after)
    return text.replace(before, after, count)


def _string(_context: TemplateContext, value: Any) -> str:
    return text_of(value)


def _format(context: TemplateContext, value: str, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise Fault("format takes values or names, not both")
    return operators.formatted(context.frame.run.budget, value, kwargs or args)


def _unique(context: TemplateContext, value: Any, case_sensitive: bool = False, attribute: Any = None) -> list[Any]:
    """Remove duplicates, one step per item: colliding hashes make a set of chosen numbers quadratic."""
    keys = value if attribute is None else list(native.sync_do_map(context, value, attribute=attribute))
    seen, unique = set(), []
    for key, each in zip(keys, value, strict=True):
        context.frame.run.budget.step()
        known = key.lower() if isinstance(key, str) and not case_sensitive else key
        if known not in seen:
            seen.add(known)
            unique.append(each)
    return unique


def _sum(context: TemplateContext, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    items = value if attribute is None else native.sync_do_map(context, value, attribute=attribute)
    total = start
    for each in _counted(context.frame.run.budget, iter(items)):
        if not isinstance(each, int | float) or not isinstance(total, int | float):
            raise Fault(f"sum takes numbers, found {kind_of(each)}")
        total += each
    return total


OWN: Mapping[str, Callable[..., Any]] = {
    "join": _join, "replace": _replace, "string": _string, "format": _format, "unique": _unique, "sum": _sum,
}  # fmt: skip
FILTERS: dict[str, Callable[..., Any]] = {
    **{name: guarded(name, _adapted(name), _CHECKS.get(name)) for name in _NATIVE},
    **{name: guarded(name, body) for name, body in OWN.items()},
}
