"""Injects faults of the provider and of single instances, as other parties and machines cause them."""

import asyncio
import random
from collections.abc import Mapping

import msgspec

from infrakit.instances.simulator import Faults, Machine
from infrakit.simulation.cloud import FOREIGN, Cloud, CloudFaults
from infrakit.simulation.loops import Timeline
from infrakit.simulation.oracle import Oracle
from infrakit.simulation.oracle.facts import KNOWN_S
from infrakit.simulation.scenario import GroupPlan, Scenario
from infrakit.spi import values
from infrakit.spi.values import Attachment, InstanceID, LogicalID

FAILS_S = {  # for how long creations fail: the longest time is that in which two of one slot are presumed absent
    "refuse creations": (30.0, 160.0, 200.0),
    "lose creations": (20.0, 420.0),
}
TAGS = (values.TAG_TOKEN, values.TAG_HASH, values.TAG_SLOT)


class Disturbances:
    """Injects faults of the cloud, and ends all of them."""

    def __init__(self, scenario: Scenario, cloud: Cloud, oracle: Oracle, timeline: Timeline) -> None:
        self._scenario = scenario
        self._cloud = cloud
        self._oracle = oracle
        self._timeline = timeline

    def alive(self, group: GroupPlan) -> list[InstanceID]:
        """The instances with the tag of a group that live now."""
        return [m.id for m in self._cloud.live() if m.tags.get(values.TAG_GROUP) == group.name]

    async def inject(self, what: str, group: GroupPlan, rng: random.Random) -> None:
        """Inject one fault. Most last until they are healed, or until their time is over."""
        match what:
            case "outage":
                await self._outage(rng.uniform(5.0, 200.0))
            case "refuse creations" | "lose creations":
                await self._fail_creations(what, rng.choice(FAILS_S[what]))
            case "stray":
                self._cloud.adopt(tags={values.TAG_GROUP: group.name})
            case "foreign volume" if group.volumes:
                needed = rng.choice(group.ids)
                volume = Attachment(id=group.named.get(needed, f"vol-{needed}"), type="volume")
                self._cloud.foreign(group.name, LogicalID(f"{group.net}.{FOREIGN}-{rng.randrange(250)}"), [volume])
            case "sicken in turn":
                await self._sicken_in_turn(self.alive(group), rng)
            case "empty" | "watch stops" | "seed" | "foreign" | "revive":
                self._disturb_provider(what, group, rng)
            case "finish" if not group.pets and (alive := self.alive(group)):
                self._cloud.finish(rng.choice(alive))
            case "unname" if group.pets and (alive := self.alive(group)):
                self._cloud.rename(rng.choice(alive), rng.choice([None, LogicalID(rng.choice(group.ids))]))
            case _:
                alive = self.alive(group)
                count = max(1, len(alive) * 2 // 3) if what.endswith("many") else 1
                for instance in rng.sample(alive, min(count, len(alive))):
                    self.damage(what, instance, rng)

    def _disturb_provider(self, what: str, group: GroupPlan, rng: random.Random) -> None:
        cloud = self._cloud
        if what == "empty":
            self._show_nothing(rng.choice([rng.uniform(5.0, 60.0), rng.uniform(60.0, 300.0)]))
        elif what == "watch stops":
            cloud.watch_stops = True
        elif what == "seed" and not group.pets:
            cloud.adopt(tags={values.TAG_GROUP: group.name, values.TAG_HASH: values.BOOTSTRAP})
        elif what == "foreign":
            logical_id = LogicalID(rng.choice(group.ids)) if group.pets and rng.random() < 0.5 else None
            cloud.foreign(group.name, logical_id)
        elif what == "revive" and cloud.revive(rng) is not None:
            self._oracle.facts.permit(what)

    def _show_nothing(self, for_s: float) -> None:
        """Let listings be empty without an error."""
        facts, until = self._oracle.facts, self._timeline.now + for_s
        if for_s > self._scenario.faults.listing_lag_s and not self._scenario.inspects:
            facts.permit(f"long empty listings{' of a known account' if self._scenario.identified else ''}")
            facts.forget(until)
        if self._scenario.loses_evidence:
            facts.permit("empty listings without evidence")
            facts.forget(until)
        self._cloud.empty_until = until

    async def _sicken_in_turn(self, alive: list[InstanceID], rng: random.Random) -> None:
        """A common cause: members become unhealthy one after the other, and their replacements never work."""
        step_s = rng.uniform(5.0, 60.0)
        self._cloud.sick_until = self._timeline.now + step_s * len(alive) + 60.0
        for instance in rng.sample(alive, len(alive)):
            machine = self._cloud.machines.get(instance)
            if machine is not None and machine.lives:
                self._cloud.make_unhealthy(instance)
            await asyncio.sleep(step_s)

    async def _fail_creations(self, what: str, for_s: float) -> None:
        until = self._timeline.now + for_s
        if what == "refuse creations":
            self._cloud.refuses_until = until
        else:
            self._cloud.loses_until = until
        await asyncio.sleep(for_s)

    async def _outage(self, for_s: float) -> None:
        self._oracle.facts.outage(self._timeline.now + for_s)
        self._cloud.faults = msgspec.structs.replace(self._cloud.faults, down=True)
        await asyncio.sleep(for_s)
        self._cloud.faults = msgspec.structs.replace(self._cloud.faults, down=False)

    def damage(self, what: str, instance: InstanceID, rng: random.Random) -> None:
        """Inject a fault of one instance."""
        cloud = self._cloud
        match what:
            case "kill" | "kill many":
                cloud.kill(instance)
            case "sicken" | "sicken many":
                cloud.make_unhealthy(instance)
            case "stop":
                cloud.stop(instance, for_s=rng.uniform(5.0, 120.0))
            case "detach":
                cloud.detach(instance)
            case "alias":
                self._oracle.facts.permit(what)
                cloud.alias(instance)
                self._permit_alias(instance)
            case "lose tags":
                self._edit_tags(instance, dict.fromkeys(rng.sample(TAGS, rng.randint(1, len(TAGS)))))
            case "edit tags":
                self._edit_tags(instance, {values.TAG_HASH: "edited"})

    def _edit_tags(self, instance: InstanceID, edited: Mapping[str, str | None]) -> None:
        """Set or remove tags, and permit what follows if nothing else shows what they have shown."""
        facts, cloud = self._oracle.facts, self._cloud
        life = facts.lives.get(instance)
        if life is not None and life.is_foreign and values.TAG_TOKEN in edited:
            facts.permit("lost token of another cluster")
        is_recorded = life is not None and life.shown_from + KNOWN_S < facts.now
        if values.TAG_HASH in edited and (self._scenario.loses_evidence or not is_recorded):
            facts.permit("changed version tag without evidence")
        cloud.edit_tags(instance, edited)
        self._permit_alias(instance)

    def _permit_alias(self, instance: InstanceID) -> None:
        """Permit what follows if a machine has two IDs, and no tags show that it is one."""
        machine = self._cloud.machines[instance]
        is_shown = machine.logical_id is not None or {values.TAG_TOKEN, values.TAG_SLOT} <= machine.tags.keys()
        if self._cloud.has_alias(instance) and not is_shown:
            self._oracle.facts.permit("alias without a token")

    def kill_some(self, rng: random.Random) -> None:
        """Terminate one instance, or all of them."""
        alive = self._cloud.live()
        for machine in rng.sample(alive, min(len(alive), rng.choice([1, 1, 1, len(alive)]))):
            self._cloud.kill(machine.id)

    def heal(self) -> None:
        """End all faults of the provider; an operator removes what InfraKit must not decide about."""
        cloud, faults = self._cloud, self._scenario.faults
        cloud.faults = Faults(
            lag=faults.lag,
            termination_lag=faults.termination_lag,
            lag_max=faults.lag_max,
            tokens=faults.tokens,
            exclusive=faults.exclusive,
        )
        cloud.refuses_until = cloud.loses_until = 0.0
        cloud.more, cloud.empty_until, cloud.sick_until, cloud.watch_stops = CloudFaults(), 0.0, 0.0, False
        cloud.unalias()
        cloud.restore_tags()
        bearers: dict[str, Machine] = {}
        for machine in cloud.live():
            name = machine.logical_id
            # A group does not forget the logical ID that another cluster's instance was once listed with.
            is_named = name is not None or machine.id in cloud.renamed
            if (is_named and machine.token.startswith(f"{FOREIGN}/")) or name in bearers:
                cloud.kill(machine.id)
            elif name is not None:
                bearers[name] = machine
