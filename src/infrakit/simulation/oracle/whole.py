"""Law 7: what is reported as converged is whole: exactly what is declared, and healthy."""

from collections.abc import Mapping

from infrakit.simulation.oracle import exceptions
from infrakit.simulation.oracle.facts import KNOWN_S, Facts, Life
from infrakit.spi.values import GroupID


def check(facts: Facts, group: GroupID, law: str = exceptions.CONVERGED) -> None:
    """Require that the living instances match the declaration exactly, and have been healthy within `KNOWN_S`."""
    declared = facts.declared.groups[group]
    alive = facts.of_group(group)
    if declared.ids is not None:
        have = sorted(str(each.logical_id) for each in alive)
        facts.require(have == sorted(declared.ids), law, f"{group} has {have}")
    else:
        facts.require(len(alive) == declared.size, law, f"{group} has {len(alive)}, declared are {declared.size}")
    for life in alive:
        _check_member(facts, life, declared.version, law, volumes=declared.volumes)


def _check_member(facts: Facts, life: Life, version: int, law: str, *, volumes: Mapping[str, str]) -> None:
    known = life.version in (None, version)  # None: created by another party, and adopted
    facts.require(known, law, f"{life.id} of {life.group} is of version {life.version}, declared is {version}")
    facts.require(
        life.was_healthy_between(facts.now - KNOWN_S, facts.now),
        law,
        f"{life.id} of {life.group} is not healthy, nor was it lately",
    )
    volume = volumes.get(str(life.logical_id))
    held = [each.id for each in life.machine.attachments]
    facts.require(volume is None or volume in held, law, f"{life.id} of {life.group} does not hold {volume}")
