"""Labels: a member that counts as of the declared version although its tag shows another gets the declared one.

A label is never urgent. A member that is adopted in place counts as up to date without it. It is labelled once nothing
else is left to do, so that during a rolling update the tag shows which members were created from the new version.
"""

from infrakit.group.actions import Label, Priority, Settle
from infrakit.group.plan.builder import PlanBuilder
from infrakit.group.state.member import Member

IN_PLACE = "in-place"  # the rule
FAILURES = "label/"  # prefix of back-off keys


def bootstrapped(builder: PlanBuilder) -> None:
    """Label the members that were created before the first leader."""
    for member in builder.classified.relabel:
        _label(builder, member, "it joins as a bootstrap member: adopted as up to date", rule="adopt")


def in_place(builder: PlanBuilder) -> None:
    """Label members that a new version does not concern, if nothing else is to be done."""
    classified, want = builder.classified, builder.want
    rolling = classified.outdated or (builder.view.rolling_to == want.group.hash and classified.settling)
    if rolling or builder.leaving or builder.unresolved:
        return
    if any(not isinstance(action, Settle) for action in builder.actions):
        return
    if builder.view.tags_broken or classified.tags.broken or classified.tags.unlabelled or classified.unversioned:
        return
    for member in classified.adopted:
        why = f"nothing that it is made from has changed since version {member.hash[:8] or 'none'}"
        _label(builder, member, f"{why}: updated in place", rule=IN_PLACE, priority=Priority.LABEL)


def _label(
    builder: PlanBuilder, member: Member, reason: str, *, rule: str, priority: Priority = Priority.UPDATE
) -> None:
    if builder.backs_off(f"{FAILURES}{member.id}", f"labelling {member.id}", subject=member.id, key="label"):
        return
    version = builder.want.group.hash
    builder.actions.append(
        Label(
            instance=member.id,
            hash=version,
            made_from=builder.want.member_version(version, member.logical_id),
            reason=reason,
            rule=rule,
            priority=priority,
        )
    )
