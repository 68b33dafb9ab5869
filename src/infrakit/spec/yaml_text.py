"""A YAML parser with line numbers, by the core schema of YAML 1.2.

PyYAML's own loaders follow YAML 1.1, where `no` is false, `010` is 8 and `1:30` is 90, and where a repeated key
silently wins. Only its parser is used: it yields one event at a time, so that an alias bomb is refused while it
expands.
"""

import itertools
import re
from typing import Any

import yaml

from infrakit.spec.tree import Builder
from infrakit.spi.errors import InvalidSpec, Problem

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, if PyYAML was built with it
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BASED = re.compile(r"0o(?P<octal>[0-7]+)|0x(?P<hex>[0-9a-fA-F]+)")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAG = "tag:yaml.org,2002:"
_DIRECTIVE = re.compile(r"[\n\r\x85\u2028\u2029]%")
_DIRECTIVES_MAX = 100  # the parser's cost is quadratic in them


def read(text: str, builder: Builder) -> None:
    """Report the events of `text` to the builder. Raises `InvalidSpec` with one problem."""
    if sum(1 for _ in itertools.islice(_DIRECTIVE.finditer(text), _DIRECTIVES_MAX + 1)) > _DIRECTIVES_MAX:
        raise InvalidSpec([Problem(path="", message=f"more than {_DIRECTIVES_MAX} lines that begin with %")])
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            _report(event, builder)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line, text.count("\n")) + 1 if mark else None
        since = f" that begins on line {error.context_mark.line + 1}" if error.context_mark else ""
        context = f" ({error.context}{since})" if error.context else ""
        raise InvalidSpec([Problem(path="", line=line, message=f"not YAML: {error.problem}{context}")]) from None
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position] if _LOADER is not yaml.SafeLoader else text[: error.position].encode()
        line = before.count(b"\n") + 1
        raise InvalidSpec([Problem(path="", line=line, message=f"not YAML: {error.reason}")]) from None


def _report(event: Any, builder: Builder) -> None:
    line = event.start_mark.line + 1
    if isinstance(event, yaml.ScalarEvent):
        _scalar(event, builder, line)
    elif isinstance(event, yaml.MappingStartEvent):
        _check_tag(event, "map", builder, line)
        builder.begin({}, line, event.anchor)
    elif isinstance(event, yaml.SequenceStartEvent):
        _check_tag(event, "seq", builder, line)
        builder.begin([], line, event.anchor)
    elif isinstance(event, yaml.CollectionEndEvent):
        builder.end()
    elif isinstance(event, yaml.AliasEvent):
        builder.alias(str(event.anchor), line)
    elif isinstance(event, yaml.DocumentStartEvent):
        builder.document()


def _scalar(event: Any, builder: Builder, line: int) -> None:
    _check_tag(event, "str", builder, line)
    plain = event.implicit[0] and event.tag is None
    if not builder.wants_key:
        builder.scalar(_value(event.value, builder, line) if plain else event.value, line, event.anchor)
    elif plain and event.value == "<<":
        raise builder.error("found the merge key <<, which YAML 1.2 does not have", line, "write the members out")
    else:
        builder.key(event.value, line)  # as written: 80, true and null are names here


def _value(text: str, builder: Builder, line: int) -> Any:
    """Return the value of a plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _DECIMAL.fullmatch(text):
        return builder.number(text, line)
    if based := _BASED.fullmatch(text):
        return builder.number(based[based.lastgroup or 0], line, base=8 if based["octal"] else 16)
    if _INFINITE.fullmatch(text):
        raise builder.error(f"found {text}, expected a finite number", line)
    return text


def _check_tag(event: Any, accepted: str, builder: Builder, line: int) -> None:
    tag = event.tag
    if tag not in (None, "!", _TAG + accepted):
        shown = "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
        raise builder.error(f"found the tag {shown[:64]}, expected a plain value", line, "tags are not accepted")
