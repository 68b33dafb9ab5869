"""YAML in templates: small values by the core schema of YAML 1.2, without anchors, which prevents alias bombs."""

import re
from typing import Any

import yaml

from infrakit.template.failures import Fault
from infrakit.template.limits import Budget

DEPTH_MAX = 100
_DIRECTIVE = re.compile(r"[\n\r\x85\u2028\u2029]%")  # the parser's cost is quadratic in them
_EVENT_BYTES = 48  # the minimum size of a value
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
}


class _Loader(_Base):  # type: ignore[misc]
    """PyYAML's loader with the scalars of YAML 1.2, which are added below."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_yaml_int(self, node: Any) -> int:
        text = node.value
        return int(text, 16) if text.startswith("0x") else int(text)


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor(_TAG + "int", _Loader.construct_yaml_int)


def read(text: str, budget: Budget) -> object:
    """Parse a document of one value. Raises `Fault`."""
    if text.startswith("%") or _DIRECTIVE.search(text):
        raise Fault("YAML with lines that begin with % is not allowed in templates")
    try:
        depth = 0
        for number, event in enumerate(yaml.parse(text, Loader=_Base)):
            budget.step()
            budget.size(number * _EVENT_BYTES)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_MAX:  # composing recurses in C, without a depth limit
                raise Fault(f"YAML nested more than {DEPTH_MAX} deep in line {_line(event)}")
            if getattr(event, "anchor", None):
                raise Fault(f"YAML anchors and aliases are not allowed in templates: found one in line {_line(event)}")
            tag = getattr(event, "tag", None)
            if tag and tag != "!":
                raise Fault(f"YAML tags are not allowed in templates: found {tag[:64]} in line {_line(event)}")
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Fault(f"not YAML: {error.problem}" + (f" in line {mark.line + 1}" if mark else "")) from None
    except (yaml.YAMLError, ValueError) as error:
        raise Fault(f"not YAML: {type(error).__name__}") from None


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def write(value: object) -> str:
    """Encode a plain value in block style, with members in their order."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1 << 20)
    return text.removesuffix("...\n")
