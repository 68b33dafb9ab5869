"""What is done to the Swarm, one fault after the other, and what has to be true after each."""

import datetime
import os
import time
from typing import NamedTuple

from cluster import MANAGERS, Broken, Cluster, Facts, wait_for
from watcher import Watcher, running

FREEZE_S = 30.0
REPLICAS = 4
SERVICE = (
    f"docker service create --detach --name web --replicas {REPLICAS} --constraint node.role==worker --network host"
    " --no-resolve-image --restart-delay 500ms busybox /bin/busybox sleep 4242"
)


class Timeline:
    """Lines with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    def promise(self, kept: bool, text: str) -> None:
        self.say(f"{'kept   ' if kept else 'BROKEN '} {text}")
        if not kept:
            raise Broken(text)


class Before(NamedTuple):
    """How it was."""

    at: float  # seconds since 1970
    containers: dict[str, str]
    identities: dict[str, str]


class Faults:
    """Each method is one of them: it breaks something, waits until all is whole again, and holds it to account."""

    def __init__(self, cluster: Cluster, timeline: Timeline, watcher: Watcher) -> None:
        self._cluster = cluster
        self._say = timeline.say
        self._promise = timeline.promise
        self._watcher = watcher
        self._workers = len(cluster.workers())

    # -- the faults ------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """A service whose tasks run on the workers."""
        wait_for("workers with an image", lambda: all(self._has_image(each) for each in self._cluster.workers()))
        wait_for("the service", lambda: self._cluster.inside(self._leader(), SERVICE, 20.0) is not None)
        wait_for("the service runs", lambda: running() == REPLICAS)
        self._say(f"        a service runs with {REPLICAS} tasks on the workers")

    def kill_the_leader(self) -> None:
        before, victim = self._begin()
        self._cluster.docker("rm", "--force", before.containers[victim])
        self._say(f"(a) docker rm --force of {victim}, the leader")
        self._await_election(victim, before.at)
        self._returned(before, [victim])
        self._served()

    def kill_a_worker(self) -> None:
        before, _ = self._begin()
        victim = self._cluster.workers()[0]
        self._cluster.docker("kill", before.containers[victim])
        self._say("(b) docker kill of a worker")
        self._whole()
        after = self._cluster.containers()
        others = {name: id_ for name, id_ in before.containers.items() if name != victim}
        self._promise(others.items() <= after.items(), "another worker is in its place, and nobody else was touched")
        self._figures(before.at, None)
        wait_for("the service is whole", lambda: running() == REPLICAS)
        took_s = time.time() - before.at
        self._say(
            f"        the Swarm has moved the tasks after {took_s:.1f} s, {self._watcher.fewest} ran at the least"
        )

    def kill_a_follower(self) -> None:
        before, leader = self._begin()
        victim = next(each for each in MANAGERS if each != leader)
        self._cluster.docker("kill", before.containers[victim])
        self._say(f"(c) docker kill of {victim}, a follower")
        self._returned(before, [victim])
        self._served()

    def kill_the_leader_while_a_follower_heals(self) -> None:
        before, leader = self._begin()
        victim = next(each for each in MANAGERS if each != leader)
        self._cluster.docker("kill", before.containers[victim])
        made = wait_for("the follower is made again", lambda: self._made(victim, before))
        self._cluster.docker("kill", before.containers[leader])
        self._say(f"(d) docker kill of {victim}; it is made again, and boots: docker kill of {leader}, the leader")
        self._await_election(leader, before.at)
        self._returned(before, [victim, leader])
        self._promise(self._cluster.containers()[victim] == made, f"{victim} was made once")
        self._served()

    def freeze_the_leader(self) -> None:
        before, victim = self._begin()
        self._cluster.docker("pause", before.containers[victim])
        self._say(f"(e) docker pause of {victim}, the leader, for {FREEZE_S:.0f} s")
        self._await_election(victim, before.at)
        self._let_pass(before.at)
        self._cluster.docker("unpause", before.containers[victim])
        self._say(f"        {victim} goes on, and has not noticed yet")
        self._untouched(before)

    def cut_the_leader_off(self) -> None:
        """It still reaches the provider, so that only the fence keeps it from acting: meanwhile, a worker dies."""
        before, victim = self._begin()
        container = before.containers[victim]
        self._cluster.docker("exec", container, "ip", "link", "set", "eth0", "down")
        self._say(
            f"(f) the network of {victim}, the leader, is cut for {FREEZE_S:.0f} s; it still reaches the provider"
        )
        worker = self._cluster.workers()[0]
        self._cluster.docker("kill", before.containers[worker])
        self._say("        docker kill of a worker, which the leader that is cut off sees, too")
        self._await_election(victim, before.at)
        self._let_pass(before.at)
        self._cluster.docker("exec", container, "ip", "link", "set", "eth0", "up")
        self._say(f"        {victim} is connected again")
        rest = {name: id_ for name, id_ in before.containers.items() if name != worker}
        self._untouched(before._replace(containers=rest), made=1)

    def roll(self) -> None:
        before, _ = self._begin()
        image = f"{self._cluster.variables['image'].partition(':')[0]}:rolled"
        self._cluster.docker("tag", self._cluster.variables["image"], image)
        order: dict[str, float] = {}
        self._commit("another image", image=image)
        self._say("(g) another image for every node is committed")
        least = len(MANAGERS)

        def rolled() -> bool:
            nonlocal least
            now = self._cluster.containers()
            least = min(least, len(set(MANAGERS) & set(now)))
            for each in MANAGERS:
                if now.get(each, before.containers[each]) != before.containers[each]:
                    order.setdefault(each, time.time())
            return len(order) == len(MANAGERS) and self._is_whole()

        leader = self._leader()
        wait_for("every node is replaced", rolled, 400.0)
        self._promise(list(order)[-1] == leader, f"one manager after the other was replaced, the leader {leader} last")
        self._promise(least >= len(MANAGERS) - 1, f"never fewer than {least} managers ran: the quorum was never lost")
        self._promise(self._cluster.identities() == before.identities, "they are the same members of the Swarm")
        self._watch_said()

    def scale(self) -> None:
        for number in (6, 3):
            before, _ = self._begin()
            self._workers = number
            self._commit(f"{number} workers", workers=number)
            self._say(f"(h) {number} workers are declared")
            self._whole()
            kept = set(before.containers.values()) & set(self._cluster.containers().values())
            fewer = min(len(before.containers), number + len(MANAGERS))
            self._promise(len(kept) == fewer, "nobody else was touched, and the Swarm's list has no ghosts")
            wait_for("the service is whole", lambda: running() == REPLICAS)

    def lose_the_quorum(self) -> None:
        before, _ = self._begin()
        self._cluster.docker("rm", "--force", *(before.containers[each] for each in MANAGERS))
        self._say("(i) docker rm --force of all three managers: the quorum is lost, and nobody acts")
        self._say("        infrakit bootstrap --recover examples/swarm-docker/infrakit.yaml.j2")
        for line in self._cluster.infrakit("bootstrap", "--recover", *self._cluster.given()).splitlines():
            self._say(f"        {line}")
        self._returned(before, list(MANAGERS))
        self._served()

    def lose_a_volume(self) -> None:
        before, leader = self._begin()
        victim = next(each for each in reversed(MANAGERS) if each != leader)
        self._cluster.inside(victim, "rm -rf /var/lib/docker/* 2>/dev/null; true", 20.0)
        self._cluster.docker("kill", before.containers[victim])
        self._say(f"(j) docker kill of {victim}, and its volume is empty")
        self._whole()
        after = self._cluster.identities()
        kept = {name: id_ for name, id_ in before.identities.items() if name != victim}
        self._promise(
            kept.items() <= after.items()
            and len(after) == len(MANAGERS)
            and after[victim] != before.identities[victim],
            f"{victim} is a new member; the old one was demoted and removed; the others are the same",
        )
        self._figures(before.at, victim)
        self._served()

    def crowd(self) -> None:
        """Not a fault: how many workers one host bears, and what they cost."""
        before, _ = self._begin()
        self._workers = int(os.environ.get("CROWD", "50"))
        self._commit("a crowd", workers=self._workers, grace="10m")
        self._say(f"    {self._workers} workers are declared")
        wait_for("the Swarm is whole", self._is_whole, 900.0)
        self._say(f"        the Swarm is whole after {time.time() - before.at:.1f} s")

    def end(self) -> None:
        """The orderly end, from outside."""
        self._say("infrakit down examples/swarm-docker/ --yes --volumes")
        for line in self._cluster.infrakit("down", *self._cluster.given(), "--yes", "--volumes").splitlines():
            self._say(f"        {line}")
        left = self._cluster.docker("volume", "ls", "--quiet", "--filter", "name=swarm-10.77.")
        self._promise(not self._cluster.containers() and not left, "no node and no volume is left")

    # -- what they share -------------------------------------------------------------------------------------------

    def _begin(self) -> tuple[Before, str]:
        self._whole()
        self._watcher.reset()
        leader, containers, identities = self._leader(), self._cluster.containers(), self._cluster.identities()
        return Before(time.time(), containers, identities), leader

    def _leader(self) -> str:
        return str(wait_for("a leader", self._cluster.leader))

    def _is_whole(self) -> bool:
        return self._cluster.whole(self._workers)

    def _whole(self) -> None:
        try:
            wait_for("the Swarm is whole", self._is_whole)
        except Broken as error:
            raise Broken(f"{error}: {self._cluster.shortfall(self._workers) or 'InfraKit says so'}") from None

    def _made(self, address: str, before: Before) -> str:
        now = self._cluster.containers().get(address, "")
        return now if now != before.containers[address] else ""

    def _await_election(self, victim: str, since: float) -> None:
        leader = wait_for("the Swarm elects", lambda: self._cluster.leader(but=victim))
        self._say(f"        the Swarm has elected {leader} after {time.time() - since:.1f} s")

    def _returned(self, before: Before, victims: list[str]) -> None:
        self._whole()
        after, identities = self._cluster.containers(), self._cluster.identities()
        took_s = time.time() - before.at
        self._promise(
            identities == before.identities,
            f"whole after {took_s:.1f} s: {', '.join(victims)} with the same address, volume and node ID",
        )
        others = {name: id_ for name, id_ in before.containers.items() if name not in victims}
        self._promise(
            others.items() <= after.items() and len(after) == len(before.containers), "nobody else was touched"
        )
        for victim in victims:
            self._figures(before.at, victim)
        self._watch_said()

    def _untouched(self, before: Before, *, made: int = 0) -> None:
        self._whole()
        after = self._cluster.containers()
        born = [id_ for id_, when in self._watcher.born.items() if when > before.at]
        self._promise(
            before.containers.items() <= after.items()
            and len(born) == made
            and len(after) == len(before.containers) + made,
            f"the stale leader did nothing: {made or 'no'} container was made, by its successor, and none was destroyed"
            if made
            else "the stale leader did nothing: no container was made or destroyed",
        )
        self._promise(self._cluster.identities() == before.identities, "the managers are the same members")
        self._watch_said()

    def _let_pass(self, since: float) -> None:
        """Until the fault has lasted as long as it is meant to."""
        time.sleep(max(0.0, since + FREEZE_S - time.time()))

    def _watch_said(self) -> None:
        if self._watcher.violations:
            raise Broken("; ".join(dict.fromkeys(self._watcher.violations)))

    def _served(self) -> None:
        fewest = self._watcher.fewest
        self._promise(fewest == REPLICAS, f"the service kept running: never fewer than {fewest} of {REPLICAS} tasks")

    def _has_image(self, worker: str) -> bool:
        return bool((self._cluster.inside(worker, "docker image ls --quiet busybox") or "").strip())

    def _commit(self, why: str, **variables: object) -> None:
        self._cluster.infrakit("commit", *self._cluster.given(**variables), "--message", why, at=self._leader())

    def _figures(self, since: float, slot: str | None) -> None:
        """Where the time went. The election is the Swarm's; InfraKit's own share ends where it orders the creation."""
        found = [each for each in self._cluster.events(since) if _when(each) >= since]

        def first(kind: str, after: float, word: str = "") -> float | None:
            mine = (
                _when(each)
                for each in found
                if each["Type"] == kind
                and word in each["Message"]
                and (word or (each.get("Slot") == slot if slot else each.get("Group") == "workers"))
            )
            return next((when for when in mine if when >= after), None)

        elected = self._cluster.elected(since)
        gone, ordered = first("gone", since), first("creating", since)
        active = first("started", elected, "is active") if elected else None
        created = first("created", ordered or since)
        healthy = first("healthy", created or since)
        begins = since
        parts = []
        if elected and not gone:
            parts.append(f"election {elected - since:.2f}")
            begins = elected
            if active:
                parts.append(f"active {active - elected:.2f}")
        elif gone:
            parts.append(f"death seen {gone - since:.2f}")
        before = active if active and not gone else gone or begins
        for name, when in (("decision", ordered), ("creation", created), ("boot until proven healthy", healthy)):
            if when:
                parts.append(f"{name} {when - before:.2f}")
                before = when
        own = f"; InfraKit's own share {ordered - begins:.2f} s" if ordered else ""
        self._say(f"        {slot or 'worker'}, in seconds: {', '.join(parts)}{own}")


def _when(event: Facts) -> float:
    return datetime.datetime.fromisoformat(str(event["Timestamp"])).timestamp()
