"""Templates and the results of rendering, as plain values without dependencies on the other modules."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from infrakit.template.limits import Limits
from infrakit.template.loaders import Loader, Source

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """A fact, variable or document that a template needs."""

    kind: str  # variable, metadata, include, source, fetch, file, env, secret
    name: str
    template: str = ""  # the template that needs it
    line: int | None = None  # in that template, if known
    found_in: str = ""  # where it is found: variables, metadata, an address, default; empty if it is missing
    why: str = ""  # why an address cannot be fetched

    @property
    def missing(self) -> bool:
        """Whether rendering fails because it is missing."""
        return not self.found_in


class Origin(msgspec.Struct, frozen=True):
    """The template and line that produced a line of output."""

    template: str
    line: int


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """The result of rendering a template."""

    text: str
    exports: dict[str, object] = msgspec.field(default_factory=dict)  # published values, by path
    needs: tuple[Need, ...] = ()  # recorded during rendering
    origins: tuple[Origin | None, ...] | None = None  # of each line of `text`; None without a trace
    secrets: frozenset[str] = frozenset()  # secret values that `text` may contain

    def masked(self) -> str:
        """Return the text with masked secrets and the same lines."""
        return mask(self.text, self.secrets)

    def __repr__(self) -> str:
        return f"Rendered({len(self.text)} characters)"  # never the text: it may contain secrets


class Template:
    """A template that is ready to be rendered."""

    __slots__ = ("name", "program", "source")

    def __init__(self, name: str, source: Source, program: "Program | None") -> None:
        self.name = name  # in messages
        self.source = source
        self.program = program  # None: there is nothing to render

    @property
    def address(self) -> str:
        """The base of relative addresses in the template."""
        return self.source.address


class Reference(NamedTuple):
    """A call in a template that refers to a need. The name is None if it is computed."""

    kind: str
    name: str | None
    line: int
    has_default: bool


class Program(NamedTuple):
    """A compiled template."""

    environment: "SandboxedEnvironment"
    root: Callable[[Any], Any]
    filename: str  # unique; identifies the template in a traceback
    line: Callable[[int], int]  # maps a line of the code to a line of the template
    literals: frozenset[str]  # its pieces of literal text
    references: tuple[Reference, ...]
    defined: frozenset[str]  # names that it defines
    assigned: frozenset[str]  # variables that it sets, or passes to an include
    free: tuple[tuple[str, int], ...]  # names that it uses and does not define, with the first line of each


class Templates(Protocol):
    """The interface of the engine that rendering uses for further templates."""

    loader: Loader
    limits: Limits

    def compiled(self, source: Source, name: str) -> Template:
        """Return the compiled template of a source. Raises `InvalidSpec`."""
        ...


def mask(text: str, secrets: frozenset[str]) -> str:
    """Replace each line of a secret in `text` by `***`, which preserves the line numbers."""
    for line in sorted({line for secret in secrets for line in secret.splitlines() if line.strip()}, key=len)[::-1]:
        text = text.replace(line, "***")
    return text
