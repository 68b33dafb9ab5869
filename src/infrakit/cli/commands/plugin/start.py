"""`infrakit plugin start`: serves plugins in a separate process, for every daemon and tool that uses the protocol."""

from typing import Any

import click

from infrakit.cli import arguments, options
from infrakit.rpc import discovery


@click.command
@arguments.required("plugins", many=True, metavar="KIND[:NAME]...")
@click.option("--name", metavar="NAME", help="Name of the socket, like KIND:NAME; for a single plugin.")
@click.option("--supervise", is_flag=True, help="Run each in its own process, and restart it when it exits.")
@options.listen
def start(plugins: tuple[str, ...], name: str | None, supervise: bool, **listen: Any) -> None:
    """Serve plugins at unix sockets until Ctrl-C, all in one process.

    KIND is the name under which a Python package registers a plugin (`infrakit plugin ls` lists them); NAME is the name
    of its socket, if different. A daemon uses a running plugin instead of hosting its own.

    \b
    Example:
      infrakit plugin start vanilla simulator:cloud
    """
    import asyncio
    import logging

    from infrakit.runtime import host, supervisor

    if name is not None:
        if len(plugins) > 1:
            raise click.UsageError("--name is for a single plugin; write KIND:NAME for each.")
        plugins = (f"{plugins[0]}:{name}",)
    hosted = [host.parse(each) for each in plugins]
    listening = options.listening(listen)
    if listening is not None and (len(hosted) > 1 or supervise):
        raise click.UsageError("--listen serves one plugin, without --supervise: an address has one owner.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
    if supervise:
        asyncio.run(supervisor.supervise([("plugin", "start", each) for each in plugins]))
    else:
        asyncio.run(host.serve(hosted, home=discovery.home(), listen=listening))
