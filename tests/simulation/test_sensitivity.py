"""The oracle reports what faults do to code that does not resist them: a rule is taken out, and worlds must fail."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

from infrakit.gate.authority import Epoch
from infrakit.gate.guard import Guard
from infrakit.group import controller, listing, plan
from infrakit.group.actions import GroupPhase
from infrakit.group.plan import adopting, cattle, classification, limits, pets
from infrakit.group.plan.desired import DesiredState
from infrakit.group.state import identity, matching, others
from infrakit.group.state.creation import Creation
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.instances.simulator import Spread
from infrakit.manager.lead.watermark import WatermarkGuard
from infrakit.simulation import __main__ as program
from infrakit.simulation import scenario
from infrakit.spi import codec, errors, formats
from infrakit.spi.values import InstanceID, LogicalID

SEEDS_MAX = 60


def nothing(*_: object, **__: object) -> Any:
    """Replaces a check, and finds nothing."""
    return ()


def no_reason(*_: object, **__: object) -> str:
    """Replaces a limit, and permits everything."""
    return ""


def certainly_nothing(creation: Creation, why: str, now: float, *, retry_at: float, **_: object) -> None:
    """Take a lost answer for the proof that nothing was created."""
    creation.not_created(why, now, retry_at=retry_at)


def at_once(pending: object, members: object, *, listed_until: float, can_inspect: bool) -> Any:
    """Do not wait for the lag that the provider promises."""
    return OVERDUE(pending, members, listed_until=listed_until + 1e6, can_inspect=can_inspect)  # type: ignore[arg-type]


OVERDUE = matching.overdue


def unhalted(want: DesiredState, *seen: Any) -> Any:
    """Plan as if nothing were halted."""
    return DECIDE(msgspec.structs.replace(want, orders=msgspec.structs.replace(want.orders, halt=None)), *seen)


DECIDE = plan.decide


class Weakness(NamedTuple):
    """Rules that are taken out, and the worlds in which that shows."""

    name: str
    rules: Sequence[tuple[object, str, object]]  # the owner, the name, and the replacement
    deeds: Sequence[str]
    laws: tuple[str, ...]  # one of them must break
    faults: Mapping[str, object] = {}
    cloud: Mapping[str, object] = {}
    replicas: int = 1
    inspects: bool = False  # in every world
    own_node: bool = False  # only worlds whose replicas run on their members
    parts: bool = False  # in every world, the flavor knows what members are made from


async def trusting(provider: Any, instances: Sequence[InstanceID], found: Any) -> None:
    """Take an error of an inspection for the proof of a termination."""
    for instance in instances:
        try:
            description = await provider.inspect(instance=instance)
        except errors.InfraKitError:
            description = None
        found(instance, description)


def any_format(body: bytes, document: type[Any], _what: str) -> Any:
    """Read a document of any format as if it had that of this release."""
    return codec.decode(body, document) if body else document()


def as_listed(listed: str | None, *_: object) -> tuple[LogicalID | None, str]:
    """Believe the listing alone."""
    return (LogicalID(listed), "") if listed else (None, "")


WEAKNESSES = (
    Weakness(
        "instances of a second installation count as members",
        [(listing, "foreign", nothing)],
        ("foreign", "foreign", "version", "scale"),
        ("5 never worse: not ours", "2 one per identity"),
    ),
    Weakness(
        "a lost answer counts as a failure",
        [(Creation, "unanswered", certainly_nothing)],
        ("scale", "version"),
        ("3 exactly one",),
        faults={"tokens": False, "exclusive": False, "lost_rate": 0.5},
    ),
    Weakness(
        "an effect after an early error is not awaited",
        [(matching, "overdue", at_once)],
        ("scale", "version"),
        ("3 ", "2 one per identity"),
        faults={"tokens": False, "exclusive": False},
        cloud={"late_rate": 0.5},
    ),
    Weakness(
        "neither planner nor guard limit losses",
        [(limits, "breaker", no_reason), (Guard, "_refuse_destroy", no_reason)],
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
        [(GroupView, "inherit_destroys", nothing), (Guard, "recall", nothing), (Guard, "_refuse_vote", no_reason)],
        ("version", "flip"),
        ("5 never worse",),
        cloud={"late_rate": 0.8, "stops_s": 60.0},
        replicas=3,
    ),
    Weakness(
        "an error of an inspection proves a termination",
        [(controller, "inspect_each", trusting)],
        ("empty", "scale"),
        ("2 one per identity", "3 never more", "4 "),
        faults={"exclusive": False, "silent_partial_rate": 0.0, "empty_rate": 0.0},
        cloud={"inspect_error_rate": 0.5},
        inspects=True,
    ),
    Weakness(
        "an instance that may live does not hold its logical ID",
        [(pets, "holders", nothing)],
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
        [(Member, "identify", nothing)],
        ("destroy", "version"),
        ("5 never worse: own node",),
        replicas=3,
        own_node=True,
    ),
    Weakness(
        "a newer format is read as if it were known",
        [(formats, "decode", any_format)],
        ("release", "release", "release", "scale", "version", "kill"),
        ("2 one per identity", "3 "),
        faults={"tokens": False, "exclusive": False, "lost_rate": 0.5},
    ),
    Weakness(
        "a hidden logical ID is believed",
        [(identity, "of_pet", as_listed)],
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
        [(adopting, "bootstrapped", nothing)],
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
        [(Epoch, "check", lambda epoch: epoch._fence.check()), (plan, "decide", unhalted)],
        ("halt", "halt", "version", "scale"),
        ("9 stop means stop",),
    ),
    Weakness(
        "what a previous leader may have created is forgotten",
        [(controller.Controller, "_adopt_intents", nothing)],
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
        [(classification, "unattached", nothing)],
        ("detach", "detach", "kill"),
        ("7 converged means converged",),
    ),
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("weakness", WEAKNESSES, ids=lambda each: each.name)
def test_a_few_worlds_reveal_a_weakness(weakness: Weakness, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, replacement in weakness.rules:
        assert hasattr(owner, name)
        monkeypatch.setattr(owner, name, replacement)
    seed = _revealing_seed(weakness)
    assert seed, "no world revealed it"
    monkeypatch.undo()
    assert program.play(_drawn(weakness, seed)).verdict == ""


def _drawn(weakness: Weakness, seed: int) -> scenario.Scenario:
    drawn = scenario.draw(seed, 2.0, weakness.deeds, weakness.replicas)
    drawn.faults = msgspec.structs.replace(drawn.faults, **weakness.faults)
    drawn.cloud = msgspec.structs.replace(drawn.cloud, **weakness.cloud)
    drawn.inspects = drawn.inspects or weakness.inspects
    drawn.parts = drawn.parts or weakness.parts
    return drawn


def _revealing_seed(weakness: Weakness) -> int:
    for seed in range(1, SEEDS_MAX + 1):
        drawn = _drawn(weakness, seed)
        if weakness.own_node and not drawn.own_node:
            continue
        if program.play(drawn).verdict.startswith(weakness.laws):
            return seed
    return 0
