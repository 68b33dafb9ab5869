"""`infrakit plugin check`: checks whether a plugin, in any language, conforms to the protocol."""

from typing import TYPE_CHECKING, Any

import click

from infrakit.cli import arguments, exit_codes, failures, numbers, tables
from infrakit.spi.errors import InvalidSpec, Problem, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from infrakit.conformance.check import Outcome

KINDS = ("instance", "flavor", "metadata", "updatable", "group", "event")
STORE = "store"  # not a plugin: it is opened in this process, by its URL


@click.command
@arguments.required("plugin", metavar="NAME-OR-SOCKET")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice((*KINDS, STORE), case_sensitive=False),
    help="Check this interface only; may be repeated. With store, the argument is the URL of a spec store.",
)
@click.option("--properties", metavar="FILE", help="Properties of the test instances or flavor, in YAML or JSON.")
@click.option(
    "--settle",
    type=numbers.duration,
    default="60s",
    metavar="TIME",
    help="How long a listing may lag behind; default 60s.",
)
@click.option("--init", metavar="FILE", help="Boot script of the test instances; default: one that sleeps.")
@click.option("--write", is_flag=True, help="Also test changes of groups, variables and stores; default: read only.")
@click.option("--raw", is_flag=True, help="Show every request and response as sent on the wire.")
@click.option(
    "-o",
    "--output",
    "output_format",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    help="Output format; default: text.",
)
def check(  # noqa: PLR0917
    plugin: str,
    kinds: tuple[str, ...],
    properties: str | None,
    settle: float,
    init: str | None,
    write: bool,
    raw: bool,
    output_format: str,
) -> None:
    """Check that a plugin conforms to the protocol.

    Tests every method, every type and invalid input. It provisions real instances with the given properties, and
    destroys them again. NAME is a running local plugin, or NAME/TYPE; a SOCKET is the path of a socket, a URL, or a
    file that contains a URL. Exit code 0: all checks passed; 1: invalid command line; 2: a check failed; 3: the plugin
    does not answer. A missing optional feature is reported as a capability, not as a failure.

    A spec store is checked by its URL: --kind store --write etcd://HOST:PORT/PREFIX. The documents that are written
    remain, so use a prefix or directory of their own.

    \b
    Example:
      infrakit plugin check group
    """
    import asyncio

    from infrakit.conformance import report
    from infrakit.conformance.check import Verdict

    name, checks = _checks(plugin, kinds, properties=properties, init=init, settle_s=settle, writes=write)
    outcomes: list[Outcome] = []

    def report_outcome(outcome: "Outcome") -> None:
        outcomes.append(outcome)
        if output_format == "text":
            _show(report.line(outcome), *report.details(outcome, raw=raw))

    try:
        asyncio.run(_run(checks, report_outcome))
    except asyncio.CancelledError:  # by SIGTERM; Ctrl-C raises KeyboardInterrupt by itself
        raise KeyboardInterrupt from None
    except Unreachable as error:
        failures.report(error)
        raise click.exceptions.Exit(exit_codes.NO_DAEMON) from None
    match output_format:
        case "text":
            _show("", report.summary(outcomes))
        case "json":
            click.echo(report.json(outcomes))
        case "junit":
            click.echo(report.junit(outcomes, name))
    if any(outcome.verdict is Verdict.FAILED for outcome in outcomes):
        raise click.exceptions.Exit(exit_codes.NOT_DONE)


def _checks(
    plugin: str, kinds: tuple[str, ...], *, properties: str | None, init: str | None, settle_s: float, writes: bool
) -> "tuple[str, AsyncGenerator[Outcome]]":
    """Return the plugin's name, and its checks."""
    if STORE in kinds:
        if set(kinds) != {STORE} or properties is not None or init is not None:
            raise click.UsageError("--kind store takes no other --kind, no --properties and no --init.")
        return plugin, _store_checks(plugin, writes=writes)
    from infrakit import conformance
    from infrakit.cli import documents
    from infrakit.conformance import place

    found = place.find(plugin)
    given = _properties(properties)
    script = documents.read(init).text if init is not None else conformance.INIT
    checks = conformance.run(
        found.address, found.name, kinds=kinds, properties=given, init=script, settle_s=settle_s, writes=writes
    )
    return found.name, checks


def _store_checks(url: str, *, writes: bool) -> "AsyncGenerator[Outcome]":
    from infrakit.conformance import stores
    from infrakit.rpc import discovery
    from infrakit.runtime import sources

    sources.check_store(url)
    home = discovery.home()
    return stores.run(lambda keep: sources.store(url, home, keep=keep), writes=writes)


async def _run(checks: "AsyncGenerator[Outcome]", report_outcome: "Callable[[Outcome], None]") -> None:
    """Report each check when it finishes. On Ctrl-C and SIGTERM, stop, and still destroy the test instances."""
    import asyncio
    import contextlib
    import signal

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGTERM)  # a second SIGTERM kills the process
        if task is not None:
            task.cancel()

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    loop.add_signal_handler(signal.SIGTERM, stop)
    async with contextlib.aclosing(checks):
        async for outcome in checks:
            report_outcome(outcome)


def _properties(file: str | None) -> Any:
    if file is None:
        return {}
    from infrakit.cli import documents

    document = documents.read(file)
    from infrakit.spec import reading

    entries = reading.read(document.text, source=document.source).entries
    if len(entries) > 1 or not all(isinstance(each, dict) for each in entries):
        problem = Problem(path="", message="found a list, expected the properties of one instance or flavor")
        raise InvalidSpec([problem], where=document.source)
    return entries[0] if entries else {}


def _show(*lines: str) -> None:
    for each in lines:
        click.echo(tables.clean(each))
