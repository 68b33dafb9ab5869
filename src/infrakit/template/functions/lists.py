"""Functions for lists, mappings and strings."""

import shlex
from typing import Any

from jinja2.utils import Namespace

from infrakit.template.failures import Fault
from infrakit.template.functions.table import alias, function
from infrakit.template.limits import Exceeded
from infrakit.template.run import Frame, text_of

RANGE_MAX = 100_000
_NUMBER_MAX = 10**12


class _Variables(Namespace):
    def __repr__(self) -> str:
        return "namespace(...)"  # it may contain itself


@function("range(start, stop, step)", example="{% for n in range(3) %}{{ n }} {% endfor %}", result="0 1 2 ")
def range_(_frame: Frame, *bounds: Any) -> range:
    """Return the integers from `start`, by default 0, up to but not including `stop`."""
    if not 1 <= len(bounds) <= 3 or any(not isinstance(each, int) or abs(each) > _NUMBER_MAX for each in bounds):
        raise Fault("range takes one to three whole numbers")
    if len(bounds) == 3 and bounds[2] == 0:
        raise Fault("range takes steps other than 0")
    numbers = range(*bounds)
    if len(numbers) > RANGE_MAX:
        raise Exceeded(f"range has more than {RANGE_MAX:,} numbers")
    return numbers


@function("loop(count)", example="{{ loop(3) | join(',') }}", result="0,1,2")
def loop(frame: Frame, count: int) -> list[int]:
    """Return the list of integers from 0 up to but not including `count`."""
    return list(range_.body(frame, count))  # type: ignore[call-overload, no-any-return]


@function("dict(**members)", example="{{ dict(size=3) }}", result='{"size": 3}')
def dict_(_frame: Frame, /, **members: object) -> dict[str, object]:
    """Create a mapping from its arguments."""
    return members


@function(
    "namespace(**variables)",
    example="{% set seen = namespace(n=0) %}{% for n in [1, 2] %}{% set seen.n = n %}{% endfor %}{{ seen.n }}",
    result="2",
)
def namespace(_frame: Frame, /, **variables: object) -> Namespace:
    """Create variables that `{% set %}` in a loop can change and that keep their values after it."""
    return _Variables(**variables)


@function("lines(text)", example="{{ lines('a\\nb') }}", result='["a", "b"]', is_filter=True)
def lines(_frame: Frame, text: str) -> list[str]:
    """Split a string into lines, without line ends."""
    return text.split("\n")


@function("quote(value)", example='{{ quote("it\'s $HOME") }}', result="'it'\"'\"'s $HOME'", is_filter=True)
def quote(_frame: Frame, value: object) -> str:
    """Quote a value as one word of a shell command."""
    return shlex.quote(text_of(value))


shq = alias(quote, "shq(value)", example="{{ 'a b' | shq }}", result="'a b'")


@function("index_of(needle, list, strict)", example="{{ index_of(2, ['1', '2']) }}", result="1")
def index_of(_frame: Frame, needle: object, items: Any, strict: bool = False) -> int:
    """Return the index of an element in a list, from 0; -1 if it is absent. Compares as text unless strict."""
    for index, each in enumerate(items):
        if each == needle or (not strict and text_of(each) == text_of(needle)):
            return index
    return -1


index_of_original = alias(
    index_of, "indexOf(needle, list, strict)", example="{{ indexOf('b', ['a', 'b']) }}", result="1"
)
