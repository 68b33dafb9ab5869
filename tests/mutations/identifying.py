"""Mutations of what shows which instance a creation has made: its token, its ID, its slot, its volume."""

from tests.mutations.mutation import Mutation

DROPPED = ("tests/unit/group/test_dropped_tokens.py",)
VOLUMES = ("tests/unit/group/test_volumes.py",)

MUTATIONS = (
    Mutation(
        "3 exactly one per intent",
        "a creation counts beside the member without a token in its slot",
        "group/state/matching.py",
        "if slot in by_slot and slot not in known",
        "if False and slot not in known",
        DROPPED,
    ),
    Mutation(
        "3 exactly one per intent",
        "an intent is cleared for a member without a token while a call may still take effect",
        "group/state/matching.py",
        "max(by_slot[slot].listed_at, creation.ended_at)",
        "by_slot[slot].listed_at",
        DROPPED,
    ),
    Mutation(
        "3 exactly one per intent",
        "a creation is presumed absent although a member has its slot",
        "group/state/view.py",
        "for slot, creation in self.pending.items() if slot not in settled}",
        "for slot, creation in self.pending.items()}",
        DROPPED,
    ),
    Mutation(
        "5 never make it worse",
        "a member is replaced because its version was lost with its token",
        "group/state/tags.py",
        "slot = by_id.get(member.id, member.slot if member.slot in by_slot else None)",
        "slot = by_id.get(member.id)",
        DROPPED,
    ),
    Mutation(
        "5 never make it worse",
        "members of unknown versions are replaced while creations are not settled",
        "group/plan/tags.py",
        "if not (tags.awaited or builder.leaving or builder.unresolved or creates):",
        "if not (tags.awaited or builder.leaving or builder.pending or creates):",
        DROPPED,
    ),
    Mutation(
        "5 never make it worse",
        "what a creation may have made is surplus",
        "group/plan/pets.py",
        "if member.slot is not None or member.token is not None or not builder.unresolved:",
        "if True:",
        DROPPED,
    ),
    Mutation(
        "8 say why, and why not",
        "the late answer to a creation replaces the version of a label",
        "group/state/tags.py",
        "if member.slot not in (None, slot) or member.hash_set_at < math.inf:",
        "if member.slot not in (None, slot):",
        ("tests/unit/group/test_late_labels.py",),
    ),
    Mutation(
        "5 never make it worse",
        "a creation hides whose volume an instance holds",
        "group/state/tags.py",
        "if created_as.get(slot) in (None, member.id):",
        "if slot not in created_as:",
        DROPPED,
    ),
    Mutation(
        "2 one bearer",
        "a creation is retried beside an instance that has returned",
        "group/plan/pets.py",
        "if s not in declared or _has_returned(builder, s))",
        "if s not in declared)",
        ("tests/unit/group/test_bearers.py",),
    ),
    Mutation(
        "2 one per identity",
        "the volume of an instance that is not declared any more is free",
        "group/plan/volumes.py",
        "            if other != slot:\n",
        "            if False:\n",
        VOLUMES,
    ),
    Mutation(
        "2 one per identity",
        "a creation in flight holds no volume",
        "group/plan/volumes.py",
        "    for slot in view.pending.keys() & builder.unwanted:\n        yield",
        "    for slot in ():\n        yield",
        VOLUMES,
    ),
    Mutation(
        "2 one per identity",
        "an instance of another group holds no volume",
        "group/plan/volumes.py",
        "        if isinstance(instance.attachments, tuple):\n",
        "        if False:\n",
        VOLUMES,
    ),
    Mutation(
        "2 one per identity",
        "a member whose attachments are not reported holds none",
        "group/plan/volumes.py",
        "    return {each.id for each in view.attachments_before.get(member.logical_id, ())}",
        "    return set()",
        VOLUMES,
    ),
)
