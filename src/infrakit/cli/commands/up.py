"""`infrakit up`: a daemon and its view in one process."""

from typing import Any

import click

from infrakit.cli import daemon, documents, options
from infrakit.rpc import discovery


@click.command
@options.file
@options.message()
@options.listen
def up(file: str, why: str | None, **listen: Any) -> None:
    """Start what FILE needs in one process, commit it, and stay.

    Shows what exists, what is being done and why. FILE is a path, - or a URL. Ctrl-C ends the daemon and leaves
    the instances running; the same command finds them again, and `infrakit down` ends them.

    \b
    Example:
      infrakit up examples/quickstart/infrakit.yaml
    """
    listening = options.listening(listen)
    text, source = documents.read(file)
    from infrakit.cli import live
    from infrakit.runtime import up as runtime

    with live.open_view(source) as view:
        try:
            code = runtime.run(
                text,
                source,
                home=discovery.home(),
                who=daemon.who(),
                why=why or f"up {source}",
                view=view,
                listen=listening,
            )
        except KeyboardInterrupt:
            code = 0
    for line in live.farewell(view.last, file):
        click.echo(line)
    raise click.exceptions.Exit(code)
