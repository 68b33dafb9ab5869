"""The simulator as a user runs it: its faults are a document, read again whenever it has changed.

The document is `faults.yaml` in the plugin's directory, YAML or JSON, with the fields of `Faults` and two more, for
what happens to single machines. Without it there are no faults. A wrong one fails every call with what is wrong, until
it is mended, so that it is seen in `infrakit status`.
"""

import random
from pathlib import Path

import msgspec

from infrakit.instances.simulator import Simulator
from infrakit.instances.simulator.faults import Faults
from infrakit.spec import reading, validate
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.instance import Capabilities
from infrakit.spi.values import InstanceID

LAG_PROMISED_S = 30.0  # faults may come later; a controller is told of the promise once


class Document(Faults, frozen=True, kw_only=True):
    """What a user writes."""

    dead: tuple[InstanceID, ...] = ()  # machines that are to die now
    sick: tuple[InstanceID, ...] = ()  # machines that are to become unhealthy now


class Adjustable(Simulator):
    """A simulator with its faults in `directory`."""

    def __init__(self, directory: Path, *, random: random.Random | None = None) -> None:
        super().__init__(random=random)
        self._path = directory / "faults.yaml"
        self._seen: tuple[int, int] | None = None
        self._problem: InvalidSpec | None = None

    async def capabilities(self) -> Capabilities:
        return Capabilities(listing_lag_s=LAG_PROMISED_S, tokens=True)

    def prepare_call(self) -> None:
        """Take over the document if it is another than at the last call. Raises `InvalidSpec` if it is wrong."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            seen = None
        if seen != self._seen:
            self._seen, self._problem = seen, None
            try:
                self._apply(self._read() if seen is not None else Document())
            except InvalidSpec as problem:
                self._problem = problem
        if self._problem is not None:
            raise self._problem

    def _read(self) -> Document:
        tree = reading.read(self._path.read_bytes(), source=str(self._path))
        value = tree.entries[0] if tree.entries else {}
        try:
            return validate.properties(msgspec.Raw(msgspec.json.encode(value)), Document)
        except InvalidSpec as wrong:
            found = [Problem(path=p.path, message=p.message, hint=p.hint) for p in wrong.problems]
            raise InvalidSpec(found, where=str(self._path)) from None

    def _apply(self, document: Document) -> None:
        fields = {name: getattr(document, name) for name in Faults.__struct_fields__}
        self.faults = Faults(**fields)
        for instance in document.dead:
            if instance in self.machines and self.machines[instance].lives:
                self.kill(instance)
        for instance in document.sick:
            if instance in self.machines:
                self.make_sick(instance)
