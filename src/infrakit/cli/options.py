"""The options that commands share, so that they are spelled and explained the same everywhere."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from infrakit.cli import numbers, rendering

if TYPE_CHECKING:
    from infrakit.rpc.listen import Listen

F = TypeVar("F", bound=Callable[..., Any])


output = click.option(
    "-o",
    "--output",
    "output_format",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    help="Tables for people (default), the rest for programs.",
)
expect = click.option(
    "--expect",
    type=numbers.whole(0),
    metavar="VERSION",
    help="Refuse if the declaration has moved on from this version.",
)
yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
wait = click.option(
    "--wait",
    type=numbers.duration,
    is_flag=False,
    flag_value="5m",
    metavar="[TIMEOUT]",
    help="Wait until converged, 5m unless said otherwise; exit 2 if it is not.",
)


def listen(command: F) -> F:
    """--listen and what belongs to it: serving other machines over TCP."""
    for option in (
        click.option("--force-plain", is_flag=True, help="Serve anybody who can reach the address."),
        click.option("--token-file", type=click.Path(), help="Accept the tokens in FILE (`infrakit remote token`)."),
        click.option("--tls-client-ca", type=click.Path(), help="Accept certificates that this authority has signed."),
        click.option("--tls-key", type=click.Path(), help="The key of the certificate."),
        click.option("--tls-cert", type=click.Path(), help="The certificate to show; read again when it changes."),
        click.option("--listen", metavar="HOST:PORT", help="Serve other machines, too."),
    ):
        command = option(command)
    return command


def variables(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a template is rendered with; the command gets all of it as `asked`."""
    return _asked(command, _VARIABLES)


def template(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for FILE, which may be a template: it is one if it is named so, or with any of these options."""
    return _asked(
        command,
        (
            click.option("--template", "is_template", is_flag=True, help="FILE is a template, whatever its name."),
            *_VARIABLES,
        ),
    )


_VARIABLES = (
    click.option("--trust", is_flag=True, help="Let templates from the network read files and secrets here."),
    click.option("--env", multiple=True, metavar="NAME", help="Let the template read this environment variable."),
    click.option("--vars", multiple=True, metavar="FILE", help="A tree of variables for it, in YAML or JSON."),
    click.option(
        "--var",
        "--global",
        "var",
        multiple=True,
        metavar="NAME=VALUE",
        help="A variable for the template; numbers, true and false are what they say.",
    ),
)


def _asked(
    command: Callable[..., Any], options: Sequence[Callable[[Callable[..., Any]], Callable[..., Any]]]
) -> Callable[..., Any]:
    @functools.wraps(command)
    def bundled(
        *arguments: Any,
        var: tuple[str, ...],
        vars: tuple[str, ...],  # noqa: A002 - as it is typed
        env: tuple[str, ...],
        trust: bool,
        is_template: bool = False,
        **more: Any,
    ) -> Any:
        return command(*arguments, asked=rendering.Asked(var, vars, env, is_template, trust), **more)

    decorated: Callable[..., Any] = bundled
    for option in options:
        decorated = option(decorated)
    return decorated


def place(command: F) -> F:
    """What a replica needs that is one of several."""
    for option in (
        click.option("--accept-store", is_flag=True, help="Go on with a store that is older than what was seen."),
        click.option(
            "--advertise", envvar="INFRAKIT_ADVERTISE", default="", metavar="URL", help="Where other replicas reach it."
        ),
        click.option("--name", envvar="INFRAKIT_NAME", metavar="NAME", help="The replica's name, that of the host."),
        click.option(
            "--leadership", envvar="INFRAKIT_LEADERSHIP", default="", metavar="URL", help="How to see who leads."
        ),
        click.option("--store", envvar="INFRAKIT_STORE", default="", metavar="URL", help="Where the declaration is."),
    ):
        command = option(command)
    return command


def listening(given: dict[str, Any]) -> "Listen | None":
    """What the options of `listen` say."""
    if not given["listen"]:
        if any(given.values()):
            raise click.UsageError("What is shown and asked for on TCP needs --listen HOST:PORT.")
        return None
    from infrakit.rpc import guard, listen, tls

    host, port = listen.parse(given["listen"])
    if bool(given["tls_cert"]) != bool(given["tls_key"]):
        raise click.UsageError("--tls-cert and --tls-key belong together.")
    files = None
    if given["tls_cert"]:
        files = tls.Files(cert=given["tls_cert"], key=given["tls_key"], client_ca=given["tls_client_ca"] or "")
    where = listen.Listen(
        host=host, port=port, tls=files, token_file=given["token_file"] or "", force=given["force_plain"]
    )
    where.check()
    guard.Guard(where)  # what is wrong with the files is told before anything is started
    return where


def message(*, required: bool = False) -> Callable[[F], F]:
    """-m: the reason that history keeps."""
    return click.option("-m", "--message", "why", metavar="WHY", required=required, help="Why; kept in the history.")
