"""Mutations of what holds whatever is planned: the guard, the voters of a quorum, and the census."""

from tests.mutations.mutation import BEARERS, CENSUS, GATE, GUARDED, Mutation

MUTATIONS = (
    Mutation(
        "5 never worse",
        "only declared members count as voters if the flavor lists none",
        "gate/guard.py",
        "        total = max(self._limits.size, self._limits.votes)\n",
        "        total = self._limits.size\n",
        GATE,
    ),
    Mutation(
        "5 never worse",
        "members that are joining count as voters if the flavor lists none",
        "gate/guard.py",
        "self._healthy.keys() - self._limits.joining - {instance}",
        "self._healthy.keys() - {instance}",
        GATE,
    ),
    Mutation(
        "4 unknown is not missing",
        "what the previous leader knew is forgotten",
        "group/census.py",
        "self._view.known.recall(census)",
        "pass",
        CENSUS,
    ),
    Mutation(
        "3 exactly one per intent",
        "an intent is cleared before the census is written",
        "group/census.py",
        "kept = tuple(action for action in plan.actions if not isinstance(action, Settle))",
        "kept = plan.actions",
        CENSUS,
    ),
    Mutation(
        "5 never worse",
        "each leader begins with a new limit of creations",
        "gate/guard.py",
        "for age_s, number in history.created:",
        "for age_s, number in ():",
        GATE,
    ),
    Mutation(
        "5 never worse",
        "calls do not pass the guard of their group",
        "group/controller.py",
        "self.want.orders.halt), guard=self._guard, timed",
        "self.want.orders.halt), timed",
        GUARDED,
    ),
    Mutation(
        "4 unknown is not missing",
        "a group of which most vanished while it was destroyed is forgotten",
        "group/controller.py",
        "if self._guard.why_unproven:",
        "if False:",
        GUARDED,
    ),
    Mutation(
        "5 never worse",
        "second bearers are destroyed at once",
        "group/plan/pets.py",
        "        if leaving is None:\n            builder.destroy(second",
        "        if True:\n            builder.destroy(second",
        BEARERS,
    ),
    Mutation(
        "1 one actor",
        "the census is not stamped",
        "manager/lead/census.py",
        "        await self.write(group, found)\n        return found",
        "        return found",
        CENSUS,
    ),
)
