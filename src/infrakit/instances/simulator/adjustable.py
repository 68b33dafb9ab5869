"""The simulator as a user runs it: its faults are a document, which is reloaded whenever it changes.

The document is `faults.yaml` in the plugin's directory, YAML or JSON, with the fields of `Faults` and two more, for
events of single machines. Without it there are no faults. While it is invalid, every call fails with the problems found
in it, so that `infrakit status` shows them.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import msgspec

from infrakit.instances.simulator import Simulator
from infrakit.instances.simulator.faults import Faults
from infrakit.instances.simulator.machine import Machine
from infrakit.spec import reading, validate
from infrakit.spi.errors import InvalidSpec, Problem
from infrakit.spi.instance import Capabilities
from infrakit.spi.values import InstanceID

LAG_PROMISED_S = 30.0  # a controller reads this promise once, and faults may be added later


class FaultsDocument(Faults, frozen=True, kw_only=True):
    """The content of `faults.yaml`."""

    terminated: tuple[InstanceID, ...] = ()  # machines to terminate now
    unhealthy: tuple[InstanceID, ...] = ()  # machines to make unhealthy now


class Adjustable(Simulator):
    """A simulator that reads its faults from `faults.yaml` in `directory`. Satisfies `Watches`, too."""

    def __init__(self, directory: Path, *, random: Random | None = None) -> None:
        drawn_once = random and Random(random.random())  # noqa: S311 - each call draws often
        super().__init__(random=drawn_once)
        self._path = directory / "faults.yaml"
        self._seen: tuple[int, int] | None = None
        self._problem: InvalidSpec | None = None

    async def capabilities(self) -> Capabilities:
        return Capabilities(listing_lag_s=LAG_PROMISED_S, tokens=True)

    async def watch(self) -> AsyncIterator[str]:
        """Notify of terminations; of several that happen before the watcher continues only once."""
        ended = asyncio.Event()

        def notify(what: str, _machine: Machine) -> None:
            if what == "ended":
                ended.set()

        self.watchers.append(notify)
        try:
            while True:
                await ended.wait()
                ended.clear()
                yield "machines have terminated"
        finally:
            self.watchers.remove(notify)

    def prepare_call(self) -> None:
        """Reload the document if it has changed since the last call. Raises `InvalidSpec` while it is invalid."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            seen = None
        if seen != self._seen:
            self._seen, self._problem = seen, None
            try:
                self._apply(self._read() if seen is not None else FaultsDocument())
            except InvalidSpec as problem:
                self._problem = problem
        if self._problem is not None:
            raise self._problem

    def _read(self) -> FaultsDocument:
        tree = reading.read(self._path.read_bytes(), source=str(self._path))
        value = tree.entries[0] if tree.entries else {}
        try:
            return validate.properties(msgspec.Raw(msgspec.json.encode(value)), FaultsDocument)
        except InvalidSpec as wrong:
            found = [Problem(path=p.path, message=p.message, hint=p.hint) for p in wrong.problems]
            raise InvalidSpec(found, where=str(self._path)) from None

    def _apply(self, document: FaultsDocument) -> None:
        fields = {name: getattr(document, name) for name in Faults.__struct_fields__}
        self.faults = Faults(**fields)
        for instance in document.terminated:
            if instance in self.machines and self.machines[instance].lives:
                self.kill(instance)
        for instance in document.unhealthy:
            if instance in self.machines:
                self.make_unhealthy(instance)
