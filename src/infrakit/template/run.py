"""One render under way: what it has spent, asked for and learned, and the templates it is in."""

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


Execute = Callable[["Frame"], tuple[str, dict[str, object]]]  # the text of a template, and what it defines


class Run:
    """What all templates of one render share."""

    def __init__(self, engine: Templates, scope: Scope, execute: Execute, *, trace: bool) -> None:
        self.engine = engine
        self.execute = execute  # an included template
        self.scope = scope
        self.budget = Budget(engine.limits)
        self.exports: dict[str, object] = {}
        self.needs: dict[tuple[str, str, str], Need] = {}
        self.secrets: set[str] = set()
        self.secret_values: dict[str, str] = {}  # by reference
        self.fetched: set[str] = set()  # addresses of other machines
        self.calls_deep = 0
        self.templates: dict[str, Template] = {}  # by the file name that they are compiled under
        self.pieces: dict[str, tuple[Origin | None, ...]] | None = {} if trace else None

    def need(self, frame: "Frame", kind: str, name: str, found_in: str) -> None:
        """Note that something was asked for, and whether it is there."""
        key = (kind, name, frame.template.name)
        if key not in self.needs:
            self.needs[key] = Need(kind=kind, name=name, template=frame.template.name, found_in=found_in)

    def found(self, frame: "Frame", kind: str, name: str, found_in: str) -> None:
        """What was asked for is there after all."""
        self.needs.pop((kind, name, frame.template.name), None)
        self.need(frame, kind, name, found_in)

    def taint(self, arguments: Iterator[object], result: object) -> None:
        """What a function makes of a secret is a secret."""
        if isinstance(result, str) and len(result) >= SECRET_PART_MIN:
            texts = [each for each in arguments if isinstance(each, str)]
            from_secret = any(secret in text for text in texts for secret in self.secrets)
            if from_secret and not any(secret in result for secret in self.secrets):
                self.secrets.add(result)
                if len(self.secrets) > SECRETS_MAX:
                    raise Exceeded(f"more than {SECRETS_MAX:,} texts are made from secrets")

    def reshaped(self, before: str, after: str) -> None:
        """Track text through a filter: if it was only indented, for example, its lines keep their origins."""
        if self.pieces and before in self.pieces and before.count("\n") == after.count("\n"):
            self.pieces.setdefault(after, self.pieces[before])

    def masked(self, text: str) -> str:
        """`text` without secrets."""
        return mask(text, frozenset(self.secrets)) if self.secrets else text


class Frame:
    """One template under way, and the variables it sees."""

    __slots__ = ("definitions", "depth", "run", "template", "variables")

    def __init__(
        self, run: Run, template: Template, variables: dict[str, object], definitions: dict[str, object], depth: int
    ) -> None:
        self.run = run
        self.template = template
        self.variables = variables  # those of `var`, by normal name
        self.definitions = definitions  # macros and variables of templates that were sourced
        self.depth = depth

    def nested(self, source: "Source", *, variables: dict[str, object], definitions: dict[str, object]) -> "Frame":
        """A template named by this one."""
        from infrakit.template.loaders import display

        depth = self.depth + 1
        if depth > self.run.engine.limits.depth_max:
            raise Exceeded(f"includes go deeper than {self.run.engine.limits.depth_max}: check for a circular one")
        if any(secret in source.text for secret in self.run.secrets):  # a mistake in it could not be reported
            raise Fault("a template may not be made with a secret", "hand it over: include(ADDRESS, name=secret(...))")
        is_literal = source.address == self.template.address
        name = f"{LITERAL_IN}{self.template.name.removeprefix(LITERAL_IN)}" if is_literal else display(source.address)
        return Frame(self.run, self.run.engine.compiled(source, name), variables, definitions, depth)


class TemplateContext(Context):
    """Jinja2's view of a frame."""

    frame: Frame


def text_of(value: object) -> str:
    """How a value is printed: as JSON spells it, but for text, which is itself."""
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
    return _unprintable(value)


class Definitions(dict[str, Any]):
    """What `source` brought; prints as nothing."""


def plain(value: object) -> object:
    """For JSON: a mapping of any kind as a dict; whatever is no value is refused."""
    if isinstance(value, Mapping):
        return dict(value)
    return _unprintable(value)


def _unprintable(value: object) -> str:
    from jinja2.runtime import Macro, Undefined

    from infrakit.template.functions.table import Function

    if isinstance(value, Undefined):
        return str(value)  # which raises
    if isinstance(value, Macro | Function):
        refuse(f"{value.name} is a function", f"call it: {value.name}(...)")
    return refuse(
        f"{kind_of(value)} cannot be printed", "make a list of it: | list" if hasattr(value, "__iter__") else ""
    )


def line_count(text: str) -> int:
    """Lines of output, where the last need not end."""
    return text.count("\n") + (not text.endswith("\n")) if text else 0
