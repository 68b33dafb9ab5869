"""Templates: text with `{{ }}`, fetched by address, compiled once, and rendered in a scope.

Delimiters are those of Jinja2 but for comments, which are `{{/* ... */}}`: `{#` stands in shell scripts (`${#name}`).
Text with neither `{{` nor `{%` is its own rendering, and costs no import of Jinja2. Everything here is synchronous and
safe in any thread; asynchronous callers use `asyncio.to_thread`, whose thread ends because a render has a deadline.
"""

import threading
from collections import OrderedDict

from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.template.limits import Limits
from infrakit.template.loaders import Loader, Source, display
from infrakit.template.scope import Scope
from infrakit.template.values import Need, Origin, Rendered, Template

KEPT_MAX = 512  # templates that stay compiled
KEPT_BYTES_MAX = 1_000_000  # of their text: compiled, it takes a hundred times as much


class Engine:
    """Loads, compiles and renders; keeps what was compiled. One serves a whole process."""

    def __init__(self, loader: Loader, limits: Limits | None = None) -> None:
        self.loader = loader
        self.limits = limits or Limits()
        self._kept: OrderedDict[tuple[str, Source], Template] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def template(self, address: str, *, base: str = "") -> Template:
        """Fetch and compile. Raises `NotFound`, `Unreachable`, `Refused`; `InvalidSpec` for a mistake in the text."""
        source = self.loader.fetch(address, base=base)
        return self.compiled(source, display(source.address))

    def inline(self, text: str, *, name: str, base: str = "") -> Template:
        """Compile text that is at hand; relative addresses in it start from `base`, a document's address."""
        return self.compiled(self.loader.inline(text, base=base), name)

    def render(self, template: Template, scope: Scope, *, trace: bool = False) -> Rendered:
        """The text, with the origins of its lines if asked for.

        Raises `InvalidSpec` for what the author of a template did wrong, with template, line and nearest known name;
        `NotFound`, `Unreachable` and `Refused` for what it asks for and cannot be had.
        """
        if template.program is None:
            text = template.source.text
            lines = text.count("\n") + (not text.endswith("\n"))
            origins = tuple(Origin(template.name, each + 1) for each in range(lines)) if trace else None
            return Rendered(text=text, origins=origins)
        from infrakit.template import rendering

        return rendering.render(self, template, scope, trace=trace)

    def needs(self, template: Template, scope: Scope) -> tuple[Need, ...]:
        """What the template and its includes ask for, and what of it is missing, without rendering; raises nothing."""
        if template.program is None:
            return ()
        from infrakit.template import needs

        return needs.needs(self, template, scope)

    def compiled(self, source: Source, name: str) -> Template:
        """The template of this text at this address, from what is kept if it is there."""
        key = (name, source)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        text = source.text
        if len(text) > self.limits.source_bytes_max:
            found = f"the template has {len(text):,} bytes, expected at most {self.limits.source_bytes_max:,}"
            raise InvalidSpec([Problem(path="", message=found)], where=name)
        program = None
        if "{{" in text or "{%" in text:
            from infrakit.template import syntax

            program = syntax.compile_program(text, name, self.limits)
        template = Template(name, source, program)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = template
                self._kept_bytes += len(text)
            while len(self._kept) > KEPT_MAX or (self._kept_bytes > KEPT_BYTES_MAX and len(self._kept) > 1):
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= len(dropped.source.text)
        return template
