"""Who is recorded for an order: the name that was claimed, and what vouches for it where that is not the same."""

import pytest

from infrakit.rpc.caller import Caller


@pytest.mark.parametrize(
    ("caller", "claimed", "recorded"),
    [
        (Caller(is_self=True), "ann", "ann"),
        (Caller("ann", "token"), "ann", "ann"),
        (Caller("bob", "token"), "ann", "ann (token bob)"),
        (Caller("bob", "token"), "", "token bob"),
        (Caller(), "ann", "ann (anonymous)"),
        (Caller(), "ann (anonymous)", "ann (anonymous)"),  # it came by way of another replica
        (Caller("node1", "certificate"), "ann (token bob)", "ann (token bob) (certificate node1)"),
    ],
)
def test_a_claim_is_recorded_with_who_made_it(caller: Caller, claimed: str, recorded: str) -> None:
    assert caller.signed(claimed) == recorded
