"""`infrakit plugin start`: plugins in a process of their own, for every daemon and tool that speaks the protocol."""

from typing import Any

import click

from infrakit.cli import arguments, options
from infrakit.rpc import discovery


@click.command
@arguments.required("plugins", many=True, metavar="KIND[:NAME]...")
@click.option("--name", metavar="NAME", help="The same as KIND:NAME, for a single plugin.")
@click.option("--supervise", is_flag=True, help="Run each in a process of its own, and start it again when it dies.")
@options.listen
def start(plugins: tuple[str, ...], name: str | None, supervise: bool, **listen: Any) -> None:
    """Serve plugins at sockets until Ctrl-C, all in one process.

    KIND is the name under which a Python package offers a plugin (`infrakit plugin ls` lists them), NAME that of its
    socket if it shall be another. A daemon that needs a plugin which runs so uses it instead of one of its own.

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
