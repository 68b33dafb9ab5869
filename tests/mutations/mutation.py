"""One mutation, and the tests that notice mutations of each part."""

from typing import NamedTuple

PLAN = ("tests/unit/group/test_plan.py", "tests/laws")  # the quick ones first
LIST = ("tests/unit/group/test_membership_plan.py", "tests/laws")
PROVEN = ("tests/unit/group/test_proven.py",)
CANARY = ("tests/unit/group/test_canary.py",)
VIEW = ("tests/unit/group/test_view.py",)
MANAGER = ("tests/unit/manager",)
LIFECYCLE = ("tests/unit/lifecycle",)
STAGE = ("tests/unit/group", "tests/unit/manager")  # the whole controller in front of a simulated provider
MOVED = ("tests/unit/group/test_moved.py",)
BEARERS = ("tests/unit/group/test_bearers.py",)
CENSUS = ("tests/unit/manager/test_censuses.py", "tests/unit/group/test_census.py")
WORLDS = ("tests/simulation/test_seeds.py",)
OTHERS = ("tests/unit/group/test_foreign.py", "tests/unit/manager/test_ownership.py")  # other clusters
GATE = ("tests/unit/gate",)
GUARDED = ("tests/unit/group/test_guarded.py", "tests/unit/group/test_gate.py", "tests/unit/group/test_scale_in.py")
STORES = ("tests/unit/stores",)


class Mutation(NamedTuple):
    """Replace `old`, which occurs once in `file`, by `new`; one of `tests` must fail."""

    law: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
