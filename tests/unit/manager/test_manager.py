"""The queries and commands of operators, on the production replica in virtual time."""

import asyncio
import json
import random

import pytest

from infrakit.instances.simulator import Faults, Simulator, Spread
from infrakit.spi import errors
from infrakit.spi.event import Kind
from infrakit.spi.instance import Instance, LogPart
from infrakit.spi.manager import Verdict
from infrakit.spi.values import GroupID, InstanceID, InstanceSpec
from tests.stage import MinimalProvider, Stage, cattle, in_virtual_time, pets

WEB, DB = GroupID("web"), GroupID("db")


@in_virtual_time
async def test_the_status_shows_each_group_and_the_age_of_its_observation() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 3), pets("db", "a b"))
        await stage.converged()
        status = await stage.operator.status()
        assert (status.leader, status.replica, status.epoch, status.version) == (True, "stage", 1, 1)
        assert [(g.name, g.kind, g.want, g.live, g.healthy, g.up_to_date) for g in status.groups] == [
            ("db", "pets", 2, 2, 2, 2),
            ("web", "cattle", 3, 3, 3, 3),
        ]
        assert all(g.converged and g.phase == "converged" for g in status.groups)
        assert all(g.observed_age_s is not None and g.observed_age_s < 2 for g in status.groups)


@in_virtual_time
async def test_an_unchanged_commit_creates_no_version() -> None:
    async with Stage() as stage:
        first = await stage.commit(cattle("web", 3))
        assert [c.path for c in first.changes] == ["web"]
        again = await stage.commit(cattle("web", 3))
        assert (again.version, again.changes) == (first.version, ())


@in_virtual_time
async def test_of_two_commits_to_the_same_version_the_second_gets_a_conflict() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 3))
        await stage.commit(cattle("web", 4), expected=1)
        with pytest.raises(errors.Conflict, match=r"Allocation\.Size: 3 -> 4"):
            await stage.commit(cattle("web", 5), expected=1)
        assert (await stage.status("web")).want == 4


@in_virtual_time
async def test_an_invalid_document_changes_nothing_and_every_problem_is_reported() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 3))
        with pytest.raises(errors.InvalidSpec, match=r"groups\[1\]\.properties\.Allocation\.Size"):
            await stage.commit(cattle("web", 4), cattle("x", -1))
        with pytest.raises(errors.InvalidSpec) as invalid:
            await stage.commit(cattle("web", 4, Refuse="no"), pets("db", "a b", BootTime="soon"))
        assert [p.path for p in invalid.value.problems] == [
            "groups[0].properties.Instance.Properties.Refuse",
            "groups[1].properties.Instance.Properties.BootTime",
        ]
        assert stage.replica.declaration.version == 1


@in_virtual_time
async def test_a_plan_shows_the_actions_and_executes_none() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 3), pets("db", "a b c", quorum=True))
        await stage.converged()
        calls = {k: n for k, n in stage.simulator.calls.items() if k != "describe"}
        wanted = [cattle("web", 5), pets("db", "a b c", quorum=True, version=1), cattle("new", 2)]
        planned = await stage.operator.plan(text=json.dumps(wanted), source="doc")
        plans = {p.group: p for p in planned.groups}
        assert planned.base_version == 1
        assert plans[WEB].summary == "2 to create"
        assert plans[GroupID("new")].summary == "2 to create"
        assert plans[DB].summary == "3 to replace"
        assert [a.subject for a in plans[DB].actions] == [m.id for m in stage.alive("db").values()]
        assert all("declared is" in a.reason for a in plans[DB].actions)
        assert {k: n for k, n in stage.simulator.calls.items() if k != "describe"} == calls
        assert stage.replica.declaration.version == 1
        nothing = await stage.operator.plan(text="", source="")
        assert [p.summary for p in nothing.groups] == ["nothing to do", "nothing to do"]
        shrinking = await stage.operator.plan(text=json.dumps([cattle("web", 1)]), source="doc")
        assert shrinking.groups[0].summary == "2 to destroy"


@in_virtual_time
async def test_a_plan_does_not_hang_on_a_missing_instance() -> None:
    async with Stage(faults=Faults(termination_lag=Spread(low=0.0), lag_max=3600.0), provider=MinimalProvider) as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        stage.kill("web", "1")
        await asyncio.sleep(10)
        planned = await stage.operator.plan(text="", source="")
        assert planned.groups[0].summary == "nothing to do"
        assert (await stage.status("web")).live == 3


@in_virtual_time
async def test_why_explains_groups_instances_slots_and_absences() -> None:
    async with Stage(faults=Faults(capacity=2)) as stage:
        await stage.commit(pets("db", "a b c", quorum=True, in_flight=1))
        await asyncio.sleep(30)
        why = stage.operator.why
        group = await why(group=DB)
        assert group.summary.startswith("db")
        assert any("so what that can lose is not known" in f for f in group.facts)
        assert any("was last listed completely" in f for f in group.facts)
        assert group.next_look
        missing = await why(group=DB, subject="c")
        assert missing.summary == "logical ID c is declared and has no instance"
        assert "capacity is 2" in " ".join([*missing.facts, *(w.reason for w in missing.waiting)])
        present = await why(group=DB, subject="a")
        assert present.summary.endswith("is a member of db")
        assert any("created in" in line or "healthy" in line for line in present.story)
        by_instance = await why(group=DB, subject=str(stage.alive("db")["a"].id))
        assert by_instance.facts == present.facts or by_instance.summary == present.summary
        with pytest.raises(errors.NotFound, match="no instance, slot or logical ID 'z'"):
            await why(group=DB, subject="z")
        with pytest.raises(errors.NotFound, match="there is no group 'bd'; declared groups: db"):
            await why(group=GroupID("bd"))


@in_virtual_time
async def test_why_explains_creations_and_destructions_in_progress() -> None:
    async with Stage(faults=Faults(provision=Spread(low=10.0), destroy=Spread(low=10.0))) as stage:
        await stage.commit(cattle("web", 1))
        await stage.until(lambda: stage.messages(Kind.CREATING))
        creating = await stage.operator.why(group=WEB, subject="1")
        assert creating.summary == "1 is being created"
        assert "a creation is recorded since" in creating.facts[0]
        await stage.converged()
        await stage.scale("web", 0)
        await stage.until(lambda: stage.messages(Kind.DESTROYING))
        destroying = await stage.operator.why(group=WEB, subject="1")
        assert destroying.summary.endswith("is being destroyed (destroying)")


@in_virtual_time
async def test_members_show_creations_in_progress_and_the_health_of_instances() -> None:
    async with Stage(faults=Faults(provision=Spread(low=10.0))) as stage:
        await stage.commit(cattle("web", 2), pets("db", "a", volumes=True))
        await stage.until(lambda: len(stage.messages(Kind.CREATING)) == 3)
        assert {m.state for m in await stage.operator.members(group=WEB)} == {"creating"}
        await stage.converged()
        members = await stage.operator.members()
        assert [(m.group, m.slot, m.health, m.up_to_date) for m in members] == [
            ("db", "a", Verdict.HEALTHY, True),
            ("web", "1", Verdict.HEALTHY, True),
            ("web", "2", Verdict.HEALTHY, True),
        ]
        assert members[0].attachments[0].id == "vol-a"


@in_virtual_time
async def test_a_halt_is_stored_shown_and_lifted() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 2), cattle("x", 1))
        await stage.converged()
        await stage.operator.halt(group=WEB, who="bob", why="disk swap")
        stage.kill("web", "1")
        await asyncio.sleep(60)
        status = await stage.status("web")
        assert status.halt is not None
        assert (status.halt.who, status.halt.why) == ("bob", "disk swap")
        assert status.phase == "halted"
        assert "1" not in stage.alive("web")
        assert "halted by bob" in " ".join(w.reason for w in status.waiting)
        assert [h.group for h in (await stage.operator.status()).halts] == ["web"]
        await stage.operator.halt(who="bob", why="everything")
        assert (await stage.status("x")).halt is not None
        await stage.operator.unhalt(who="bob", why="done")
        await stage.operator.unhalt(group=WEB, who="bob", why="done")
        await stage.converged()
        assert "1" in stage.alive("web")


@in_virtual_time
async def test_a_command_notes_that_a_halt_blocks_its_actions() -> None:
    async with Stage() as stage:
        assert (await stage.commit(cattle("web", 2), cattle("x", 1))).notes == ()
        halted = await stage.operator.halt(group=WEB, who="bob", why="disk swap")
        assert halted.notes == ()  # a halt has no note about itself
        (note,) = (await stage.scale("web", 3)).notes
        assert note.startswith("web is halted by bob (disk swap): no action is taken until")
        assert "infrakit unhalt web" in note
        assert (await stage.scale("x", 2)).notes == ()
        await stage.operator.halt(who="ann", why="the move")
        (note,) = (await stage.scale("x", 3)).notes
        assert note.startswith("everything is halted by ann (the move)")
        with pytest.raises(errors.Refused, match=r"x is not halted by itself: everything is, by ann \(the move\)"):
            await stage.operator.unhalt(group=GroupID("x"), who="bob", why="go on")
        assert (
            await stage.operator.free(group=GroupID("x"), who="ann", why="mine")
        ).notes == ()  # free needs no action
        (note,) = (await stage.operator.unhalt(who="ann", why="done")).notes
        assert note.startswith("web is halted by bob")
        assert (await stage.operator.unhalt(group=WEB, who="bob", why="done")).notes == ()
        assert (await stage.scale("web", 4)).notes == ()


@in_virtual_time
async def test_a_commit_that_revokes_a_destruction_notes_it() -> None:
    async with Stage(faults=Faults(destroy=Spread(low=10.0))) as stage:
        first = await stage.commit(cattle("web", 2))
        await stage.converged()
        await stage.operator.destroy(group=WEB, who="ann", why="down")
        again = await stage.commit(cattle("web", 2))
        assert (again.version > first.version, again.changes) == (True, ())
        (note,) = again.notes
        assert note.startswith("the destruction of web, requested by ann at 2")
        assert note.endswith("(down), is revoked")
        await stage.converged()
        assert len(stage.alive("web")) == 2


@in_virtual_time
async def test_a_named_instance_is_destroyed_with_and_without_replacement() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        victim = stage.alive("web")["2"].id
        await stage.operator.destroy_instance(instance=victim, who="ann", why="because")
        await stage.until(lambda: victim not in [m.id for m in stage.alive("web").values()])
        await stage.converged()
        assert len(stage.alive("web")) == 3
        victim = stage.alive("web")["3"].id
        await stage.operator.destroy_instance(instance=victim, replace=False, who="ann", why="because")
        await stage.converged()
        assert sorted(stage.alive("web")) == ["1", "2"]
        assert (await stage.status("web")).want == 2
        with pytest.raises(errors.NotFound, match="no group has an instance 'nobody'"):
            await stage.operator.destroy_instance(instance=InstanceID("nobody"), who="ann", why="because")


@in_virtual_time
async def test_a_quorum_keeps_its_majority_even_if_an_operator_destroys_members() -> None:
    async with Stage(faults=Faults(boot=Spread(low=15.0))) as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        for slot in "ab":
            await stage.operator.destroy_instance(instance=stage.alive("db")[slot].id, who="ann", why="because")
        least = 3
        await stage.until(lambda: "destroy" in stage.simulator.calls)
        while not stage.is_converged():
            least = min(least, sum(m.is_healthy(asyncio.get_running_loop().time()) for m in stage.alive("db").values()))
            await asyncio.sleep(0.5)
        assert least == 2
        assert stage.simulator.calls["destroy"] == 2


@in_virtual_time
async def test_a_freed_group_is_not_managed_and_is_adopted_by_the_next_commit() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 3))
        await stage.converged()
        await stage.operator.free(group=WEB, who="ann", why="because")
        assert WEB not in stage.controllers()
        stage.kill("web", "1")
        await asyncio.sleep(60)
        assert len(stage.simulator.live()) == 2
        await stage.commit(cattle("web", 3))
        await stage.converged()
        assert stage.simulator.calls["provision"] == 4


class SlowReply(Simulator):
    """A provider that creates an instance at once, answers after 20 seconds, and lists it after 10 seconds."""

    def __init__(self) -> None:
        faults = Faults(lag=Spread(low=10.0, high=10.0), lag_max=15.0, tokens=False, exclusive=False)
        super().__init__(faults, random=random.Random(3))

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        created = await super().provision(spec=spec)
        await asyncio.sleep(20.0)
        return created


@in_virtual_time
async def test_a_creation_in_flight_is_found_when_a_freed_group_is_committed_again() -> None:
    provider = SlowReply()
    async with Stage(simulator=provider) as stage:
        await stage.commit(pets("db", "a"))
        await stage.until(lambda: provider.machines)
        await stage.operator.free(group=DB, who="ann", why="because")
        await stage.commit(pets("db", "a"))
        await stage.converged()
        assert provider.calls["provision"] == 1


@pytest.mark.parametrize("volumes", [True, False])
@in_virtual_time
async def test_a_destroyed_group_is_removed_after_its_instances(volumes: bool) -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "a b c", quorum=True, volumes=True), cattle("web", 1))
        await stage.converged()
        await stage.operator.destroy(group=DB, volumes=volumes, who="ann", why="because")
        await stage.until(lambda: DB not in stage.controllers())
        assert not stage.alive("db")
        assert len(stage.alive("web")) == 1
        assert [g.name for g in (await stage.operator.status()).groups] == ["web"]
        assert (await stage.operator.history(limit=1))[0].what == "destroyed"
        deleted = [m for m in stage.messages(Kind.DELETED) if "was deleted, as requested" in m]
        assert len(deleted) == (3 if volumes else 0)


@in_virtual_time
async def test_history_shows_who_did_what_and_an_earlier_version_can_be_restored() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 3))
        await stage.scale("web", 5)
        await stage.operator.halt(group=WEB, who="bob", why="look")
        await stage.operator.unhalt(group=WEB, who="bob", why="seen")
        history = await stage.operator.history()
        assert [(v.version, v.what, v.who) for v in history] == [
            (4, "unhalt", "bob"),
            (3, "halt", "bob"),
            (2, "scale", "ann"),
            (1, "commit", "ann"),
        ]
        assert '"Size": 3' in await stage.operator.show(version=1)
        await stage.operator.restore(version=1, who="ann", why="because")
        await stage.converged()
        assert len(stage.alive("web")) == 3
        with pytest.raises(errors.NotFound, match="no version 99 is stored"):
            await stage.operator.restore(version=99, who="ann", why="because")


@in_virtual_time
async def test_a_paused_rolling_update_continues_when_it_is_resumed() -> None:
    async with Stage(faults=Faults(boot=Spread(low=3.0))) as stage:
        await stage.commit(cattle("web", 4))
        await stage.converged()
        await stage.commit(cattle("web", 4, version=1))
        await stage.until(lambda: 1 in stage.versions("web"))
        await stage.operator.pause(group=WEB, who="ann", why="lunch")
        await asyncio.sleep(120)
        assert stage.versions("web") == {0, 1}
        status = await stage.status("web")
        assert status.phase == "paused"
        assert "paused by ann" in " ".join(w.reason for w in status.waiting)
        stage.kill("web", "4")  # healing continues, with the new version
        await stage.until(lambda: "4" in stage.alive("web"))
        await stage.operator.resume(group=WEB, who="ann", why="because")
        await stage.converged()
        assert stage.versions("web") == {1}


@in_virtual_time
async def test_an_instance_that_terminates_after_an_abort_is_recreated_in_its_old_version() -> None:
    async with Stage(faults=Faults(boot=Spread(low=3.0))) as stage:
        await stage.commit(cattle("web", 4))
        await stage.converged()
        await stage.commit(cattle("web", 4, version=1))
        await stage.until(lambda: 1 in stage.versions("web"))
        await stage.operator.abort(group=WEB, who="ann", why="because")
        await asyncio.sleep(60)
        old = [s for s, m in stage.alive("web").items() if m.tags["infrakit.config.hash"] != _hash(stage)]
        stage.kill("web", old[0])
        await stage.until(lambda: old[0] in stage.alive("web"))
        assert stage.alive("web")[old[0]].tags["infrakit.config.hash"] != _hash(stage)


def _hash(stage: Stage) -> str:
    return stage.controller("web").want.group.hash


@in_virtual_time
async def test_logs_are_refused_if_the_provider_stores_none() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        with pytest.raises(errors.Refused, match="cannot store the output of its instances"):
            await stage.operator.logs(instance=stage.alive("web")["1"].id)
        with pytest.raises(errors.Refused, match="cannot follow the output of its instances"):
            await stage.operator.tail(instance=stage.alive("web")["1"].id)


class LoggingProvider(MinimalProvider):
    """A provider with logs."""

    async def logs(self, *, instance: InstanceID, lines: int) -> str:
        return f"{lines} lines of {instance}"

    async def tail(self, *, instance: InstanceID, after: int | None = None, lines: int = 0) -> LogPart:
        return LogPart(text=f"{lines} lines of {instance} after {after}", position=7)


@in_virtual_time
async def test_logs_come_from_the_provider_within_bounds() -> None:
    def provider(simulator: Simulator) -> Instance:
        return LoggingProvider(simulator)

    async with Stage(provider=provider) as stage:
        await stage.commit(cattle("web", 1))
        await stage.converged()
        assert await stage.operator.logs(instance=InstanceID("sim-1"), lines=10**9) == "10000 lines of sim-1"
        part = await stage.operator.tail(instance=InstanceID("sim-1"), after=5, lines=10**9)
        assert (part.text, part.position) == ("10000 lines of sim-1 after 5", 7)


@in_virtual_time
async def test_a_shutdown_is_reported_and_keeps_the_instances() -> None:
    async with Stage() as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        await stage.operator.shutdown(who="ann", why="upgrade")
        assert stage.stopped.is_set()
        assert "is stopping, requested by ann: upgrade" in stage.messages(Kind.STOPPED)[-1]
        await stage.stop()
        assert len(stage.simulator.live()) == 2
        with pytest.raises(errors.NotLeader, match="not active"):
            await stage.operator.why(group=WEB)
        assert not (await stage.operator.status()).leader


@in_virtual_time
async def test_a_volume_cannot_be_declared_for_two_logical_ids() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "a b", volumes=True))
        with pytest.raises(errors.InvalidSpec, match="vol-b"):
            await stage.commit(pets("other", "b c", volumes=True))


@in_virtual_time
async def test_a_logical_id_cannot_be_declared_in_two_groups_of_one_provider() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "10.0.0.1 10.0.0.2 fd00::1"))
        for ids in ("10.0.0.3 10.0.0.2", "10.0.0.3 fd00:0::1"):
            with pytest.raises(
                errors.InvalidSpec, match=r"LogicalIDs\[1\].*is a logical ID of the group \"db\" already"
            ):
                await stage.commit(pets("other", ids))
        with pytest.raises(errors.InvalidSpec, match="is a logical ID of the group"):
            await stage.commit(pets("one", "a b"), pets("two", "c a"))
        renamed = pets("db", "10.0.0.9"), pets("moved", "10.0.0.1 10.0.0.2")
        await stage.commit(*renamed)  # the same document takes them from the first group
        assert {each.name for each in (await stage.operator.status()).groups} == {"db", "moved"}


@in_virtual_time
async def test_a_quorum_cannot_be_emptied_by_a_commit() -> None:
    async with Stage() as stage:
        await stage.commit(pets("db", "a b c", quorum=True))
        await stage.converged()
        with pytest.raises(errors.InvalidSpec, match="that would destroy every member"):
            await stage.commit(pets("db", "", quorum=True))
        await asyncio.sleep(60)
        assert len(stage.alive("db")) == 3
        await stage.commit(pets("empty", ""))


@in_virtual_time
async def test_a_commit_is_refused_if_the_plugin_fails_to_validate_it() -> None:
    class Broken(MinimalProvider):
        def __init__(self, simulator: Simulator) -> None:
            super().__init__(simulator)
            self.validate = self._fail

        async def _fail(self, *, properties: object) -> None:
            raise errors.PluginError("its schema is gone")

    async with Stage(provider=Broken) as stage:
        with pytest.raises(errors.InvalidSpec, match="simulator could not validate it: its schema is gone"):
            await stage.commit(cattle("web", 1))


@in_virtual_time
async def test_why_shows_the_problems_of_a_member() -> None:
    async with Stage(faults=Faults(termination_lag=Spread(low=0.0), lag_max=3600.0), provider=MinimalProvider) as stage:
        await stage.commit(cattle("web", 2))
        await stage.converged()
        stage.kill("web", "1")
        await stage.commit(cattle("web", 2, version=1))
        await asyncio.sleep(10)
        facts = " ".join((await stage.operator.why(group=WEB, subject="1")).facts)
        assert "it has been missing from the listing for" in facts
        assert "out of date" in facts
        assert {m.state for m in await stage.operator.members(group=WEB)} >= {"missing"}
        stage.fault(down=True)
        await asyncio.sleep(10)
        assert "the listing failed" in " ".join((await stage.operator.why(group=WEB)).facts)
