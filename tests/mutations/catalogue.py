"""Every law, broken on purpose: one small change of the code each, and the tests that must notice.

A mutation that no test notices is a law that nothing holds: then the tests are wrong, not the list.
"""

from typing import NamedTuple

PLAN = ("tests/unit/group/test_plan.py", "tests/laws")  # the quick ones first
VIEW = ("tests/unit/group/test_view.py",)
MANAGER = ("tests/unit/manager",)
STAGE = ("tests/unit/group", "tests/unit/manager")  # the whole controller in front of a simulated provider
WORLDS = ("tests/simulation/test_seeds.py",)
STORES = ("tests/unit/stores",)


class Mutation(NamedTuple):
    """Replace `old`, which occurs once in `file`, by `new`; one of `tests` must fail."""

    law: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "1 one actor",
        "a predecessor goes on after another took the epoch",
        "manager/intents.py",
        "if document.revision != self._revision and not mine:",
        "if False:",
        MANAGER,
    ),
    Mutation(
        "1 one actor",
        "nobody has to hold the epoch",
        "manager/intents.py",
        "        if self._lost:\n            raise",
        "        if False:\n            raise",
        MANAGER,
    ),
    Mutation(
        "2 one bearer",
        "a bearer that is not listed does not count",
        "group/plan/pets.py",
        "        held = bearers(draft.census, logical_id)\n        if held:",
        "        held = [m for m in bearers(draft.census, logical_id) if m.missing_since is None]\n        if held:",
        PLAN,
    ),
    Mutation(
        "2 one bearer",
        "a bearer that is leaving does not count",
        "group/plan/pets.py",
        "        held = bearers(draft.census, logical_id)\n        if held:",
        "        held = [m for m in bearers(draft.census, logical_id) if not m.leaving]\n        if held:",
        PLAN,
    ),
    Mutation(
        "2 one bearer",
        "absence from one listing is evidence of death",
        "group/view.py",
        "return member.missed > 1 and self.observed_at - member.missing_since >= self.lag_s",
        "return True",
        VIEW,
    ),
    Mutation(
        "3 exactly one per intent",
        "a second intent for a slot that has one",
        "group/plan/pets.py",
        "        if slot in view.pending:\n            continue\n",
        "",
        PLAN,
    ),
    Mutation(
        "3 exactly one per intent",
        "unresolved creations do not count against the ceiling",
        "group/plan/cattle.py",
        "room = want.size + extra - len(view.members) - draft.unresolved",
        "room = want.size + extra - len(view.members)",
        PLAN,
    ),
    Mutation(
        "3 exactly one per intent",
        "a listed intent counts twice",
        "group/plan/draft.py",
        "return len(self.view.pending) - len(self.settled)",
        "return len(self.view.pending)",
        PLAN,
    ),
    Mutation(
        "3 exactly one per intent",
        "an acknowledged creation is given up because no listing shows it",
        "group/plan/intents.py",
        '    if pending.lapsed:\n        _settle(draft, slot, f"{pending.instance} is gone',
        "    if pending.lapsed or view.now > pending.ended_at + view.lag_s:\n"
        '        _settle(draft, slot, f"{pending.instance} is gone',
        PLAN,
    ),
    Mutation(
        "3 exactly one per intent",
        "what is leaving does not count against the ceiling",
        "group/plan/cattle.py",
        "room = want.size + extra - len(view.members) - draft.unresolved",
        "room = want.size + extra - draft.census.staying - draft.unresolved",
        PLAN,
    ),
    Mutation(
        "4 unknown is not missing",
        "an incomplete observation is acted on",
        "group/plan/__init__.py",
        "    if view.problem:",
        "    if False:",
        PLAN,
    ),
    Mutation(
        "4 unknown is not missing",
        "unknown health counts as unhealthy",
        "group/plan/census.py",
        "if health is Health.UNKNOWN or member.unhealthy_since is None:",
        "if health is Health.UNKNOWN and member.report is None:",
        PLAN,
    ),
    Mutation(
        "5 never make it worse",
        "nothing limits how many may look sick",
        "group/plan/limits.py",
        "    if count <= want.max_unhealthy or not draft.census.ailing:",
        "    if True:",
        PLAN,
    ),
    Mutation(
        "5 never make it worse",
        "a quorum may lose its majority",
        "group/plan/want.py",
        "return max(1, (self.size - 1) // 2)",
        "return self.size",
        ("tests/unit/group/test_plan.py",),
    ),
    Mutation(
        "5 never make it worse",
        "the update policy is not asked",
        "group/plan/roll.py",
        "            if available - 1 < want.size - want.max_unavailable:",
        "            if False:",
        PLAN,
    ),
    Mutation(
        "5 never make it worse",
        "our own node is rolled like any other",
        "group/plan/roll.py",
        "        if member.is_self and len(outdated) > 1:",
        "        if False:",
        PLAN,
    ),
    Mutation(
        "5 never make it worse",
        "the young are judged",
        "group/plan/census.py",
        "    if now < member.born_at + grace_s and member.healthy_since is None:",
        "    if False:",
        PLAN,
    ),
    Mutation(
        "6 the declaration is never lost",
        "the version that the operator saw is not compared",
        "manager/declaration.py",
        "                if expected is not None and expected != self.version:",
        "                if False:",
        MANAGER,
    ),
    Mutation(
        "6 the declaration is never lost",
        "a damaged document is taken for an empty one",
        "manager/record.py",
        "    except msgspec.MsgspecError as error:\n        raise errors.Refused(",
        "    except msgspec.MsgspecError as error:\n        return Record()\n        raise errors.Refused(",
        MANAGER,
    ),
    Mutation(
        "7 converged means converged",
        "present is enough, healthy is not asked",
        "group/plan/__init__.py",
        "    proven = limits.ready_bearers(draft) == want.size == len(view.members)",
        "    proven = want.size == len(view.members)",
        PLAN,
    ),
    Mutation(
        "7 converged means converged",
        "an older verdict of another incarnation counts",
        "group/view.py",
        "        if self.report is None or self.missing_since is not None or now - self.judged_at > VERDICT_AGE_S_MAX:",
        "        if self.report is None:",
        (*VIEW, *PLAN),
    ),
    Mutation(
        "8 say why",
        "a wait without a rule",
        "group/plan/draft.py",
        "Hold(subject=subject, reason=reason, rule=rule,",
        'Hold(subject=subject, reason=reason, rule="",',
        PLAN,
    ),
    Mutation(
        "9 stop means stop",
        "a halt is not looked at",
        "group/plan/__init__.py",
        "    if want.orders.halt is not None:",
        "    if False:",
        PLAN,
    ),
    Mutation(
        "1 one actor",
        "the right to act is not proven before a call",
        "group/calls.py",
        "        self._ledger.check()\n        halt =",
        "        halt =",
        STAGE,
    ),
    Mutation(
        "2 one bearer",
        "a death is believed without evidence",
        "group/view.py",
        "if member.missing_since is None or self.observed_at is None or self.can_inspect:",
        "if member.missing_since is None or self.observed_at is None:",
        (*STAGE, *WORLDS),
    ),
    Mutation(
        "3 exactly one per intent",
        "what may have been made is taken for not made",
        "group/calls.py",
        'pending.phase, pending.unsure, pending.error, pending.ended_at = "unknown", True, why, loop.time()',
        'pending.phase, pending.unsure, pending.error, pending.ended_at = "refused", False, why, loop.time()',
        STAGE,
    ),
    Mutation(
        "3 exactly one per intent",
        "what earlier listings left out counts against a later call",
        "group/calls.py",
        'pending.phase, pending.lapsed = "calling", False',
        'pending.phase = "calling"',
        STAGE,
    ),
    Mutation(
        "3 exactly one per intent",
        "an intent is not recorded before its call",
        "manager/intents.py",
        "            await self._write(msgspec.structs.replace(self._book, intents=intents))\n            return fresh",
        "            return fresh",
        (*STAGE, *WORLDS),
    ),
    Mutation(
        "3 exactly one per intent",
        "intents found in the ledger count as never asked for",
        "group/controller.py",
        "self.view.intend(strange, fresh=False)",
        "self.view.intend(strange, fresh=True)",
        STAGE,
    ),
    Mutation(
        "3 exactly one per intent",
        "intents found in the ledger are forgotten",
        "group/controller.py",
        "        self._remember_intents()\n        want",
        "        want",
        STAGE,
    ),
    Mutation(
        "3 exactly one per intent",
        "a token is not handed to the provider",
        "group/calls.py",
        "            values.TAG_TOKEN: pending.intent.token,\n",
        "",
        STAGE,
    ),
    Mutation(
        "4 unknown is not missing",
        "a failed listing counts as an empty one",
        "group/controller.py",
        '({words(error)})", Kind.OBSERVE_FAILED)\n            return',
        '({words(error)})", Kind.OBSERVE_FAILED)\n            listing, begun_at = (), loop.time()',
        STAGE,
    ),
    Mutation(
        "5 never make it worse",
        "an older verdict counts after a destruction without an answer",
        "group/calls.py",
        '        if member.leaving == "destroying" and not surely:',
        "        if False:",
        STAGE,
    ),
    Mutation(
        "6 the declaration is never lost",
        "a stale writer overwrites",
        "stores/file.py",
        "                if newest != expected:",
        "                if False:",
        STORES,
    ),
    Mutation(
        "6 the declaration is never lost",
        "a checksum is not compared",
        "stores/file.py",
        "        if header != _MAGIC + hashlib.sha256(body).hexdigest().encode():",
        "        if False:",
        STORES,
    ),
    Mutation(
        "9 stop means stop",
        "a halt is not asked for before a call",
        "group/calls.py",
        "        if halt is not None:\n            raise errors.Halted",
        "        if False:\n            raise errors.Halted",
        (*STAGE, *WORLDS),
    ),
    Mutation(
        "9 stop means stop",
        "what was queued is begun after the declaration has changed",
        "group/executor.py",
        "        self.clear()\n        for key, action in self._doing.items():",
        "        for key, action in self._doing.items():",
        STAGE,
    ),
    Mutation(
        "9 stop means stop",
        "a drain goes on after the declaration has changed",
        "group/executor.py",
        '            if member is not None and member.leaving == "draining":',
        "            if False:",
        STAGE,
    ),
)
