"""Operators and methods whose result could be huge: its size is checked before the operation."""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from infrakit.template.failures import Fault, kind_of
from infrakit.template.limits import Budget
from infrakit.template.run import text_of

_BITS_MAX = 4096
_WIDTH_MAX = 1000
_FORMAT_BYTES_MAX = 10_000  # the search for its conversions is not linear
_NEEDLE_BYTES_MAX = 1000
_CONVERSION = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\*|\d+)?(?:\.(\*|\d+))?[hlL]?(.|$)", re.DOTALL)


def _bits(value: object) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def _add(budget: Budget, left: Any, right: Any) -> Any:
    if isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
        budget.size(len(left) + len(right))
    if isinstance(left, str) != isinstance(right, str):
        raise Fault(f"cannot add {kind_of(left)} and {kind_of(right)}", "join texts with ~")
    return left + right


def _multiply(budget: Budget, left: Any, right: Any) -> Any:
    if not _is_number(left):
        left, right = right, left
    if isinstance(right, str | list | tuple):
        if not isinstance(left, int):
            raise Fault(f"cannot multiply {kind_of(right)} and {kind_of(left)}")
        budget.size(max(left, 0) * len(right) * (1 if isinstance(right, str) else 8))
    elif _bits(left) + _bits(right) > _BITS_MAX:
        raise Fault(f"the product has more than {_BITS_MAX:,} bits")
    return left * right


def _power(_budget: Budget, left: Any, right: Any) -> Any:
    if not (_is_number(left) and _is_number(right)):
        raise Fault(f"cannot raise {kind_of(left)} to {kind_of(right)}")
    if isinstance(left, int) and isinstance(right, int) and max(_bits(left), 1) * abs(right) > _BITS_MAX:
        raise Fault(f"the power has more than {_BITS_MAX:,} bits")
    return left**right


def _modulo(budget: Budget, left: Any, right: Any) -> Any:
    return formatted(budget, left, right) if isinstance(left, str) else left % right


def formatted(budget: Budget, text: str, values: Any) -> str:
    """Return `text % values`, with bounded widths."""
    if len(text) > _FORMAT_BYTES_MAX:
        raise Fault(f"a format has more than {_FORMAT_BYTES_MAX:,} bytes")
    total = len(text)
    for width, precision, _ in _CONVERSION.findall(text):
        if "*" in (width, precision):
            raise Fault("the width * of a format is not available in templates", "write the width as a number")
        if max(_number(width), _number(precision)) > _WIDTH_MAX:
            raise Fault(f"a format is wider than {_WIDTH_MAX:,} characters")
        total += _WIDTH_MAX if width or precision else 0
    shown: Any
    if isinstance(values, Mapping):
        shown = {name: _shown(value) for name, value in values.items()}
        longest = max((len(str(value)) for value in shown.values()), default=0)
        total += longest * text.count("%(")  # a name may occur many times
    else:
        shown = tuple(_shown(value) for value in (values if isinstance(values, tuple) else (values,)))
        total += sum(len(str(value)) for value in shown)
    budget.size(total)
    result: str = text % shown
    return result


def _number(digits: str) -> int:
    return int(digits or 0) if len(digits) < 9 else _WIDTH_MAX + 1


def _shown(value: object) -> object:
    """Return numbers unchanged, and any other value as it is printed."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text_of(value)


BINARY: Mapping[str, Callable[[Budget, Any, Any], Any]] = {
    "+": _add,
    "-": lambda _budget, left, right: operator.sub(left, right),
    "*": _multiply,
    "/": lambda _budget, left, right: operator.truediv(left, right),
    "//": lambda _budget, left, right: operator.floordiv(left, right),
    "**": _power,
    "%": _modulo,
}


def check_method(budget: Budget, method: Any, args: tuple[Any, ...]) -> None:
    """Check the size of the result before a method of a string is called."""
    text = method.__self__
    if not isinstance(text, str):
        return
    match method.__name__, args:
        case (("strip" | "lstrip" | "rstrip" | "rfind" | "rsplit" | "rpartition"), (str() as needle, *_)):
            check_needle(needle)
        case "replace", (str() as old, str() as new, *_):
            check_replace(budget, text, old, new)
        case "join", (parts,):
            check_join(budget, text, parts)
        case (("center" | "ljust" | "rjust" | "zfill"), (int() as width, *_)):
            budget.size(max(width, len(text)))


def check_needle(needle: str) -> None:
    """Check the length of a search text: a search backwards or by character costs the product of both lengths."""
    if len(needle) > _NEEDLE_BYTES_MAX:
        raise Fault(f"the search text has more than {_NEEDLE_BYTES_MAX:,} bytes")


def check_replace(budget: Budget, text: str, old: str, new: str) -> None:
    """Check the size of `text.replace(old, new)`."""
    count = text.count(old)
    budget.size(len(text) + count * max(len(new) - len(old), 0))


def check_join(budget: Budget, separator: str, parts: Any) -> None:
    """Check the size of `separator.join(parts)`."""
    if isinstance(parts, str | list | tuple):
        budget.size(sum(len(part) for part in parts if isinstance(part, str)) + len(separator) * len(parts))
    elif not isinstance(parts, Mapping):
        raise Fault(f"cannot join {kind_of(parts)}", "convert it to a list first: | list")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
