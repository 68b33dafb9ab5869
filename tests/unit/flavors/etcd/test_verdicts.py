"""The verdict on each member, derived from the polls of all."""

import msgspec
import pytest

from infrakit.clients.etcd import Member, MemberStatus
from infrakit.flavors.etcd.health import Poll, Round
from infrakit.spi.values import Health

SOUND = MemberStatus(member=1, leader=1, raft_term=2, raft_index=100, applied_index=100, version="3.5.16", cluster=9)


def status(member: int, **more: object) -> MemberStatus:
    return msgspec.structs.replace(SOUND, member=member, **more)


def poll(member: int, **more: object) -> Poll:
    return Poll(url=f"http://m{member}:2379", healthy=True, status=status(member, **more))


def silent(member: int, *, listens: bool = True) -> Poll:
    return Poll(url=f"http://m{member}:2379", listens=listens, error="no answer within 3 s" if listens else "refused")


def hanging(member: int) -> Poll:
    """A member of etcd 3.5 that searches for a leader: it returns its status, but not its health."""
    return msgspec.structs.replace(poll(member, leader=0), healthy=False, error="no answer within 3 s")


def listed(*numbers: int, learner: int = 0) -> tuple[Member, ...]:
    return tuple(Member(id=n, name=f"m{n}", peer_urls=(f"http://m{n}:2380",), is_learner=n == learner) for n in numbers)


def verdict(*polls: Poll, members: tuple[Member, ...] = (), of: int = 1, max_lag: int = 10) -> tuple[Health, str]:
    round_ = Round(
        polls={each.url[7:9]: each for each in polls}, members=members or listed(1, 2, 3), leader=SOUND, max_lag=max_lag
    )
    report = round_.verdict(f"m{of}")
    return report.health, report.note


def test_the_note_of_a_healthy_member_names_the_leader() -> None:
    assert verdict(poll(1), poll(2), poll(3)) == (Health.HEALTHY, "leads")
    assert verdict(poll(1), poll(2), poll(3), of=2) == (Health.HEALTHY, "follows m1")


def test_listed_members_that_did_not_answer_are_reported() -> None:
    _, note = verdict(poll(1), poll(2), members=listed(1, 2, 3, 4))
    assert note == "leads; m3, m4 of the 4 members listed did not answer"


@pytest.mark.parametrize(
    ("own", "note"),
    [
        (silent(2, listens=False), "etcd does not run at http://m2:2379 (refused)"),
        (silent(2), "no answer within 3 s, while 2 of the others have a leader"),
        (poll(7), "is not in the member list"),
        (msgspec.structs.replace(poll(2, leader=0), healthy=False), "has no leader, while 2 of the others have one"),
        (hanging(2), "does not answer its health check (no answer within 3 s), while 2 of the others have a leader"),
        (poll(2, applied_index=89), "is 11 entries behind the leader, and MaxLag is 10"),
    ],
)
def test_a_fault_of_the_member_itself_makes_it_unhealthy(own: Poll, note: str) -> None:
    polls = {"m1": poll(1), "m2": own, "m3": poll(3)}
    report = Round(polls=polls, members=listed(1, 2, 3), leader=SOUND, max_lag=10).verdict("m2")
    assert report.health is Health.UNHEALTHY
    assert note in report.note


def test_a_learner_is_unhealthy_and_a_little_lag_is_not() -> None:
    assert verdict(poll(1), poll(2), poll(3), members=listed(1, 2, 3, learner=2), of=2)[0] is Health.UNHEALTHY
    assert verdict(poll(1), poll(2, applied_index=90), poll(3), of=2)[0] is Health.HEALTHY


def test_a_fault_that_a_replacement_would_not_fix_is_unknown() -> None:
    blind = [msgspec.structs.replace(poll(n, leader=0), healthy=False) for n in (1, 2)]
    health, note = verdict(*blind, silent(3, listens=False))
    assert (health, note) == (Health.UNKNOWN, "the cluster has no leader: 2 of 3 members answer")
    assert verdict(*blind, silent(3), of=3)[0] is Health.UNKNOWN
    full = msgspec.structs.replace(poll(1, errors=("memberID:1 alarm:NOSPACE ",)), healthy=False)
    health, note = verdict(full, poll(2), poll(3))
    assert health is Health.UNKNOWN
    assert "NOSPACE" in note
    health, note = verdict(poll(1), poll(2), poll(3, cluster=8))
    assert health is Health.UNKNOWN
    assert "form 2 clusters" in note


def test_a_missing_member_list_is_not_used_for_verdicts() -> None:
    polls = {"m1": poll(1), "m2": poll(2)}
    assert Round(polls=polls, members=(), leader=None, max_lag=10).verdict("m2").health is Health.HEALTHY
