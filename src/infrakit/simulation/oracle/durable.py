"""Law 6: what was acknowledged is durable, in the order of the versions, with what the operator has declared."""

import json
from collections.abc import Sequence
from typing import Any

from infrakit.simulation.oracle import exceptions
from infrakit.simulation.oracle.declared import Declared, read
from infrakit.simulation.oracle.facts import Facts
from infrakit.spi.store import Document


class Durable:
    """All durable versions of the declaration, and what operators have submitted."""

    def __init__(self, facts: Facts) -> None:
        self.versions: dict[int, Document] = {}
        self.newest_acknowledged = 0  # the newest version that was acknowledged to an operator
        self._facts = facts
        self._submitted: dict[str, list[dict[str, Any]]] = {}  # the documents of commits, by their reason

    def submitting(self, why: str, text: str) -> None:
        """An operator submits a document; the reason identifies it."""
        self._submitted[why] = json.loads(text)

    def written(self, document: Document) -> None:
        """Check a revision of the declaration that has become durable."""
        facts, newest = self._facts, max(self.versions, default=0)
        facts.require(
            document.revision == newest + 1, exceptions.NEVER_LOST, f"{document.revision} came after {newest}"
        )
        self.versions[document.revision] = document
        declared = read(document)
        facts.declare(declared)
        self._check_content(declared)

    def restored(self, newest: int) -> None:
        """The store has lost all versions after `newest`."""
        self.versions = {version: each for version, each in self.versions.items() if version <= newest}
        self.newest_acknowledged = min(newest, self.newest_acknowledged)
        self._facts.declare(read(self.versions[newest]) if newest else Declared())

    def rejoined(self, documents: Sequence[Document]) -> None:
        """Know the versions of the store again: a copy of it has given their numbers to others."""
        self.versions = {each.revision: each for each in documents}

    def _check_content(self, declared: Declared) -> None:
        for each in self._submitted.get(declared.why, ()):
            name, properties = each["metadata"]["name"], each["properties"]
            found = declared.groups.get(name)
            allocation = properties["Allocation"]
            ids = allocation.get("LogicalIDs")
            same = (
                found is not None
                and not found.destroying
                and found.ids == (tuple(ids) if ids is not None else None)
                and (ids is not None or found.size == allocation["Size"])
                and found.version == properties["Instance"]["Properties"]["version"]
            )
            self._facts.require(
                same,
                exceptions.NEVER_LOST,
                f"version {declared.revision} is not what {declared.why} declared of {name}",
            )

    def acknowledged(self, version: int, why: str, *, changed: bool) -> None:
        """Check that a command is durable and unmodified in the version that its acknowledgement names."""
        facts = self._facts
        document = self.versions.get(version)
        stored = read(document).why if document is not None else "no document"
        facts.require(
            not changed or stored == why,
            exceptions.NEVER_LOST,
            f"version {version} was acknowledged as {why}, and holds {stored}",
        )
        facts.require(
            version >= self.newest_acknowledged,
            exceptions.NEVER_LOST,
            f"version {version} follows {self.newest_acknowledged}",
        )
        self.newest_acknowledged = max(self.newest_acknowledged, version)

    def check_history(self, history: dict[int, bytes]) -> None:
        """Require that the store still holds every version that was ever durable."""
        for version, document in self.versions.items():
            self._facts.require(
                history.get(version) == document.body,
                exceptions.NEVER_LOST,
                f"version {version} is missing or differs",
            )
