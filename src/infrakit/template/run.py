"""The state of one render: its budget, its needs, its secrets, and a frame for each template."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jinja2.runtime import Context

from infrakit.template.failures import Fault, kind_of, refuse
from infrakit.template.limits import Budget, Exceeded
from infrakit.template.scope import Scope
from infrakit.template.values import Need, Origin, Template, Templates, mask

if TYPE_CHECKING:
    from infrakit.template.loaders import Source

LITERAL_IN = "text in "
SECRETS_MAX = 1000
SECRET_PART_MIN = 4  # a value derived from a secret is secret, unless it is too short to disclose it


Execute = Callable[["Frame"], tuple[str, dict[str, object]]]  # returns the output of a template, and its definitions


class Run:
    """The state that all templates of one render share."""

    def __init__(self, engine: Templates, scope: Scope, execute: Execute, *, trace: bool) -> None:
        self.engine = engine
        self.execute = execute  # renders an included template
        self.scope = scope
        self.budget = Budget(engine.limits)
        self.exports: dict[str, object] = {}
        self.needs: dict[tuple[str, str, str], Need] = {}
        self.secrets: set[str] = set()
        self.secret_values: dict[str, str] = {}  # by reference
        self.fetched: set[str] = set()  # remote addresses
        self.call_depth = 0
        self.templates: dict[str, Template] = {}  # by the file name under which they are compiled
        self.pieces: dict[str, tuple[Origin | None, ...]] | None = {} if trace else None

    def record_need(self, frame: "Frame", kind: str, name: str, found_in: str) -> None:
        """Record a need; `found_in` is empty if it is missing."""
        key = (kind, name, frame.template.name)
        if key not in self.needs:
            self.needs[key] = Need(kind=kind, name=name, template=frame.template.name, found_in=found_in)

    def resolve_need(self, frame: "Frame", kind: str, name: str, found_in: str) -> None:
        """Replace the record of a missing need: it has been found."""
        self.needs.pop((kind, name, frame.template.name), None)
        self.record_need(frame, kind, name, found_in)

    def taint(self, arguments: Iterator[object], result: object) -> None:
        """Mark a result as secret if it is derived from a secret."""
        if isinstance(result, str) and len(result) >= SECRET_PART_MIN:
            texts = [each for each in arguments if isinstance(each, str)]
            from_secret = any(secret in text for text in texts for secret in self.secrets)
            if from_secret and not any(secret in result for secret in self.secrets):
                self.secrets.add(result)
                if len(self.secrets) > SECRETS_MAX:
                    raise Exceeded(f"more than {SECRETS_MAX:,} values are derived from secrets")

    def track_reshaped(self, before: str, after: str) -> None:
        """Keep the origins of lines through a filter that preserves their number, such as indentation."""
        if self.pieces and before in self.pieces and before.count("\n") == after.count("\n"):
            self.pieces.setdefault(after, self.pieces[before])

    def masked(self, text: str) -> str:
        """Mask the secrets in `text`."""
        return mask(text, frozenset(self.secrets)) if self.secrets else text


class Frame:
    """The execution of one template, with its variables."""

    __slots__ = ("definitions", "depth", "run", "template", "variables")

    def __init__(
        self, run: Run, template: Template, variables: dict[str, object], definitions: dict[str, object], depth: int
    ) -> None:
        self.run = run
        self.template = template
        self.variables = variables  # of `var`, by normalized name
        self.definitions = definitions  # macros and variables of sourced templates
        self.depth = depth

    def nested(self, source: "Source", *, variables: dict[str, object], definitions: dict[str, object]) -> "Frame":
        """Return the frame of a template that this one includes or sources."""
        from infrakit.template.loaders import display

        depth = self.depth + 1
        if depth > self.run.engine.limits.depth_max:
            raise Exceeded(f"includes go deeper than {self.run.engine.limits.depth_max}: check for a circular one")
        if any(secret in source.text for secret in self.run.secrets):  # its syntax errors could not be reported
            raise Fault(
                "the text of a template may not contain a secret", "pass it: include(ADDRESS, name=secret(...))"
            )
        is_literal = source.address == self.template.address
        name = f"{LITERAL_IN}{self.template.name.removeprefix(LITERAL_IN)}" if is_literal else display(source.address)
        return Frame(self.run, self.run.engine.compiled(source, name), variables, definitions, depth)


class TemplateContext(Context):
    """Jinja2's view of a frame."""

    frame: Frame


def text_of(value: object) -> str:
    """Return a value as it is printed: a string unchanged, any other value as JSON. Raises `Fault` for null."""
    if type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if value is None:
        raise Fault("the value is null, which prints as nothing", "give a default: | default('...', true)")
    if isinstance(value, Definitions):
        return ""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=plain)
    return _refuse_to_print(value)


class Definitions(dict[str, Any]):
    """The definitions that `source` has imported; printed as an empty string."""


def plain(value: object) -> object:
    """Convert any mapping to a dict for JSON. Raises `Fault` for an object that is not a value."""
    if isinstance(value, Mapping):
        return dict(value)
    return _refuse_to_print(value)


def _refuse_to_print(value: object) -> str:
    from jinja2.runtime import Macro, Undefined

    from infrakit.template.functions.table import Function

    if isinstance(value, Undefined):
        return str(value)  # raises
    if isinstance(value, Macro | Function):
        refuse(f"{value.name} is a function", f"call it: {value.name}(...)")
    return refuse(
        f"{kind_of(value)} cannot be printed", "convert it to a list: | list" if hasattr(value, "__iter__") else ""
    )


def line_count(text: str) -> int:
    """Return the number of lines of output; the last one may lack its line end."""
    return text.count("\n") + (not text.endswith("\n")) if text else 0
