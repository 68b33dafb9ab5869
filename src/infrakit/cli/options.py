"""The options that several commands share, with the same name and help text everywhere."""

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
    help="Output format: table for people (default), json or yaml for programs.",
)
expect = click.option(
    "--expect",
    type=numbers.whole(0),
    metavar="VERSION",
    help="Refuse unless the declaration is still at this version.",
)
destroys = click.option(
    "--destroys",
    type=numbers.whole(0),
    default=0,
    metavar="N",
    help="Consent to destroy N members without replacing them; needed above 2 and 30% of a group.",
)
yes = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
wait = click.option(
    "--wait",
    type=numbers.duration,
    is_flag=False,
    flag_value="5m",
    metavar="[TIMEOUT]",
    help="Wait until converged, at most TIMEOUT (default 5m); exit 2 on timeout.",
)


def listen(command: F) -> F:
    """Add --listen and the options of its TLS and authentication, for serving other machines over TCP."""
    for option in (
        click.option("--force-plain", is_flag=True, help="Allow plain TCP, and clients without authentication."),
        click.option("--token-file", type=click.Path(), help="Accept the tokens in FILE (`infrakit remote token`)."),
        click.option("--tls-client-ca", type=click.Path(), help="Accept client certificates signed by this CA."),
        click.option("--tls-key", type=click.Path(), help="Private key of the certificate."),
        click.option("--tls-cert", type=click.Path(), help="Server certificate; reloaded when it changes."),
        click.option("--listen", metavar="HOST:PORT", help="Also serve other machines, at this address."),
    ):
        command = option(command)
    return command


def variables(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that a template is rendered with; the command receives them as `template_options`."""
    return _add_template_options(command, _VARIABLES)


def template(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --template and `variables`, for a FILE that may be a template; any of these options makes it one."""
    return _add_template_options(
        command,
        (
            click.option(
                "--template", "is_template", is_flag=True, help="Treat FILE as a template, whatever its name."
            ),
            *_VARIABLES,
        ),
    )


_VARIABLES = (
    click.option("--trust", is_flag=True, help="Allow templates from the network to read local files and secrets."),
    click.option("--env", multiple=True, metavar="NAME", help="Allow the template to read this environment variable."),
    click.option("--vars", multiple=True, metavar="FILE", help="Read template variables from a YAML or JSON file."),
    click.option(
        "--var",
        "--global",
        "var",
        multiple=True,
        metavar="NAME=VALUE",
        help="Set a template variable; whole numbers, true and false are typed values, anything else is text.",
    ),
)


def _add_template_options(
    command: Callable[..., Any], options: Sequence[Callable[[Callable[..., Any]], Callable[..., Any]]]
) -> Callable[..., Any]:
    @functools.wraps(command)
    def bundled(
        *arguments: Any,
        var: tuple[str, ...],
        vars: tuple[str, ...],  # noqa: A002 - the name of the option
        env: tuple[str, ...],
        trust: bool,
        is_template: bool = False,
        **more: Any,
    ) -> Any:
        return command(
            *arguments, template_options=rendering.TemplateOptions(var, vars, env, is_template, trust), **more
        )

    decorated: Callable[..., Any] = bundled
    for option in options:
        decorated = option(decorated)
    return decorated


def replica(command: F) -> F:
    """Add the options of a replica: its store, leader election, name and address."""
    for option in (
        click.option(
            "--accept-store", is_flag=True, help="Accept a store that is behind the recorded high-water mark."
        ),
        click.option(
            "--advertise",
            envvar="INFRAKIT_ADVERTISE",
            default="",
            metavar="URL",
            help="URL at which other replicas reach it.",
        ),
        click.option("--name", envvar="INFRAKIT_NAME", metavar="NAME", help="The replica's name; default: the host's."),
        click.option(
            "--leadership",
            envvar="INFRAKIT_LEADERSHIP",
            default="",
            metavar="URL",
            help="Source of the leader election.",
        ),
        click.option("--store", envvar="INFRAKIT_STORE", default="", metavar="URL", help="Store of the declaration."),
    ):
        command = option(command)
    return command


def listening(given: dict[str, Any]) -> "Listen | None":
    """Build the listener that the options of `listen` configure; None without --listen."""
    if not given["listen"]:
        if any(given.values()):
            raise click.UsageError("The options for TLS, tokens and plain TCP need --listen HOST:PORT.")
        return None
    from infrakit.rpc import authentication, listen, tls

    host, port = listen.parse(given["listen"])
    if bool(given["tls_cert"]) != bool(given["tls_key"]):
        raise click.UsageError("--tls-cert and --tls-key must be given together.")
    files = None
    if given["tls_cert"]:
        files = tls.Files(cert=given["tls_cert"], key=given["tls_key"], client_ca=given["tls_client_ca"] or "")
    where = listen.Listen(
        host=host, port=port, tls=files, token_file=given["token_file"] or "", force=given["force_plain"]
    )
    where.check()
    authentication.Authenticator(where)  # reports errors in the files before anything is started
    return where


def message(*, required: bool = False) -> Callable[[F], F]:
    """Add -m: the reason for a change, which the history records."""
    return click.option(
        "-m", "--message", "why", metavar="WHY", required=required, help="Reason, recorded in the history."
    )
