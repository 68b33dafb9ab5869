"""A relative INFRAKIT_HOME keeps the paths of sockets short, and is printed as an absolute path."""

import asyncio
import signal
from pathlib import Path

from tests.unit.cli.command_line import CommandLine
from tests.unit.cli.test_up import DOCUMENT, up


async def test_printed_paths_are_absolute(cli: CommandLine, home: Path) -> None:
    cli.environment["INFRAKIT_HOME"] = "kept"
    (home / "sim.yaml").write_text(DOCUMENT)
    assert f"no daemon answers at {home}/kept/plugins/group" in (await cli("status")).err
    async with up(cli, "sim.yaml") as process:
        assert f"{home}/kept is in use by the daemon" in (await cli("up", "sim.yaml")).err
        process.send_signal(signal.SIGINT)
        out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert f"INFRAKIT_HOME={home}/kept infrakit up  " in out.decode().replace(f"{cli.python[0]} -m ", "")
    assert f"INFRAKIT_HOME={home}/kept infrakit down " in out.decode()
    damaged = next((home / "kept" / "store").rglob("declaration*"))
    for each in [damaged] if damaged.is_file() else damaged.iterdir():
        each.write_bytes(b"damaged")
    assert f"{home}/kept/store" in (await cli("history")).err
