"""`infrakit up`: a daemon and its view in one process."""

from typing import Any

import click

from infrakit.cli import daemon, documents, options, rendering
from infrakit.rpc import discovery


@click.command
@click.argument("file", type=click.Path(allow_dash=True), required=False)
@options.template
@options.message()
@options.place
@options.listen
def up(  # noqa: PLR0917
    file: str | None,
    asked: rendering.Asked,
    why: str | None,
    store: str,
    leadership: str,
    name: str | None,
    advertise: str,
    accept_store: bool,
    **listen: Any,
) -> None:
    """Start what FILE needs in one process, commit it, and stay.

    Shows what exists, what is being done and why. FILE is a path, - or a URL; without one, what is declared already
    goes on. Ctrl-C ends the daemon and leaves the instances running; the same command finds them again, and
    `infrakit down` ends them.

    \b
    Example:
      infrakit up examples/quickstart/infrakit.yaml
    """
    listening = options.listening(listen)
    read = documents.read(file, asked) if file is not None else documents.Document("", "what is declared")
    from infrakit.cli import live
    from infrakit.runtime import up as runtime
    from infrakit.runtime.sources import Place

    named = {"name": name} if name else {}
    place = Place(store=store, leadership=leadership, advertise=advertise, accept_store=accept_store, **named)
    source = read.source
    document = runtime.Document(text=read.text, source=source, who=daemon.who(), why=why or f"up {source}")
    with read.placed(), live.open_view(source) as view:
        try:
            code = runtime.run(
                document if file is not None else None,
                home=discovery.home(),
                place=place,
                view=view,
                listen=listening,
            )
        except KeyboardInterrupt:
            code = 0
    for line in live.farewell(view.last, file):
        click.echo(line)
    raise click.exceptions.Exit(code)
