"""Draining by the flavor vanilla: a real command with a timeout."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.flavors.vanilla import Vanilla
from infrakit.spi.errors import PluginError, Refused
from infrakit.spi.values import Description, InstanceID, LogicalID

PET = Description(id=InstanceID("i-1"), logical_id=LogicalID("10.0.0.1"))


async def drain(declared: dict[str, Any] | None) -> None:
    properties = msgspec.Raw(msgspec.json.encode({"Drain": declared}))
    await Vanilla().drain(properties=properties, instance=PET)


async def test_without_a_command_drain_does_nothing() -> None:
    await drain(None)


async def test_the_command_receives_the_instance(tmp_path: Path) -> None:
    await drain({"Command": ["sh", "-c", f'echo "$$0" > {tmp_path}/left', "${LOGICAL_ID}"]})
    assert (tmp_path / "left").read_text() == "10.0.0.1\n"


async def test_exit_code_75_refuses_the_drain_for_now() -> None:
    with pytest.raises(Refused, match="drain of i-1: the drain command refused for now, with exit code 75: last voter"):
        await drain({"Command": "echo last voter; exit 75"})


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"Command": "echo oops; exit 1"}, "exit code 1: oops"),
        ({"Command": ["/no/such/program"]}, "cannot be run"),
        ({"Command": ["echo", "${TAG_absent}"]}, r"cannot be run: the instance has no value for \$\{TAG_absent\}"),
        ({"Command": "exec sleep 1000", "Timeout": "50ms"}, "did not finish within 50ms and was killed"),
    ],
)
async def test_any_other_failure_of_the_command_is_a_plugin_error(declared: dict[str, Any], words: str) -> None:
    with pytest.raises(PluginError, match=words):
        await drain(declared)
