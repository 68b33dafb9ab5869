"""Validation reports all problems that the manager and the plugins find in a document at once."""

from pathlib import Path

import pytest

from infrakit.runtime import registry
from infrakit.spi.errors import InvalidSpec

WRONG = """\
- kind: group
  metadata: {name: web}
  properties:
    Allocation: {LogicalIDs: [a, b, a]}
    Instance: {Plugin: simulator, Properties: {BootTime: -1}}
    Flavor:
      Plugin: vanilla
      Properties: {Attachments: {a: [{ID: v, Type: volume}], b: [{ID: v, Type: volume}]}}
    Updating: {MaxUnavailible: 1}
- kind: group
  metadata: {name: web}
  properties:
    Allocation: {Size: -1}
    Instance: {Plugin: simulater}
    Flavor: {Plugin: vanilla}
"""


async def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec) as refused:
        await registry.validate(WRONG, "web.yaml", home=tmp_path)
    assert [(p.line, p.path) for p in refused.value.problems] == [
        (4, "groups[0].properties.Allocation.LogicalIDs[2]"),
        (5, "groups[0].properties.Instance.Properties.BootTime"),
        (8, "groups[0].properties.Flavor.Properties.Attachments.b[0]"),
        (9, "groups[0].properties.Updating.MaxUnavailible"),
        (11, "groups[1].metadata.name"),
        (13, "groups[1].properties.Allocation.Size"),
        (14, "groups[1].properties.Instance.Plugin"),
    ]
