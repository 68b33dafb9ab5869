"""YAML of templates: small values by the core schema of YAML 1.2, without anchors, so that text cannot unfold."""

import re
from typing import Any

import yaml

from infrakit.template.failures import Fault
from infrakit.template.limits import Budget

DEPTH_MAX = 100
_DIRECTIVE = re.compile(r"[\n\r\x85\u2028\u2029]%")  # the parser compares each with all before it
_EVENT_BYTES = 48  # what a value weighs at least
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
}


class _Loader(_Base):  # type: ignore[misc]
    """What words mean is set below; the rest is PyYAML's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_yaml_int(self, node: Any) -> int:
        text = node.value
        return int(text, 16) if text.startswith("0x") else int(text)


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor(_TAG + "int", _Loader.construct_yaml_int)


def read(text: str, budget: Budget) -> object:
    """The one value of a document. Raises `Fault`."""
    if text.startswith("%") or _DIRECTIVE.search(text):
        raise Fault("not for templates: a line of YAML that begins with %")
    try:
        depth = 0
        for number, event in enumerate(yaml.parse(text, Loader=_Base)):
            budget.step()
            budget.size(number * _EVENT_BYTES)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_MAX:  # composing recurses in C, without a depth limit
                raise Fault(f"YAML nested more than {DEPTH_MAX} deep in line {_line(event)}")
            if getattr(event, "anchor", None):
                raise Fault(f"not for templates: an anchor or alias in line {_line(event)} of YAML")
            tag = getattr(event, "tag", None)
            if tag and tag != "!":
                raise Fault(f"not for templates: the tag {tag[:64]} in line {_line(event)} of YAML")
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Fault(f"not YAML: {error.problem}" + (f" in line {mark.line + 1}" if mark else "")) from None
    except (yaml.YAMLError, ValueError) as error:
        raise Fault(f"not YAML: {type(error).__name__}") from None


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def write(value: object) -> str:
    """YAML of a plain value, in block style, in the order that members have."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1 << 20)
    return text.removesuffix("...\n")
