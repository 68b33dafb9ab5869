"""Cattle that one request created: two machines, or one that the provider lists under two IDs. At most one counts."""

from typing import Any

import pytest

from infrakit.group.plan import decide
from infrakit.group.state.backoff import Backoff
from infrakit.group.state.member import Member
from infrakit.spi.values import State, Token
from tests.worlds import NOW, OLD, member, rules, verbs, view, want


def created_by_one_request(slot: str, **second: Any) -> tuple[Member, Member]:
    """Two members with one token: two machines, or one that is listed under two IDs."""
    both = member(slot), member(slot, name=f"i-{slot}-b", **second)
    for each in both:
        each.token = Token("t")
    return both


def test_of_several_members_that_one_request_created_all_but_one_are_surplus() -> None:
    others = [member("1", age_s=1), member("3", version=OLD)]
    (destroy,) = decide(want(4), view(*others, *created_by_one_request("2"))).actions
    assert (destroy.subject, destroy.rule) == ("i-2-b", "surplus")
    assert destroy.reason == "the request that created it created i-2 too: one of them is surplus"
    plan = decide(want(3), view(*others, *created_by_one_request("2")))
    assert verbs(plan)[0] == ("destroy", "i-2-b")


@pytest.mark.parametrize("gone", [{"leaving": "destroyed"}, {"missing_s": 5.0}, {"state": State.STOPPING}])
def test_what_one_request_created_is_not_surplus_while_the_other_leaves_or_is_not_listed(gone: dict[str, Any]) -> None:
    plan = decide(want(2), view(member("1"), *created_by_one_request("2", **gone)))
    assert plan.actions == ()


def test_a_group_with_two_members_of_one_request_is_not_converged() -> None:
    world = view(member("1"), *created_by_one_request("2"))
    world.backoffs["i-2-b"] = Backoff(count=1, retry_at=NOW + 5, why="refused")
    plan = decide(want(3), world)
    assert (plan.actions, plan.converged) == ((), False)
    assert rules(plan) == {"back-off"}
