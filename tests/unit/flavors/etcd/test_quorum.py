"""What a cluster of etcd can lose, from plain values: nothing that needs a running member is requested."""

import pytest

from infrakit.clients.etcd import Etcd
from infrakit.flavors.etcd import membership
from infrakit.flavors.etcd.membership import Cluster
from infrakit.spi import errors
from infrakit.spi.values import InstanceID
from tests.unit.flavors.etcd.test_verdicts import listed, poll


def cluster(size: int, *, silent: tuple[int, ...] = (), learner: int = 0) -> Cluster:
    """Members 1 to `size`, of which some do not answer, and one may be a learner."""
    members = listed(*range(1, size + 1), learner=learner)
    healthy = {each.id: poll(each.id) for each in members if each.id not in silent}
    return Cluster(members=members, healthy=healthy, identity=9)


def no_client(url: str) -> Etcd:
    raise AssertionError(f"no member is contacted, and {url} was")


def may_be_absent(of: Cluster, member: int) -> bool:
    try:
        membership.check_absence(of, of.members[member - 1], where="m")
    except errors.Refused:
        return False
    return True


async def why_not_removed(of: Cluster, member: int) -> str:
    with pytest.raises(errors.Refused) as refused:
        await membership.remove(of, of.members[member - 1], no_client, where="m")
    return refused.value.what


@pytest.mark.parametrize(
    ("size", "silent", "permitted"),
    [
        (3, (), True),
        (3, (2,), False),
        (4, (), True),
        (4, (2,), False),  # two of four would be left: no majority
        (5, (2,), True),
        (5, (2, 3), False),
        (2, (), True),  # a cluster of two tolerates no loss, and could never be replaced
    ],
)
def test_a_member_may_be_absent_while_the_others_are_the_majority(
    size: int, silent: tuple[int, ...], *, permitted: bool
) -> None:
    assert may_be_absent(cluster(size, silent=silent), 1) == permitted
    assert may_be_absent(cluster(size, silent=(1, *silent)), 1), "its vote is lost already"


async def test_a_member_is_not_removed_if_the_rest_would_have_no_majority() -> None:
    assert await why_not_removed(cluster(4, silent=(2, 3)), 1) == (
        "1 of 3 members would be left healthy after its removal, and the quorum needs 2 (not healthy: m2, m3)"
    )
    assert "0 of 1 members would be left healthy" in await why_not_removed(cluster(2, silent=(2,)), 1)


async def test_the_last_member_is_not_removed() -> None:
    assert "holds the only copy of the data" in await why_not_removed(cluster(1), 1)


async def test_a_learner_has_no_vote() -> None:
    """It answers, and still one of two voters of the rest would be missing."""
    five = cluster(5, silent=(2, 3), learner=4)
    assert [each.id for each in five.healthy_others(five.members[0])] == [5]
    assert "1 of 4 members would be left healthy" in await why_not_removed(five, 1)


def test_every_voter_of_the_list_is_one_also_without_an_instance() -> None:
    four = cluster(4, silent=(2,), learner=3)
    found = membership.voters(four, {InstanceID("i-1"): "http://m1:2380"})
    assert [(each.id, each.healthy, each.instances) for each in found] == [
        ("1", True, ("i-1",)),
        ("2", False, ()),
        ("4", True, ()),
    ]
