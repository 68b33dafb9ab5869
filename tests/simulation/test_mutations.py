"""Mutations of the fencing code: each changes one place, and a few simulated worlds must detect it."""

from pathlib import Path
from typing import NamedTuple

import pytest

from infrakit.simulation import __main__ as program
from infrakit.simulation import scenario
from tests.mutations.mutated import mutated, run_worlds
from tests.mutations.mutation import Mutation

SEEDS_MAX = 400  # the rarest mutation shows in one of eighty worlds
REPLICAS = 3


class FencingMutation(NamedTuple):
    """A mutation of the fencing code, and the deeds that reveal it."""

    law: str
    name: str
    file: str
    old: str
    new: str
    deeds: str
    minutes: float = 5.0


FENCING_MUTATIONS = (
    FencingMutation(
        "1 one actor",
        "the epoch in the store is not checked",
        "manager/lead/ledger.py",
        "if not self._is_mine(contents):",
        "if False:",
        "scale,dispute,flip",
    ),
    FencingMutation(
        "1 one actor",
        "no fencing check before a call",
        "gate/gate.py",
        "            await self._authority.prove()\n            self._authority.check()\n",
        "",
        "dispute",
    ),
    FencingMutation(
        "1 one actor",
        "an observation never expires",
        "manager/lead/replica.py",
        "return observed.begun_at + observed.valid_s if observed is not None and observed.leader else -math.inf",
        "return observed.begun_at + 1e9 if observed is not None and observed.leader else -math.inf",
        "scale,cut,cut,freeze",
    ),
    FencingMutation(
        "1 one actor",
        "the new leader does not wait for the previous leader's bound",
        "manager/lead/fence.py",
        "self._free_at = _now() + min(previous_bound_s, BOUND_S_MAX) * DRIFT",
        "self._free_at = _now()",
        "scale,dispute",
    ),
    FencingMutation(
        "1 one actor",
        "a longer bound is used before it is in the store",
        "manager/lead/ledger.py",
        "            await self._write(msgspec.structs.replace(self._contents, bound_s=bound_s))\n",
        "            pass\n",
        "dispute,kill",
        minutes=2.0,
    ),
    FencingMutation(
        "3 exactly one",
        "what a previous leader may have created is created again without listing",
        "group/controller.py",
        "self.view.intend(adopted, fresh=False, effect_s=CALL_DEADLINE_S)",
        "self.view.intend(adopted, fresh=True)",
        "scale,dispute,flip",
    ),
)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", FENCING_MUTATIONS, ids=lambda case: case.name)
def test_a_few_worlds_detect_the_mutation(case: FencingMutation, tmp_path: Path) -> None:
    mutation = Mutation(case.law, case.name, case.file, case.old, case.new, ())
    limits = ["--minutes", str(case.minutes), "--replicas", str(REPLICAS), "--deeds", case.deeds]
    options = ["--count", str(SEEDS_MAX), *limits]
    run = run_worlds(mutated(mutation, tmp_path), options, timeout_s=280)
    assert run.returncode == 1, f"no world detected it:\n{run.stdout[-4000:]}"
    # A second actor is found by its calls, or by what they create.
    assert any(f": {law}" in run.stdout for law in {case.law, "3 exactly one"}), run.stdout[-2000:]
    seed = int(run.stdout.partition("seed ")[2].partition(":")[0])
    assert program.play(scenario.draw(seed, case.minutes, case.deeds.split(","), REPLICAS)).verdict == ""
