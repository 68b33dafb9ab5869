"""What a template is, and what comes of one: values without behaviour, below everything that makes or reads them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from infrakit.template.limits import Limits
from infrakit.template.loaders import Loader, Source

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a template asks for."""

    kind: str  # variable, metadata, include, source, fetch, file, env, secret
    name: str
    template: str = ""  # which asks, and in which line, where that is known
    line: int | None = None
    found_in: str = ""  # where it comes from: variables, metadata, an address, default; nothing if it is missing
    why: str = ""  # an address cannot be fetched, where that was tried

    @property
    def missing(self) -> bool:
        """Whether rendering fails for want of it."""
        return not self.found_in


class Origin(msgspec.Struct, frozen=True):
    """Where a line of output came from."""

    template: str
    line: int


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a template."""

    text: str
    exports: dict[str, object] = msgspec.field(default_factory=dict)  # what it publishes, by path
    needs: tuple[Need, ...] = ()  # what it asked for while it was rendered
    origins: tuple[Origin | None, ...] | None = None  # of each line of `text`; None unless asked for
    secrets: frozenset[str] = frozenset()  # the values of secrets that may stand in `text`

    def masked(self) -> str:
        """The text as it may be shown, line by line the same but for secrets."""
        return mask(self.text, self.secrets)

    def __repr__(self) -> str:
        return f"Rendered({len(self.text)} characters)"  # never the text: it may hold secrets


class Template:
    """Text that is ready to be rendered. `address` is what relative addresses in it start from."""

    __slots__ = ("name", "program", "source")

    def __init__(self, name: str, source: Source, program: "Program | None") -> None:
        self.name = name  # as messages show it
        self.source = source
        self.program = program  # None: there is nothing to render

    @property
    def address(self) -> str:
        """What relative addresses in it start from."""
        return self.source.address


class Asked(NamedTuple):
    """A call in a template that asks for something; the name is None where it is computed."""

    kind: str
    name: str | None
    line: int
    has_default: bool


class Program(NamedTuple):
    """A compiled template."""

    environment: "SandboxedEnvironment"
    root: Callable[[Any], Any]
    filename: str  # which it alone is compiled under
    line: Callable[[int], int]  # of the template, for a line of the code
    literals: frozenset[str]  # its text, as it is printed piece by piece
    asked: tuple[Asked, ...]
    defined: frozenset[str]  # names that it gives a meaning itself
    given: frozenset[str]  # variables that it sets, or hands to what it includes
    free: tuple[tuple[str, int], ...]  # names whose meaning must come from elsewhere, with the first line of each


class Templates(Protocol):
    """Where rendering gets further templates from: the engine."""

    loader: Loader
    limits: Limits

    def compiled(self, source: Source, name: str) -> Template:
        """The template of a text at an address. Raises `InvalidSpec`."""
        ...


def mask(text: str, secrets: frozenset[str]) -> str:
    """`text` without secrets: each of their lines gives way to `***`, so that lines stay what they are."""
    for line in sorted({line for secret in secrets for line in secret.splitlines() if line.strip()}, key=len)[::-1]:
        text = text.replace(line, "***")
    return text
