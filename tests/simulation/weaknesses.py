"""Rules that are taken out of the code, and the worlds in which that must show."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from infrakit.gate.authority import Epoch
from infrakit.gate.guard import Guard
from infrakit.group import controller, executor, guarded, listing, plan
from infrakit.group.account import Account
from infrakit.group.actions import GroupPhase
from infrakit.group.calls import creation as calls
from infrakit.group.plan import adopting, cattle, classification, exchange, limits, pets
from infrakit.group.plan.desired import DesiredState
from infrakit.group.state import identity, matching, others
from infrakit.group.state.creation import Creation
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.instances.simulator import Spread
from infrakit.manager.declaration.store import Declaration
from infrakit.manager.lead import ledger, term
from infrakit.manager.lead.fence import Fence
from infrakit.manager.lead.ledger import EpochLedger
from infrakit.manager.lead.watermark import WatermarkGuard
from infrakit.spi import formats
from tests.simulation import removals

IMMEDIATE = {"lag": Spread(), "termination_lag": Spread(), "lag_max": 0.0}  # listings show every change at once
STEADY = IMMEDIATE | {"boot": Spread(), "lifetime": 0.0, "unhealthy_after": 0.0, "never_healthy_rate": 0.0}


class Weakness(NamedTuple):
    """Rules that are taken out, and the worlds in which that shows."""

    name: str
    rules: Sequence[tuple[object, str, object]]  # the owner, the name, and the replacement
    deeds: Sequence[str]
    laws: tuple[str, ...]  # one of them must break
    faults: Mapping[str, object] = {}
    cloud: Mapping[str, object] = {}
    minutes: float = 2.0
    replicas: int = 1
    inspects: bool = False  # in every world
    watches: bool = False  # in every world, the provider can inspect and watch
    own_node: bool = False  # only worlds whose replicas run on their members
    parts: bool = False  # in every world, the flavor knows what members are made from


WEAKNESSES = (
    Weakness(
        "instances of a second installation count as members",
        [(listing, "foreign", removals.nothing)],
        ("foreign", "foreign", "version", "scale"),
        ("5 never worse: not ours", "2 one per identity"),
    ),
    Weakness(
        "a lost answer counts as a failure",
        [(Creation, "unanswered", removals.certainly_nothing)],
        ("scale", "version"),
        ("3 exactly one",),
        faults={"tokens": False, "exclusive": False, "lost_rate": 0.5},
    ),
    Weakness(
        "an effect after an early error is not awaited",
        [(matching, "overdue", removals.at_once)],
        ("scale", "version"),
        ("3 ", "2 one per identity"),
        faults={"tokens": False, "exclusive": False},
        cloud={"late_rate": 0.5},
    ),
    Weakness(
        "neither planner nor guard limit losses",
        [(limits, "breaker", removals.no_reason), (Guard, "_refuse_destroy", removals.no_reason)],
        ("sicken in turn", "sicken many", "version"),
        ("5 never worse",),
    ),
    Weakness(
        "creations of an hour are not limited",
        [(Guard, "_creations_left", lambda *_: 1000)],
        ("scale",),
        ("5 never worse: creations",),
        faults={"boot": Spread(), "lifetime": 4.0, "lag": Spread(), "termination_lag": Spread(), "lag_max": 0.0},
    ),
    Weakness(
        "destructions of the previous leader are forgotten",
        [
            (GroupView, "inherit_destroys", removals.nothing),
            (Guard, "recall", removals.nothing),
            (Guard, "_refuse_vote", removals.no_reason),
        ],
        ("version", "flip"),
        ("5 never worse",),
        cloud={"late_rate": 0.8, "stops_s": 60.0},
        replicas=3,
    ),
    Weakness(
        "an error of an inspection proves a termination",
        [(controller, "inspect_each", removals.trusting)],
        ("empty", "scale"),
        ("2 one per identity", "3 never more", "4 "),
        faults={"exclusive": False, "silent_partial_rate": 0.0, "empty_rate": 0.0},
        cloud={"inspect_error_rate": 0.5},
        inspects=True,
    ),
    Weakness(
        "an instance that may live does not hold its logical ID",
        [(pets, "holders", removals.nothing)],
        ("stop", "version"),
        ("2 one per identity",),
        faults={"exclusive": False},
    ),
    Weakness(
        "an unfinished group counts as converged",
        [(plan, "_phase", lambda _builder: GroupPhase.CONVERGED)],
        ("sicken many", "sicken"),
        ("7 converged means converged",),
    ),
    Weakness(
        "our own node is destroyed with the others",
        [(Member, "identify", removals.nothing)],
        ("destroy", "version"),
        ("5 never worse: own node",),
        replicas=3,
        own_node=True,
    ),
    Weakness(
        "a newer format is read as if it were known",
        [(formats, "decode", removals.any_format)],
        ("release", "release", "release", "scale", "version", "kill"),
        ("2 one per identity", "3 "),
        faults={"tokens": False, "exclusive": False, "lost_rate": 0.5},
    ),
    Weakness(
        "a hidden logical ID is believed",
        [(identity, "of_pet", removals.as_listed)],
        ("unname", "unname", "version"),
        ("2 one per identity", "4 ", "5 never worse"),
        faults={"exclusive": False},
    ),
    Weakness(
        "a change of policy replaces members",
        [(DesiredState, "is_current", lambda want, member: member.hash == want.group.hash)],
        ("policy", "policy", "scale"),
        ("4 unknown is not missing",),
        parts=True,
    ),
    Weakness(
        "one machine with two IDs counts as two members",
        [(cattle, "doubles", lambda _builder: {})],
        ("alias",),
        ("7 converged means converged",),
    ),
    Weakness(
        "an instance of another cluster loses the logical ID that a listing omits",
        [(others, "_remembered", lambda now, _before: now)],
        ("foreign", "foreign", "unname", "unname", "resize"),
        ("2 one per identity",),
        faults={"exclusive": False},
    ),
    Weakness(
        "a machine that another party has started is not adopted",
        [(adopting, "bootstrapped", removals.nothing)],
        ("seed", "seed"),
        ("AssertionError: not converged",),
    ),
    Weakness(
        "a store that was restored from a backup is taken for the newest",
        [(WatermarkGuard, "accepts", lambda *_, **__: True)],
        ("restore", "restore", "scale"),
        ("2 ", "3 ", "7 converged means converged", "AssertionError: not converged"),
        replicas=3,
    ),
    Weakness(
        "volumes are deleted without a proof that nothing holds them",
        [(GroupView, "is_proven_empty", lambda _view: True)],
        ("destroy volumes", "empty"),
        ("5 never worse: held volumes",),
    ),
    Weakness(
        "a halt is not obeyed",
        [(Epoch, "check", lambda epoch: epoch._fence.check()), (plan, "decide", removals.unhalted)],
        ("halt", "halt", "version", "scale"),
        ("9 stop means stop",),
    ),
    Weakness(
        "what a previous leader may have created is forgotten",
        [(controller.Controller, "_adopt_intents", removals.nothing)],
        ("crash", "flip", "scale", "version"),
        ("2 one per identity", "3 "),
        faults={"tokens": False, "exclusive": False},
        cloud={"late_rate": 0.5},
        replicas=3,
    ),
    Weakness(
        "a single empty listing proves terminations",
        [(GroupView, "_is_absent", lambda *_: True)],
        ("empty", "version", "kill"),
        ("2 one per identity",),
        faults={"exclusive": False},
        inspects=True,
    ),
    Weakness(
        "a listing that goes back proves terminations",
        [(GroupView, "_is_absent", lambda *_: True)],
        ("version", "kill"),
        ("2 one per identity",),
        faults={"exclusive": False},
        cloud={"back_rate": 0.4},
    ),
    Weakness(
        "a member without its volume is ready",
        [(classification, "unattached", removals.nothing)],
        ("detach", "detach", "kill"),
        ("7 converged means converged",),
    ),
    Weakness(
        "a call may take effect for 60 s at most",
        [(each, "CALL_DEADLINE_S", 60.0) for each in (controller, guarded, executor, calls)],
        ("scale", "version"),
        ("2 one per identity", "3 "),
        faults={"tokens": False, "exclusive": False},
        cloud={"late_rate": 0.5},
    ),
    Weakness(
        "calls in flight are forgotten when their group is freed",
        [(term, "EXPIRY_S", 0.0)],
        ("free", "free", "scale"),
        ("2 one per identity", "3 "),
        faults={"tokens": False, "exclusive": False},
        cloud={"late_rate": 0.5},
    ),
    Weakness(
        "several leave a quorum that changes its size",
        [(exchange, "blocks_removal", removals.no_reason), (Guard, "_refuse_destroy", removals.no_reason)],
        ("resize", "shrink"),
        ("5 never worse",),
    ),
    Weakness(
        "a terminated entry counts as finished",
        [(GroupView, "_listed", removals.finished)],
        ("kill", "scale"),
        ("7 converged means converged",),
        cloud={"ended_shown_s": 300.0},
    ),
    Weakness(
        "what has terminated is ignored when it runs again",
        [(GroupView, "_listed", removals.ended_for_ever)],
        ("kill", "revive"),
        ("2 one per identity", "7 converged means converged"),
        faults={"exclusive": False},
    ),
    Weakness(
        "an ID that is used again is the same instance",
        [(Member, "is_incarnation", lambda *_: True)],
        ("kill", "kill many", "scale"),
        ("2 one per identity",),
        cloud={"reuses_ids": True, "inspect_error_rate": 0.9},
        inspects=True,
    ),
    Weakness(
        "an edited tag shows another version",
        [(Member, "read", removals.as_tagged), (classification, "evidence", removals.no_evidence)],
        ("edit tags", "resume", "resume"),
        ("4 unknown is not missing",),
        faults=STEADY,
        minutes=8.0,
    ),
    Weakness(
        "a lost tag shows another version",
        [
            (Member, "read", removals.as_tagged),
            (classification, "evidence", removals.no_evidence),
            (classification, "_classify_version", removals.outdated),
        ],
        ("lose tags", "resume", "resume"),
        ("4 unknown is not missing",),
        faults=STEADY,
        minutes=8.0,
    ),
    Weakness(
        "nothing is listed again while a watch is silent",
        [(Account, "listing", removals.while_watched), (Account, "_record_hint", removals.list_again)],
        ("watch stops", "kill"),
        ("7 converged means converged", "AssertionError: not converged"),
        faults=IMMEDIATE | {"describe": Spread()},
        watches=True,
    ),
    Weakness(
        "the boot grace is counted by wall clocks",
        [(Member, "grace_ends_at", removals.grace_by_wall_clock)],
        ("jump", "jump", "jump", "scale"),
        ("4 unknown is not missing",),
        faults={"boot": Spread(low=30.0, high=50.0)},
    ),
    Weakness(
        "a store that goes back is believed",
        [(EpochLedger, "_adopt", removals.adopt_any), (Declaration, "load", removals.load_any)],
        ("old reads", "old reads", "scale", "resize"),
        ("6 never lost",),
    ),
    Weakness(
        "tokens of a copy of the store are those of the store",
        [(EpochLedger, "_name", lambda _ledger: "cluster"), (ledger, "TERM_DIGITS", 0)],
        ("fork", "scale", "version", "kill many"),
        ("3 exactly one",),
        faults={"tokens": False, "exclusive": False},
        replicas=3,
    ),
    Weakness(
        "a paused leader does not prove its epoch again",
        [(Fence, "check", Fence.check_epoch), (Fence, "is_fresh", removals.proven_once)],
        ("freeze", "flip", "flip", "dispute", "kill many", "version"),
        ("1 one actor",),
        replicas=3,
    ),
)
