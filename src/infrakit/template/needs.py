"""What a template asks for, read from its text without rendering it: everything at once, also what is missing.

Includes are followed where their address is written out; what is computed can only be known by rendering. A branch that
would not be taken counts all the same. No secret is read and no command run.
"""

import os
from typing import TYPE_CHECKING

from infrakit.spi.errors import InfraKitError, InvalidSpec
from infrakit.template import addresses
from infrakit.template.functions import TABLE
from infrakit.template.functions.facts import looked_up
from infrakit.template.scope import Scope, normal
from infrakit.template.values import Asked, Need, Template, Templates

if TYPE_CHECKING:
    from collections.abc import Callable

TEMPLATES_MAX = 200
COMPUTED = "(computed)"


def needs(engine: Templates, template: Template, scope: Scope) -> tuple[Need, ...]:
    """In the order of the text, includes after what includes them. Raises nothing: what cannot be had is missing."""
    reading = _Reading(engine, scope)
    reading.read(template)
    return tuple(reading.resolved())


class _Reading:
    def __init__(self, engine: Templates, scope: Scope) -> None:
        self._engine = engine
        self._scope = scope
        self._seen: set[tuple[str, str]] = set()
        self._asked: list[tuple[Template, Asked, str | None]] = []  # and where it was found, if that is known already
        self._given: dict[str, str] = {}  # names that a template gives a value, and which
        self._refusals: dict[tuple[str, str], str] = {}  # why an address cannot be had, by template and address
        self._defined: set[str] = set()
        self._free: list[tuple[Template, str, int]] = []

    def read(self, template: Template) -> None:
        """Note what it asks for, and what those that it includes ask for."""
        key = (template.name, template.source.text)
        program = template.program
        if program is None or key in self._seen or len(self._seen) >= TEMPLATES_MAX:
            return
        self._seen.add(key)
        self._defined |= program.defined
        self._given.update(dict.fromkeys(map(normal, program.given), template.name))
        self._free += [(template, name, line) for name, line in program.free]
        included = []
        for asked in program.asked:
            found = None
            if asked.kind in ("include", "source", "fetch") and asked.name is not None:
                found, inner = self._fetched(template, asked)
                included += [inner] if inner is not None else []
            self._asked.append((template, asked, found))
        for inner in included:
            self.read(inner)

    def _fetched(self, template: Template, asked: Asked) -> tuple[str, Template | None]:
        try:
            source = self._engine.loader.fetch(
                asked.name or "", namer=template.source, local_files=self._scope.local_files
            )
            shown = template.name if source.address == template.address else addresses.display(source.address)
            if asked.kind == "fetch":
                return shown, None
            return shown, self._engine.compiled(source, shown)
        except InvalidSpec as error:
            return error.where or "", None
        except InfraKitError as error:
            self._refusals[template.name, asked.name or ""] = str(error)
            return "", None

    def resolved(self) -> "list[Need]":
        """Everything, and where it comes from."""
        found: dict[tuple[str, str, str], Need] = {}
        for template, asked, known in self._asked:
            name = self._shown(asked)
            where = COMPUTED if asked.name is None else known if known is not None else self._where(template, asked)
            where = where or ("default" if asked.has_default else "")
            why = self._refusals.get((template.name, asked.name or ""), "") if not where else ""
            need = Need(kind=asked.kind, name=name, template=template.name, line=asked.line, found_in=where, why=why)
            found.setdefault((asked.kind, name, template.name), need)
        for template, name, line in self._free:
            if name in TABLE or name in self._defined or name in self._scope.functions:
                continue
            where = self._variable(name)
            need = Need(kind="variable", name=name, template=template.name, line=line, found_in=where)
            found.setdefault(("variable", name, template.name), need)
        return list(found.values())

    @staticmethod
    def _shown(asked: Asked) -> str:
        if asked.name is None:
            return COMPUTED
        if asked.kind in ("variable", "metadata"):
            return normal(asked.name)
        if asked.kind == "secret" and asked.name.startswith("cmd:"):
            return " ".join(asked.name.split()[:1])
        return addresses.display(asked.name) if asked.kind in ("include", "source", "fetch") else asked.name

    def _where(self, template: Template, asked: Asked) -> str:
        ways: dict[str, Callable[[str], str]] = {
            "variable": self._variable,
            "metadata": self._metadata,
            "env": self._environment,
            "file": lambda path: self._file(template, path),
            "secret": lambda reference: self._secret(template, reference),
        }
        return ways[asked.kind](asked.name or "")

    def _variable(self, name: str) -> str:
        key = normal(name)
        if key in self._scope.variables:
            return "variables"
        return self._given.get(key) or self._metadata(key)

    def _metadata(self, path: str) -> str:
        facts = self._scope.facts
        try:
            return "metadata" if facts is not None and looked_up(facts, normal(path)) is not None else ""
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
        may = self._scope.local_files and self._engine.loader.is_trusted(template.source)
        return "cmd" if kind == "cmd" and may else ""
