"""Themes: in a fixed share of the seeds, a few facts coincide that otherwise rarely do.

A theme sets what it needs, and leaves everything else as the seed has drawn it. Its own randomness comes from the seed,
so that the other worlds are the same with and without themes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from infrakit.instances.simulator import Spread

EVERY = 5  # one seed of so many has a theme
OVER_S = 180.0  # from when on what the seed has drawn happens, too


class Theme(NamedTuple):
    """The facts that coincide. Each of the deeds happens between two times, in seconds."""

    name: str
    deeds: Sequence[tuple[float, float, str]]
    pets: bool
    size: int
    groups: int = 1
    group: Mapping[str, object] = {}  # fields of every group
    updating: Mapping[str, object] = {}
    healing: Mapping[str, object] = {}
    faults: Mapping[str, object] = {}
    cloud: Mapping[str, object] = {}
    flavor: Mapping[str, object] = {}


CALM = {"never_healthy_rate": 0.0, "lifetime": 0.0, "unhealthy_after": 0.0, "per_second": 0.0, "partial_rate": 0.0}
AT_ONCE = {"lag": Spread(), "termination_lag": Spread()}  # listings show every change
SURE = {"unknown_rate": 0.0, "drain_hang_rate": 0.0}
QUICK = {"Settle": "0s", "DrainTimeout": "1s", "OnFailure": "pause", "Canary": 0}
CANARY = {"Settle": "0s", "DrainTimeout": "1s", "Canary": 1, "BakeTime": "20s"}

THEMES = (
    Theme(
        "a canary is rolled back, and what it bakes for is declared again",
        [(55.0, 60.0, "version"), (62.0, 70.0, "rollback"), (85.0, 90.0, "version"), (92.0, 110.0, "rollback")],
        pets=False,
        size=3,
        updating={**CANARY, "OnFailure": "rollback"},
        faults={**CALM, "boot": Spread(), **AT_ONCE},
        cloud={"stops_s": 0.0},
        flavor=SURE,
    ),
    Theme(
        "another version follows while a canary is created, and the provider does not answer",
        [(64.0, 65.0, "version"), (65.0, 66.0, "lose creations"), (67.0, 68.0, "version")],
        pets=False,
        size=2,
        updating=CANARY,
        faults={**CALM, "boot": Spread(), **AT_ONCE, "tokens": True, "fail_rate": 0.0},
        cloud={"stops_s": 0.0},
        flavor={**SURE, "prepare_fail_rate": 0.0},
    ),
    Theme(
        "the flavor refuses what is created while canaries bake",
        [(60.0, 62.0, "version"), *[(at, at + 6.0, "kill many") for at in (66.0, 76.0, 90.0)]],
        pets=False,
        size=4,
        updating=CANARY,
        healing={"MaxUnhealthy": 4},
        faults={**CALM, "boot": Spread(), **AT_ONCE, "fail_rate": 0.0},
        cloud={"stops_s": 0.0},
        flavor={**SURE, "prepare_fail_rate": 0.3, "prepare_refuses": True, "prepare_s": 0.0},
    ),
    Theme(
        "the provider refuses what it has not answered before, also during a rolling update",
        [(15.0, 20.0, "version"), (20.0, 24.0, "kill many"), (26.0, 34.0, "refuse creations")],
        pets=False,
        size=4,
        updating=QUICK,
        faults={**CALM, "tokens": True, "fail_rate": 0.6, **AT_ONCE},
        flavor=SURE,
    ),
    Theme(
        "the provider answers no creation, and a machine without a name appears",
        [(15.0, 20.0, "kill"), (20.0, 24.0, "stray"), (24.0, 26.0, "lose creations")],
        pets=True,
        size=2,
        group={"quorum": False, "volumes": True},
        faults={**CALM, "tokens": False, "fail_rate": 0.6, **AT_ONCE, "boot": Spread(high=15.0)},
        cloud={"reuses_ids": False},
        flavor=SURE,
    ),
    Theme(
        "replacements never become healthy",
        [(20.0, 30.0, "sicken in turn"), (40.0, 110.0, "sicken many")],
        pets=False,
        size=2,
        healing={"BootGrace": "5s", "UnhealthyAfter": "5s", "Backoff": "60s", "MaxUnhealthy": 2},
        updating=QUICK,
        faults={**CALM, "never_healthy_rate": 0.9, **AT_ONCE},
        flavor=SURE,
    ),
    Theme(
        "several terminated pets run again beside their replacements",
        [(30.0, 35.0, "kill many"), *[(70.0, 75.0, "revive")] * 4, (85.0, 90.0, "kill many"), (110.0, 112.0, "revive")],
        pets=True,
        size=5,
        group={"quorum": False, "volumes": False},
        healing={"MaxUnhealthy": 4},
        faults={**CALM, "exclusive": False, **AT_ONCE, "boot": Spread()},
        cloud={"ended_shown_s": 0.0, "reuses_ids": False},
        flavor=SURE,
    ),
    Theme(
        "volumes move between logical IDs while members boot, and a leader is replaced",
        [
            *[(at, at + 3.0, "kill many") for at in (30.0, 60.0, 90.0)],
            *[(at, at + 8.0, "resize") for at in (34.0, 64.0, 94.0)],
            *[(at, at + 6.0, "crash") for at in (38.0, 68.0, 98.0)],
        ],
        pets=True,
        size=3,
        group={"quorum": False, "volumes": True, "moves": True},
        healing={"MaxUnhealthy": 4},
        faults={**CALM, "boot": Spread(high=15.0), **AT_ONCE},
        flavor={**SURE, "attachments_fail_rate": 0.0, "prepare_s": 0.0},
    ),
    Theme(
        "logical IDs move between groups while their instances are created",
        [(at, at + 4.0, what) for at in (30.0, 50.0, 70.0, 90.0) for what in ("kill many", "hand over")],
        pets=True,
        size=3,
        groups=2,
        group={"quorum": False},
        healing={"MaxUnhealthy": 4},
        faults={**CALM, "fail_rate": 0.5},
        flavor=SURE,
    ),
    Theme(
        "a second installation holds a volume that a member needs",
        [
            *[(at, at + 4.0, "foreign volume") for at in (30.0, 45.0, 60.0)],
            *[(at, at + 4.0, what) for at in (36.0, 51.0, 66.0, 90.0) for what in ("kill", "detach")],
        ],
        pets=True,
        size=2,
        group={"quorum": False, "volumes": True},
        faults={**CALM, **AT_ONCE},
        flavor={**SURE, "attachments_fail_rate": 0.0},
    ),
)


def of(seed: int) -> Theme | None:
    """Return the theme of a seed; None: it has none."""
    return None if seed % EVERY else THEMES[seed // EVERY % len(THEMES)]
