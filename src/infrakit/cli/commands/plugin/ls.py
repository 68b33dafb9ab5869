"""`infrakit plugin ls`: lists every plugin that a declaration can name here."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from infrakit.cli import options, output, tables
from infrakit.cli.tables import Cell
from infrakit.rpc import discovery
from infrakit.spi.errors import InfraKitError
from infrakit.spi.values import wire_name


class Listed(msgspec.Struct, frozen=True, rename=wire_name):
    """A plugin: its name, interfaces, state and address; a daemon hosts an `available` one itself."""

    name: str
    interfaces: tuple[str, ...]
    state: str  # running, unreachable or available
    where: str


@click.command
@options.output
def ls(output_format: str) -> None:
    """List running plugins, and those that a daemon can host itself.

    \b
    Example:
      infrakit plugin ls
    """
    output.show(list(_listed()), output_format, lambda listed: output.lines(_table(listed)))


def _listed() -> Iterator[Listed]:
    running = set()
    for each in _running(discovery.found()):
        running.add(each.name)
        where = each.where if "://" in each.where else str(Path(each.where).absolute())
        yield msgspec.structs.replace(each, where=where)
    from infrakit.runtime import installed

    for name, kinds in installed.available().items():
        if name not in running:
            yield Listed(name, tuple(kinds), "available", "")


def _running(found: Sequence[discovery.Found]) -> Iterator[Listed]:
    """Ask all plugins at once, so that those that do not answer cost one timeout together."""
    requests = [_Request(each) for each in found]
    for request in requests:
        request.start()
    for request in requests:
        yield from request.answer()


class _Request(threading.Thread):
    """Asks one plugin what it serves."""

    def __init__(self, found: discovery.Found) -> None:
        super().__init__(daemon=True)
        self._found = found
        self._answer: list[Listed] = []
        self._defect: Exception | None = None

    def run(self) -> None:
        try:
            self._answer = list(_served(self._found))
        except Exception as defect:  # noqa: BLE001 - raised in the main thread
            self._defect = defect

    def answer(self) -> list[Listed]:
        self.join()
        if self._defect is not None:
            raise self._defect
        return self._answer


def _served(found: discovery.Found) -> Iterator[Listed]:
    from infrakit.rpc import call, remotes

    try:
        interfaces = call.hello(remotes.plugin(found.address) if "://" in found.address else Path(found.address))
    except InfraKitError:
        yield Listed(found.name, (), "unreachable", found.address)
        return
    names = sorted({name for named in interfaces.values() for name in named})
    for name in names:
        served = tuple(interface for interface, named in interfaces.items() if name in named)
        yield Listed(found.name if name == "." else f"{found.name}/{name}", served, "running", found.address)


def _table(listed: Sequence[Listed]) -> Sequence[str]:
    colours = {"running": "green", "unreachable": "red"}
    rows: list[list[str | Cell]] = [
        [p.name, Cell(p.state, colours.get(p.state, "")), " ".join(p.interfaces), p.where] for p in listed
    ]
    return list(tables.table(["NAME", "STATE", "INTERFACES", "WHERE"], rows))
