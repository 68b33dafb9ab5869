"""`infrakit plugin stop`: stops the process that serves a plugin."""

import os
import signal

import click

from infrakit.cli import arguments
from infrakit.rpc import discovery
from infrakit.spi.errors import NotFound, Unreachable


@click.command
@arguments.required("names", many=True, metavar="NAME...")
def stop(names: tuple[str, ...]) -> None:
    """Stop the processes that serve these plugins.

    All other plugins that these processes serve stop, too.

    \b
    Example:
      infrakit plugin stop vanilla
    """
    pids = {name: _pid(name) for name in names}
    for pid in set(pids.values()):
        os.kill(pid, signal.SIGTERM)
    for name, pid in pids.items():
        click.echo(f"{name}: sent SIGTERM to process {pid}")


def _pid(name: str) -> int:
    """Return the process that serves a plugin, after a check that it answers: a stale file may name a reused PID."""
    from infrakit.rpc import call

    path = discovery.plugins_directory() / name
    try:
        call.hello(path)
    except Unreachable:
        raise NotFound(f"no plugin {name} runs here", where=str(path), remedy="see: infrakit plugin ls") from None
    try:
        return int(path.with_name(f"{name}.pid").read_text())
    except (OSError, ValueError):
        raise NotFound(
            f"unknown which process serves {name}: its pid file is missing or invalid", where=f"{path}.pid"
        ) from None
