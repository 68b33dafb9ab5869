"""Templates: text with `{{ }}`, fetched by address, compiled once, and rendered in a scope.

The delimiters are those of Jinja2, except for comments, `{{/* ... */}}`: `{#` occurs in shell scripts (`${#name}`).
Text with neither `{{` nor `{%` is returned unchanged, without importing Jinja2. The module is synchronous and
thread-safe; asynchronous callers use `asyncio.to_thread`, whose thread ends because a render has a timeout.
"""

import threading
from collections import OrderedDict

from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.template.limits import Limits
from infrakit.template.loaders import Loader, Source, display
from infrakit.template.scope import Scope
from infrakit.template.values import Need, Origin, Rendered, Template

CACHE_TEMPLATES_MAX = 512  # compiled templates
CACHE_BYTES_MAX = 1_000_000  # of template text; the compiled form takes about a hundred times as much memory


class Engine:
    """Loads, compiles and renders templates, and caches the compiled ones. One engine serves a whole process."""

    def __init__(self, loader: Loader, limits: Limits | None = None) -> None:
        self.loader = loader
        self.limits = limits or Limits()
        self._cache: OrderedDict[tuple[str, Source], Template] = OrderedDict()
        self._cache_bytes = 0
        self._lock = threading.Lock()

    def template(self, address: str, *, base: str = "") -> Template:
        """Fetch and compile a template. Raises `NotFound`, `Unreachable`, `Refused`, or `InvalidSpec`."""
        source = self.loader.fetch(address, base=base)
        return self.compiled(source, display(source.address))

    def inline(self, text: str, *, name: str, base: str = "") -> Template:
        """Compile inline text. Relative addresses in it are relative to `base`, a document's address."""
        return self.compiled(self.loader.inline(text, base=base), name)

    def render(self, template: Template, scope: Scope, *, trace: bool = False) -> Rendered:
        """Render a template; with `trace`, record the origin of each line.

        Raises `InvalidSpec` for a mistake of a template's author, with template, line and nearest known name;
        `NotFound`, `Unreachable` and `Refused` for a document that it needs and that cannot be fetched.
        """
        if template.program is None:
            text = template.source.text
            lines = text.count("\n") + (not text.endswith("\n"))
            origins = tuple(Origin(template.name, each + 1) for each in range(lines)) if trace else None
            return Rendered(text=text, origins=origins)
        from infrakit.template import rendering

        return rendering.render(self, template, scope, trace=trace)

    def needs(self, template: Template, scope: Scope) -> tuple[Need, ...]:
        """Return what the template and its includes need, found or missing, without rendering. Raises no errors."""
        if template.program is None:
            return ()
        from infrakit.template import needs

        return needs.needs(self, template, scope)

    def compiled(self, source: Source, name: str) -> Template:
        """Return the compiled template of a source, from the cache if possible. Raises `InvalidSpec`."""
        key = (name, source)
        with self._lock:
            cached = self._cache.get(key)
            if cached is not None:
                self._cache.move_to_end(key)
                return cached
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
            if key not in self._cache:
                self._cache[key] = template
                self._cache_bytes += len(text)
            while len(self._cache) > CACHE_TEMPLATES_MAX or (
                self._cache_bytes > CACHE_BYTES_MAX and len(self._cache) > 1
            ):
                _, evicted = self._cache.popitem(last=False)
                self._cache_bytes -= len(evicted.source.text)
        return template
