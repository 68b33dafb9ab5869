"""Laws 2 to 4 for creations: one instance for each identity and for each intent, and no more than declared.

Only what InfraKit requested is judged. An instance that another party creates may have any identity; then InfraKit must
not add one to it once it could know.
"""

import math

from infrakit.simulation.oracle import exceptions
from infrakit.simulation.oracle.facts import KNOWN_S, RECORD_AGE_S, Facts, Life
from infrakit.spi import values
from infrakit.spi.values import GroupID, InstanceSpec


class Identities:
    """The requested creations, and those that took effect."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._requested_at: dict[str, float] = {}  # when a token was requested last
        self._created: dict[str, Life] = {}

    def requesting(self, spec: InstanceSpec) -> None:
        """Check a creation when its call leaves the process of its caller."""
        tags, facts = spec.tags or {}, self._facts
        group, token = GroupID(tags.get(values.TAG_GROUP, "")), tags.get(values.TAG_TOKEN, "")
        facts.require(token and group, exceptions.ONE_PER_INTENT, "requested an instance without token or group")
        self._requested_at[token] = facts.now
        for other in list(facts.lives.values()):
            if other.token == token or not self._is_known(other, facts.now):
                continue
            if spec.logical_id is not None and other.logical_id == spec.logical_id:
                what = f"requested a second {spec.logical_id} while {other.id} lives"
                facts.require(False, exceptions.ONE_PER_IDENTITY, what)
            for volume in set(other.volumes) & set(spec.attachments or ()):
                what = f"requested {spec.logical_id} with {volume.id}, which {other.id} holds"
                facts.require(False, exceptions.ONE_PER_IDENTITY, what)

    def _is_known(self, other: Life, at: float) -> bool:
        """Whether InfraKit could know of an instance at that time: it has requested it, or it has been listed."""
        return other.requested or other.shown_from + KNOWN_S < at

    def created(self, life: Life) -> None:
        """Check an instance that a call of InfraKit has created."""
        facts = self._facts
        first = self._created.setdefault(life.token, life)
        facts.require(first is life, exceptions.ONE_PER_INTENT, f"{first.id} and {life.id} have the token {life.token}")
        requested_at = self._requested_at.get(life.token, -math.inf)
        for other in facts.lives.values():
            if other is life or not self._is_known(other, requested_at):
                continue
            same = life.logical_id is not None and other.logical_id == life.logical_id
            facts.require(
                not same, exceptions.ONE_PER_IDENTITY, f"{life.id} and {other.id} both have {life.logical_id}"
            )
            both = [v.id for v in set(other.volumes) & set(life.volumes)]
            facts.require(not both, exceptions.ONE_PER_IDENTITY, f"{life.id} and {other.id} both hold {both}")
        self._count(life)

    def _count(self, life: Life) -> None:
        facts = self._facts
        recent = facts.group_since(life.group, facts.now - RECORD_AGE_S)
        ids = {i for each in recent for i in each.ids or ()}
        if life.logical_id is not None:
            facts.require(
                life.logical_id in ids,
                exceptions.NOT_MORE,
                f"{life.id} was created for the undeclared {life.logical_id}",
            )
            return
        allowed = max((each.size + each.surge for each in recent if each.ids is None), default=0)
        alive = sum(each.requested and each.logical_id is None for each in facts.of_group(life.group))
        facts.require(
            alive <= allowed, exceptions.NOT_MORE, f"{alive} instances of {life.group} live, {allowed} are declared"
        )
