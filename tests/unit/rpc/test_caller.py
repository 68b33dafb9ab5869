"""Who is recorded for a request: the claimed name, and the authenticated identity if it differs."""

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
        (Caller(), "ann (anonymous)", "ann (anonymous)"),  # forwarded by another replica
        (Caller("node1", "certificate"), "ann (token bob)", "ann (token bob) (certificate node1)"),
    ],
)
def test_a_claimed_name_is_recorded_with_the_authenticated_identity(
    caller: Caller, claimed: str, recorded: str
) -> None:
    assert caller.signed(claimed) == recorded
