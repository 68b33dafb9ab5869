"""Containers as instances: which have terminated, and which claims of logical IDs and volumes conflict."""

import pytest

from infrakit.clients.docker import Container, Volume
from infrakit.instances.docker import changed_tags, make, records
from infrakit.instances.docker.records import ABANDONED_S, ContainerRecord
from infrakit.spi import errors
from infrakit.spi.values import Attachment, InstanceID, InstanceSpec, LogicalID, State

NOW = 10_000.0
VOLUME = Attachment(id="vol-1", type="volume")
OTHER = Attachment(id="vol-2", type="volume")


def container(
    name: str, state: str = "running", *, age_s: float = 60.0, id_: str = "", claims: dict[str, str] | None = None
) -> Container:
    return Container(
        id=f"container-{name}",
        name=name,
        image="alpine",
        state=state,
        status="Up 1 minute",
        created=int(NOW - age_s),
        labels={records.ID: id_ or name, **(claims or {})},
        addresses={},
        mounts={},
    )


def record(state: str = "running", *, logical_id: str = "", attached: str = "") -> ContainerRecord:
    claims = {records.LOGICAL_ID: logical_id} if logical_id else {}
    claims |= {records.ATTACHMENTS: f'[{{"ID":"{attached}","Type":"volume"}}]'} if attached else {}
    return records.records([container("i-old", state, claims=claims)], now=NOW)[InstanceID("i-old")]


@pytest.mark.parametrize(
    ("state", "is_live"),
    [
        ("created", True),
        ("running", True),
        ("restarting", True),
        ("paused", True),
        ("removing", True),
        ("a state of a later Engine", True),
        ("exited", False),
        ("dead", False),
    ],
)
def test_an_instance_holds_its_logical_id_until_no_process_of_it_can_run(state: str, *, is_live: bool) -> None:
    assert record(state).is_live == is_live
    assert record(state, attached="vol-1").description({}).attachments == ((VOLUME,) if is_live else ())
    assert record("removing").state is State.STOPPING


def test_a_container_that_was_created_and_not_started_has_terminated_after_a_while_only() -> None:
    young, old = (container("i", "created", age_s=age_s) for age_s in (ABANDONED_S - 1, ABANDONED_S + 1))
    assert records.records([young], now=NOW)[InstanceID("i")].state is State.PENDING
    assert records.records([old], now=NOW)[InstanceID("i")].state is State.TERMINATED


def test_two_containers_with_one_instance_id_are_an_error() -> None:
    with pytest.raises(errors.PluginError, match="the containers a and b have the same instance ID, i-1"):
        records.records([container("a", id_="i-1"), container("b", id_="i-1")], now=NOW)


@pytest.mark.parametrize("state", ["running", "paused", "removing", "created"])
@pytest.mark.parametrize(
    ("spec", "claim"),
    [
        (InstanceSpec(logical_id=LogicalID("10.0.0.1")), "the logical ID 10.0.0.1"),
        (InstanceSpec(attachments=(OTHER, VOLUME)), "the volume vol-1"),
    ],
)
def test_a_claim_of_an_instance_that_has_not_terminated_is_refused(spec: InstanceSpec, claim: str, state: str) -> None:
    there = record(state, logical_id="10.0.0.1", attached="vol-1")
    with pytest.raises(errors.Conflict, match=f"{claim};"):
        make.refuse_duplicate(InstanceID("i-new"), spec, [there])
    make.refuse_duplicate(there.id, spec, [there])  # itself
    assert make.exited(spec, [there]) == []


def test_an_exited_container_has_no_claim_and_is_removed_before_its_replacement_starts() -> None:
    address, volume = InstanceSpec(logical_id=LogicalID("10.0.0.1")), InstanceSpec(attachments=(VOLUME,))
    there = record("exited", logical_id="10.0.0.1", attached="vol-1")
    for spec in (address, volume):
        make.refuse_duplicate(InstanceID("i-new"), spec, [there])
        assert make.exited(spec, [there]) == [there]
    assert make.exited(InstanceSpec(logical_id=LogicalID("10.0.0.2"), attachments=(OTHER,)), [there]) == []


def test_the_newest_revision_of_changed_tags_counts_in_any_order() -> None:
    old, new = (
        Volume(
            name=f"i-1-tags-{revision}",
            labels={
                changed_tags.OF: "i-1",
                f"{records.OWN}revision": str(revision),
                f"{records.OWN}tags": f'{{"a": "{revision}"}}',
            },
        )
        for revision in (9, 10)
    )
    for listed in ([old, new], [new, old]):
        assert changed_tags.tags_of(listed) == {"i-1": {"a": "10"}}
