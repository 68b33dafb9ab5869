"""Exercises: which faults are injected, as options of the command, and the set that applies to a declaration."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from infrakit.simulation.rehearsal.groups import Member, RehearsedGroup, members
from infrakit.spi import errors, names
from infrakit.spi.group import PERCENT_PATTERN, amount

ZONE_CLOSED_S = 300.0  # for how long a lost zone has no capacity
SLOW_FOR_S = 600.0  # for how long calls are slow
ZONE = "zone"  # the tag by which zones are found if none is given
ERRORS: Mapping[str, Any] = {"fail_rate": 1.0, "lost_rate": 0.5, "partial_rate": 0.5}
# The exercises without an option, if they apply.
SHARE, SLOW_S, EMPTY_S, ERRORS_S = "30%", 10.0, 120.0, 120.0


class Exercise(msgspec.Struct, frozen=True, kw_only=True):
    """One exercise: members that fail, faults of the provider meanwhile, or a version that fails."""

    option: str  # as it is typed
    title: str
    count: int = 0  # this many members of each group fail
    share: str = ""  # or this share of each group, at least one
    chosen: frozenset[Member] = frozenset()  # or these
    terminates: bool = True  # False: they only become unhealthy
    faults: Mapping[str, Any] = {}  # fields of `Faults`
    faults_s: float = 0.0  # how long those last
    closed_s: float = 0.0  # how long the failed members cannot be created again
    bad_version: bool = False  # instead, a version is committed whose instances never become healthy

    def number(self, group: RehearsedGroup) -> int:
        """Return how many members of a group fail, if they are not chosen by name."""
        if self.share:
            return min(group.size, max(1, amount(self.share, group.size)))
        return min(group.size, self.count)

    @property
    def lasts_s(self) -> float:
        """How long the faults last that end by themselves."""
        return max(self.closed_s, self.faults_s)


def kill(target: str, groups: Sequence[RehearsedGroup]) -> Exercise:
    """Terminate a number of members of each group, or one by its logical ID, or GROUP/ID. Raises `InvalidSpec`."""
    return _failing("--kill", target, groups, one="terminates", many="terminate", terminates=True)


def unhealthy(target: str, groups: Sequence[RehearsedGroup]) -> Exercise:
    """Make members unhealthy, which stay live: chosen as for `kill`, or a share of each group. Raises `InvalidSpec`."""
    return _failing("--unhealthy", target, groups, one="becomes unhealthy", many="become unhealthy", terminates=False)


def kill_share(share: str, groups: Sequence[RehearsedGroup]) -> Exercise:
    """Terminate a share of each group, at least one member. Raises `InvalidSpec`."""
    if not re.fullmatch(PERCENT_PATTERN, share):
        raise errors.invalid("--kill-share", f"{share!r} is not a percentage", hint="such as 30%")
    return _failing("--kill-share", share, groups, one="terminates", many="terminate", terminates=True)


def _failing(
    option: str, target: str, groups: Sequence[RehearsedGroup], *, one: str, many: str, terminates: bool
) -> Exercise:
    """`one` and `many`: what they do, of one instance and of several."""
    text = f"{option} {target}"
    if re.fullmatch(r"[1-9][0-9]{0,5}", target):
        count = int(target)
        title = f"1 instance of each group {one}" if count == 1 else f"{count} instances of each group {many}"
        return Exercise(option=text, title=title, count=count, terminates=terminates)
    if re.fullmatch(PERCENT_PATTERN, target):
        title = f"{target} of the instances of each group {many}"
        return Exercise(option=text, title=title, share=target, terminates=terminates)
    chosen = frozenset(_named(option, target, groups))
    return Exercise(option=text, title=f"{target} {one}", chosen=chosen, terminates=terminates)


def _named(option: str, name: str, groups: Sequence[RehearsedGroup]) -> list[Member]:
    """Return the members with this logical ID, or this GROUP/ID."""
    pets = {group.name for group in groups if group.declared.is_pets}
    every = list(members(groups))
    found = [
        each for each in every if name == f"{each.group}/{each.name}" or (each.group in pets and name == each.name)
    ]
    if found:
        return found
    known = [each.name if each.group in pets else f"{each.group}/{each.name}" for each in every]
    hint = names.remedy(name, known, listed="the members are")
    raise errors.invalid(option, f"no group declares the member {name!r}", hint=hint)


def lose_zone(zone: str, groups: Sequence[RehearsedGroup]) -> Exercise:
    """Lose all members with a tag NAME=VALUE, or those of a list of IDs. Raises `InvalidSpec`."""
    option = "--lose-zone"
    tag, equals, value = zone.partition("=")
    if equals:
        chosen = [each for group in groups for each in group.members if group.tags(each).get(tag) == value]
        if not chosen:
            known = {
                f"{name}={found}"
                for group in groups
                for each in group.members
                for name, found in group.tags(each).items()
            }
            hint = names.remedy(zone, known, listed="the declared tags are")
            raise errors.invalid(option, f"no member has the tag {zone}", hint=hint)
    else:
        chosen = [each for name in zone.split(",") for each in _named(option, name.strip(), groups)]
    number = "1 instance terminates" if len(chosen) == 1 else f"{len(chosen)} instances terminate"
    title = f"{zone} is lost: {number}, and for {ZONE_CLOSED_S:g} s there is no capacity for a replacement"
    return Exercise(option=f"{option} {zone}", title=title, chosen=frozenset(chosen), closed_s=ZONE_CLOSED_S)


_MEANWHILE = "one instance of each group terminates"


def slow(seconds: float) -> Exercise:
    """Delay every call to the provider, for `SLOW_FOR_S`."""
    title = f"for {SLOW_FOR_S:g} s, every call to the provider takes {seconds:g} s longer, and {_MEANWHILE}"
    faults = {"slow_rate": 1.0, "slow": seconds}
    return Exercise(option=f"--slow {seconds:g}s", title=title, count=1, faults=faults, faults_s=SLOW_FOR_S)


def empty(seconds: float) -> Exercise:
    """List no instances for some time."""
    title = f"for {seconds:g} s, the provider lists no instances, and {_MEANWHILE}"
    return Exercise(option=f"--empty {seconds:g}s", title=title, count=1, faults={"blind": True}, faults_s=seconds)


def failing(seconds: float) -> Exercise:
    """Fail calls to the provider for some time, before or after they have taken effect."""
    title = f"for {seconds:g} s, calls to the provider fail or lose their answer, and {_MEANWHILE}"
    return Exercise(option=f"--errors {seconds:g}s", title=title, count=1, faults=ERRORS, faults_s=seconds)


def bad_version() -> Exercise:
    """Commit a version of each group whose instances never become healthy."""
    title = "a version is committed whose instances never become healthy"
    return Exercise(option="--bad-version", title=title, bad_version=True)


def applicable(groups: Sequence[RehearsedGroup]) -> list[Exercise]:
    """Return the exercises of a rehearsal without options: all that apply to the declaration."""
    if not any(group.size for group in groups):
        return []
    found = [kill("1", groups), unhealthy("1", groups)]
    if any(amount(SHARE, group.size) > 1 for group in groups):
        found.append(kill_share(SHARE, groups))
    zones = {zone for group in groups for each in group.members if (zone := group.tags(each).get(ZONE))}
    if len(zones) > 1:
        found += [lose_zone(f"{ZONE}={each}", groups) for each in sorted(zones)]
    return [*found, slow(SLOW_S), empty(EMPTY_S), failing(ERRORS_S), bad_version()]
