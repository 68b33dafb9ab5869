"""The properties of `local`: which are accepted, and which are refused, with all problems at once."""

from typing import Any

import msgspec
import pytest

from infrakit.instances.local import Local
from infrakit.spi.errors import InvalidSpec, Refused
from tests.unit.instances.local_world import listed, raw, spec

GOOD: dict[str, Any] = {
    "Files": {"a": "", "b/c": "x", "b/d": "y"},
    "Environment": {"NAME": "value"},
    "Limits": {"OpenFiles": 64, "Processes": 9, "AddressSpaceBytes": 2**30, "CPUSeconds": 5, "CoreBytes": 0},
    "SuccessCodes": [0, 255],
    "GracePeriod": "1m30s",
}


@pytest.mark.parametrize("properties", [{}, None, GOOD])
async def test_valid_properties_are_accepted(local: Local, properties: Any) -> None:
    await local.validate(properties=raw(properties))


@pytest.mark.parametrize(
    ("properties", "paths"),
    [
        ({"Filse": {}}, ["Filse"]),
        ({"SuccessCodes": [256]}, ["SuccessCodes[0]"]),
        ({"GracePeriod": "5"}, ["GracePeriod"]),
        ({"Limits": {"OpenFiles": 1}}, ["Limits.OpenFiles"]),
        ({"Files": {"/etc/passwd": ""}}, ["Files['/etc/passwd']"]),
        ({"Files": {"../x": "", "a/../../x": ""}}, ["Files['../x']", "Files['a/../../x']"]),
        ({"Files": {"": "", "a//b": "", ".": ""}}, ["Files['']", "Files['a//b']", "Files['.']"]),
        ({"Files": {"a": "", "a/b": ""}}, ["Files['a/b']"]),
        ({"Environment": {"INFRAKIT_GROUP": "x", "A=B": ""}}, ["Environment['INFRAKIT_GROUP']", "Environment['A=B']"]),
        ({"Environment": {"A": "\0"}, "Files": {"..": ""}}, ["Files['..']", "Environment['A']"]),
    ],
)
async def test_invalid_properties_are_refused_with_every_path(
    local: Local, properties: dict[str, Any], paths: list[str]
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        await local.validate(properties=raw(properties))
    found = [each.path for each in caught.value.problems]
    assert found == paths
    wanted = msgspec.structs.replace(spec(), properties=raw(properties))
    with pytest.raises(Refused):
        await local.provision(spec=wanted)
    assert await listed(local) == {}
