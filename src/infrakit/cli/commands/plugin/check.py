"""`infrakit plugin check`: whether any plugin, in any language, keeps the protocol."""

from pathlib import Path
from typing import Any

import click

from infrakit.cli import documents, exit_codes, options
from infrakit.rpc import discovery
from infrakit.spi.errors import InvalidSpec, NotFound, Problem


@click.command
@click.argument("plugin", metavar="NAME-OR-SOCKET")
@click.option("--kind", "kinds", multiple=True, help="Check this interface only, such as Instance; may be repeated.")
@click.option("--properties", metavar="FILE", help="Properties for what is provisioned or prepared, in YAML or JSON.")
@click.option(
    "--settle", type=options.duration, default="60s", metavar="TIME", help="How long a listing may lag behind; 60s."
)
@click.option("--init", metavar="FILE", help="Boot script of what is provisioned; otherwise one that sleeps.")
@click.option("--raw", is_flag=True, help="Show every request and answer as it was on the wire.")
@click.option(
    "-o",
    "--output",
    "output_format",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    help="Default: text.",
)
def check(  # noqa: PLR0917
    plugin: str,
    kinds: tuple[str, ...],
    properties: str | None,
    settle: float,
    init: str | None,
    raw: bool,
    output_format: str,
) -> None:
    """Ask a plugin whether it keeps the protocol: every method, every shape, bad input.

    It really provisions, with PROPERTIES, and destroys everything again. NAME is a plugin that runs here, also
    NAME/TYPE, or the path of its socket. Exit code 0: all passed; 2: not all. What a plugin may lack is reported as a
    capability, not as a failure.

    \b
    Example:
      infrakit plugin check group
    """
    import asyncio

    from infrakit.rpc import conformance
    from infrakit.rpc.conformance import report
    from infrakit.rpc.conformance.check import Outcome, Verdict
    from infrakit.rpc.transport import opened

    name, address = _found(plugin)
    given = _properties(properties)
    script = documents.read(init)[0] if init is not None else conformance.INIT
    outcomes: list[Outcome] = []

    async def run() -> None:
        async with opened(address) as transport:
            checks = conformance.run(transport, name, kinds=kinds, properties=given, init=script, settle_s=settle)
            async for outcome in checks:
                outcomes.append(outcome)
                if output_format == "text":
                    _show(report.line(outcome), *report.details(outcome, raw=raw))

    asyncio.run(run())
    match output_format:
        case "text":
            _show("", report.summary(outcomes))
        case "json":
            _show(report.json(outcomes))
        case "junit":
            _show(report.junit(outcomes, name))
    if any(outcome.verdict is Verdict.FAILED for outcome in outcomes):
        raise click.exceptions.Exit(exit_codes.NOT_DONE)


def _found(plugin: str) -> tuple[str, str]:
    """The name that the plugin is asked under, and its address."""
    running = discovery.find(plugin)
    if running is not None:
        return plugin, running.address
    if "://" in plugin or Path(plugin).exists():
        return Path(plugin).name, plugin
    raise NotFound(f"no plugin {plugin} runs here", remedy="see: infrakit plugin ls, infrakit plugin start")


def _properties(file: str | None) -> Any:
    if file is None:
        return {}
    text, source = documents.read(file)
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidSpec([Problem(path="", message=f"not YAML: {error}")], where=source) from None


def _show(*lines: str) -> None:
    for each in lines:
        click.echo(each)
