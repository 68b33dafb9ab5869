"""Claims of logical IDs and volumes: one that a terminated instance has left is deleted only if it is still its own."""

from pathlib import Path

import pytest

from infrakit.instances.local import collect, records
from infrakit.instances.local.home import Home
from infrakit.instances.local.records import LOGICAL_ID, VOLUME, InstanceRecord
from infrakit.spi.values import Attachment, LogicalID

OWN, OTHER = "i-000000000001", "i-000000000002"


@pytest.mark.parametrize(("holder", "is_deleted"), [(OWN, True), (OTHER, False)])
def test_the_claims_of_a_terminated_instance_are_deleted_unless_another_one_has_them(
    tmp_path: Path, holder: str, *, is_deleted: bool
) -> None:
    """A replacement may have claimed them before the terminated instance was cleared."""
    home = Home(tmp_path)
    archived = home.dead_logs / OWN
    archived.mkdir()
    attached = (Attachment(id="vol-1", type=VOLUME),)
    records.write(archived, InstanceRecord(id=OWN, logical_id=LogicalID("a"), attachments=attached, grace_s=1.0))
    claims = [home.claim(LOGICAL_ID, "a"), home.claim(VOLUME, "vol-1")]
    for claim in claims:
        claim.write_text(holder)
    collect.clear(home, OWN, terminated_at=0.0)
    assert [claim.exists() for claim in claims] == [not is_deleted] * 2
