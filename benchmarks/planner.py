"""The planner alone, on a view of 100,000 members: nothing to do, everything to create, everything to update."""

import time

from infrakit.group.plan import DesiredState, decide
from infrakit.group.state.member import Member
from infrakit.group.state.view import GroupView
from infrakit.spi.group import DeclaredAllocation, FlavorRef, Group, GroupProperties, InstanceRef
from infrakit.spi.values import Description, GroupID, Health, HealthReport, InstanceID, Slot

SIZE = 100_000
HEALTHY_REPORT = HealthReport(health=Health.HEALTHY)


def group(version: str) -> Group:
    properties = GroupProperties(
        allocation=DeclaredAllocation(size=SIZE), instance=InstanceRef(plugin="s"), flavor=FlavorRef(plugin="v")
    )
    return Group(name=GroupID("g"), properties=properties, hash=version)


def view(size: int) -> GroupView:
    members = {}
    for number in range(1, size + 1):
        name = InstanceID(f"i-{number}")
        members[name] = Member(
            description=Description(id=name),
            id=name,
            slot=Slot(str(number)),
            logical_id=None,
            hash="v1",
            token=None,
            created_at=0.0,
            seen_at=0.0,
            report=HEALTHY_REPORT,
            judged_at=1000.0,
            healthy_since=0.0,
        )
    return GroupView(
        group=GroupID("g"), pets=False, lag_s=0.0, can_inspect=False, now=1000.0, observed_at=1000.0, problem="",
        members=members,
    )  # fmt: skip


def main() -> None:
    print(f"the planner alone, {SIZE:,} declared")
    for name, version, seen in (
        ("nothing to do", "v1", view(SIZE)),
        ("all to create", "v1", view(0)),
        ("all to update", "v2", view(SIZE)),
    ):
        desired = DesiredState(group=group(version))
        began = time.perf_counter()
        plan = decide(desired, seen)
        print(f"  {name:14} {(time.perf_counter() - began) * 1e3:6.0f} ms, {len(plan.actions):,} actions")


if __name__ == "__main__":
    main()
