"""Lists what a template needs, found or missing, from its text, without rendering it.

Includes are followed if their address is a constant; computed names are known only when rendering. Branches that would
not be taken are included. No secret is read, and no command is run.
"""

import os
from typing import TYPE_CHECKING

from infrakit.spi.errors import InfraKitError, InvalidSpec
from infrakit.template import addresses
from infrakit.template.functions import TABLE
from infrakit.template.functions.facts import lookup
from infrakit.template.scope import Scope, normal
from infrakit.template.values import Need, Reference, Template, Templates

if TYPE_CHECKING:
    from collections.abc import Callable

TEMPLATES_MAX = 200
COMPUTED = "(computed)"


def needs(engine: Templates, template: Template, scope: Scope) -> tuple[Need, ...]:
    """Return the needs in the order of the text, each template before its includes.

    Raises no errors: a document that cannot be fetched is missing.
    """
    collector = _Collector(engine, scope)
    collector.read(template)
    return tuple(collector.resolved())


class _Collector:
    def __init__(self, engine: Templates, scope: Scope) -> None:
        self._engine = engine
        self._scope = scope
        self._seen: set[tuple[str, str]] = set()
        # With the place where each was found; None: not resolved yet.
        self._references: list[tuple[Template, Reference, str | None]] = []
        self._assigned: dict[str, str] = {}  # variables that templates assign, with the name of the template
        self._refusals: dict[tuple[str, str], str] = {}  # why an address cannot be fetched, by template and address
        self._defined: set[str] = set()
        self._free: list[tuple[Template, str, int]] = []

    def read(self, template: Template) -> None:
        """Collect the references of a template and of its includes."""
        key = (template.name, template.source.text)
        program = template.program
        if program is None or key in self._seen or len(self._seen) >= TEMPLATES_MAX:
            return
        self._seen.add(key)
        self._defined |= program.defined
        self._assigned.update(dict.fromkeys(map(normal, program.assigned), template.name))
        self._free += [(template, name, line) for name, line in program.free]
        included = []
        for reference in program.references:
            found = None
            if reference.kind in ("include", "source", "fetch") and reference.name is not None:
                found, inner = self._fetched(template, reference)
                included += [inner] if inner is not None else []
            self._references.append((template, reference, found))
        for inner in included:
            self.read(inner)

    def _fetched(self, template: Template, reference: Reference) -> tuple[str, Template | None]:
        try:
            source = self._engine.loader.fetch(
                reference.name or "", referrer=template.source, local_files=self._scope.local_files
            )
            shown = template.name if source.address == template.address else addresses.display(source.address)
            if reference.kind == "fetch":
                return shown, None
            return shown, self._engine.compiled(source, shown)
        except InvalidSpec as error:
            return error.where or "", None
        except InfraKitError as error:
            self._refusals[template.name, reference.name or ""] = str(error)
            return "", None

    def resolved(self) -> "list[Need]":
        """Return every need, with the place where it is found."""
        found: dict[tuple[str, str, str], Need] = {}
        for template, reference, known in self._references:
            name = self._display_name(reference)
            where = COMPUTED if reference.name is None else known
            where = self._source_of(template, reference) if where is None else where
            where = where or ("default" if reference.has_default else "")
            why = self._refusals.get((template.name, reference.name or ""), "") if not where else ""
            need = Need(
                kind=reference.kind, name=name, template=template.name, line=reference.line, found_in=where, why=why
            )
            found.setdefault((reference.kind, name, template.name), need)
        for template, name, line in self._free:
            if name in TABLE or name in self._defined or name in self._scope.functions:
                continue
            where = self._variable(name)
            need = Need(kind="variable", name=name, template=template.name, line=line, found_in=where)
            found.setdefault(("variable", name, template.name), need)
        return list(found.values())

    @staticmethod
    def _display_name(reference: Reference) -> str:
        if reference.name is None:
            return COMPUTED
        if reference.kind in ("variable", "metadata"):
            return normal(reference.name)
        if reference.kind == "secret" and reference.name.startswith("cmd:"):
            return " ".join(reference.name.split()[:1])
        return addresses.display(reference.name) if reference.kind in ("include", "source", "fetch") else reference.name

    def _source_of(self, template: Template, reference: Reference) -> str:
        finders: dict[str, Callable[[str], str]] = {
            "variable": self._variable,
            "metadata": self._metadata,
            "env": self._environment,
            "file": lambda path: self._file(template, path),
            "secret": lambda reference: self._secret(template, reference),
        }
        return finders[reference.kind](reference.name or "")

    def _variable(self, name: str) -> str:
        key = normal(name)
        if key in self._scope.variables:
            return "variables"
        return self._assigned.get(key) or self._metadata(key)

    def _metadata(self, path: str) -> str:
        facts = self._scope.facts
        try:
            return "metadata" if facts is not None and lookup(facts, normal(path)) is not None else ""
        except InfraKitError:
            return ""

    def _environment(self, name: str) -> str:
        return "environment" if name in self._scope.env and name in os.environ else ""

    def _file(self, template: Template, path: str) -> str:
        if not self._scope.local_files or not self._engine.loader.is_trusted(template.source):
            return ""
        address = addresses.resolve(path, template.address if addresses.scheme(template.address) == "file" else "")
        readable = os.access(address.removeprefix("file://"), os.R_OK)
        return addresses.display(address) if readable else ""

    def _secret(self, template: Template, reference: str) -> str:
        kind, _, rest = reference.partition(":")
        if kind == "file":
            return "file" if self._file(template, rest) else ""
        if kind == "env":
            return "env" if self._environment(rest) else ""
        allowed = self._scope.local_files and self._engine.loader.is_trusted(template.source)
        return "cmd" if kind == "cmd" and allowed else ""
