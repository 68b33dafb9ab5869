"""`infrakit plugin stop`: ends the process that serves a plugin."""

import os
import signal

import click

from infrakit.cli import arguments
from infrakit.rpc import discovery
from infrakit.spi.errors import NotFound, Unreachable


@click.command
@arguments.required("names", many=True, metavar="NAME...")
def stop(names: tuple[str, ...]) -> None:
    """Ask the processes that serve these plugins to end; all that they serve goes with them.

    \b
    Example:
      infrakit plugin stop vanilla
    """
    pids = {name: _pid(name) for name in names}
    for pid in set(pids.values()):
        os.kill(pid, signal.SIGTERM)
    for name, pid in pids.items():
        click.echo(f"{name}: process {pid} was asked to end")


def _pid(name: str) -> int:
    """Of a process that listens there: a file that a dead one left may name anybody by now."""
    from infrakit.rpc import call

    path = discovery.plugins_directory() / name
    try:
        call.hello(path)
    except Unreachable:
        raise NotFound(f"no plugin {name} runs here", where=str(path), remedy="see: infrakit plugin ls") from None
    try:
        return int(path.with_name(f"{name}.pid").read_text())
    except (OSError, ValueError):
        raise NotFound(f"nobody says which process serves {name}", where=f"{path}.pid") from None
