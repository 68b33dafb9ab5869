"""The faults that are injected into the Swarm, and the guarantees that are checked after each."""

import datetime
import os
import time
from typing import NamedTuple

from cluster import MANAGERS, Cluster, Facts
from timeline import CheckFailed, Timeline, wait_for
from watcher import Watcher, running

FREEZE_S = 30.0
REPLICAS = 4
SERVICE = (
    f"docker service create --detach --name web --replicas {REPLICAS} --constraint node.role==worker --network host"
    " --no-resolve-image --restart-delay 500ms busybox /bin/busybox sleep 4242"
)


class Before(NamedTuple):
    """The state of the Swarm before a fault."""

    at: float  # seconds since 1970
    containers: dict[str, str]
    identities: dict[str, str]


class Faults:
    """The faults. Each method injects one, waits until the Swarm is complete again, and checks the guarantees."""

    def __init__(self, cluster: Cluster, timeline: Timeline, watcher: Watcher) -> None:
        self._cluster = cluster
        self._log = timeline.log
        self._check = timeline.check
        self._watcher = watcher
        self._workers = len(cluster.workers())

    # -- the faults ------------------------------------------------------------------------------------------------

    def create_service(self) -> None:
        """Create a service whose tasks run on the workers."""
        wait_for("workers with an image", lambda: all(self._has_image(each) for each in self._cluster.workers()))
        wait_for("the service", lambda: self._cluster.inside(self._leader(), SERVICE, 20.0) is not None)
        wait_for("the tasks of the service", lambda: running() == REPLICAS)
        self._log(f"        a service runs with {REPLICAS} tasks on the workers")

    def kill_the_leader(self) -> None:
        before, victim = self._start_fault()
        self._cluster.docker("rm", "--force", before.containers[victim])
        self._log(f"(a) docker rm --force of {victim}, the leader")
        self._await_election(victim, before.at)
        self._check_returned(before, [victim])
        self._check_service()

    def kill_a_worker(self) -> None:
        before, _ = self._start_fault()
        victim = self._cluster.workers()[0]
        self._cluster.docker("kill", before.containers[victim])
        self._log("(b) docker kill of a worker")
        self._await_complete()
        after = self._cluster.containers()
        others = {name: id_ for name, id_ in before.containers.items() if name != victim}
        self._check(others.items() <= after.items(), "another worker has replaced it, and no other node was touched")
        self._log_phases(before.at, None)
        wait_for("all tasks of the service", lambda: running() == REPLICAS)
        took_s = time.time() - before.at
        self._log(
            f"        the Swarm has rescheduled the tasks after {took_s:.1f} s, at least {self._watcher.fewest} ran"
        )

    def kill_a_follower(self) -> None:
        before, leader = self._start_fault()
        victim = next(each for each in MANAGERS if each != leader)
        self._cluster.docker("kill", before.containers[victim])
        self._log(f"(c) docker kill of {victim}, a follower")
        self._check_returned(before, [victim])
        self._check_service()

    def kill_the_leader_while_a_follower_heals(self) -> None:
        before, leader = self._start_fault()
        victim = next(each for each in MANAGERS if each != leader)
        self._cluster.docker("kill", before.containers[victim])
        replacement = wait_for("a replacement of the follower", lambda: self._replaced(victim, before))
        self._cluster.docker("kill", before.containers[leader])
        self._log(f"(d) docker kill of {victim}; its replacement boots: docker kill of {leader}, the leader")
        self._await_election(leader, before.at)
        self._check_returned(before, [victim, leader])
        self._check(self._cluster.containers()[victim] == replacement, f"{victim} was recreated once")
        self._check_service()

    def freeze_the_leader(self) -> None:
        before, victim = self._start_fault()
        self._cluster.docker("pause", before.containers[victim])
        self._log(f"(e) docker pause of {victim}, the leader, for {FREEZE_S:.0f} s")
        self._await_election(victim, before.at)
        self._wait_out_fault(before.at)
        self._cluster.docker("unpause", before.containers[victim])
        self._log(f"        {victim} resumes, and does not know of the election yet")
        self._check_untouched(before)

    def cut_the_leader_off(self) -> None:
        """Isolate the leader while a worker fails: it still reaches the provider, so only fencing stops it."""
        before, victim = self._start_fault()
        container = before.containers[victim]
        self._cluster.docker("exec", container, "ip", "link", "set", "eth0", "down")
        self._log(
            f"(f) the network of {victim}, the leader, is cut for {FREEZE_S:.0f} s; it still reaches the provider"
        )
        worker = self._cluster.workers()[0]
        self._cluster.docker("kill", before.containers[worker])
        self._log("        docker kill of a worker, which the isolated leader observes, too")
        self._await_election(victim, before.at)
        self._wait_out_fault(before.at)
        self._cluster.docker("exec", container, "ip", "link", "set", "eth0", "up")
        self._log(f"        {victim} is connected again")
        rest = {name: id_ for name, id_ in before.containers.items() if name != worker}
        self._check_untouched(before._replace(containers=rest), recreated=1)

    def rolling_update(self) -> None:
        before, _ = self._start_fault()
        image = f"{self._cluster.variables['image'].partition(':')[0]}:rolled"
        self._cluster.docker("tag", self._cluster.variables["image"], image)
        order: dict[str, float] = {}
        self._commit("another image", image=image)
        self._log("(g) a new image for every node is committed")
        least = len(MANAGERS)

        def rolled() -> bool:
            nonlocal least
            now = self._cluster.containers()
            least = min(least, len(set(MANAGERS) & set(now)))
            for each in MANAGERS:
                if now.get(each, before.containers[each]) != before.containers[each]:
                    order.setdefault(each, time.time())
            return len(order) == len(MANAGERS) and self._is_complete()

        leader = self._leader()
        wait_for("the rolling update", rolled, 400.0)
        self._check(list(order)[-1] == leader, f"the managers were replaced one at a time, the leader {leader} last")
        self._check(least >= len(MANAGERS) - 1, f"at least {least} managers were running: the quorum was never lost")
        self._check(self._cluster.identities() == before.identities, "the managers are the same members of the Swarm")
        self._check_watcher()

    def scale(self) -> None:
        for number in (6, 3):
            before, _ = self._start_fault()
            self._workers = number
            self._commit(f"{number} workers", destroys=max(0, len(self._cluster.workers()) - number), workers=number)
            self._log(f"(h) {number} workers are declared")
            self._await_complete()
            kept = set(before.containers.values()) & set(self._cluster.containers().values())
            fewer = min(len(before.containers), number + len(MANAGERS))
            self._check(
                len(kept) == fewer, "no other node was touched, and the node list of the Swarm has no stale entries"
            )
            wait_for("all tasks of the service", lambda: running() == REPLICAS)

    def lose_the_quorum(self) -> None:
        before, _ = self._start_fault()
        self._cluster.docker("rm", "--force", *(before.containers[each] for each in MANAGERS))
        self._log("(i) docker rm --force of all three managers: the quorum is lost, and no replica acts")
        self._log("        infrakit bootstrap --recover examples/swarm-docker/infrakit.yaml.j2")
        for line in self._cluster.infrakit("bootstrap", "--recover", *self._cluster.given()).splitlines():
            self._log(f"        {line}")
        self._check_returned(before, list(MANAGERS))
        self._check_service()

    def lose_a_volume(self) -> None:
        before, leader = self._start_fault()
        victim = next(each for each in reversed(MANAGERS) if each != leader)
        self._cluster.inside(victim, "rm -rf /var/lib/docker/* 2>/dev/null; true", 20.0)
        self._cluster.docker("kill", before.containers[victim])
        self._log(f"(j) docker kill of {victim}, and its volume is empty")
        self._await_complete()
        after = self._cluster.identities()
        kept = {name: id_ for name, id_ in before.identities.items() if name != victim}
        self._check(
            kept.items() <= after.items()
            and len(after) == len(MANAGERS)
            and after[victim] != before.identities[victim],
            f"{victim} is a new member; the old one was demoted and removed; the others are the same",
        )
        self._log_phases(before.at, victim)
        self._check_service()

    def crowd(self) -> None:
        """Measure, not a fault: how many workers one host can run, and what they cost."""
        before, _ = self._start_fault()
        self._workers = int(os.environ.get("CROWD", "50"))
        self._commit("a crowd", workers=self._workers, grace="10m")
        self._log(f"    {self._workers} workers are declared")
        wait_for("a complete Swarm", self._is_complete, 900.0)
        self._log(f"        the Swarm is complete after {time.time() - before.at:.1f} s")

    def tear_down(self) -> None:
        """Destroy the cluster from outside."""
        self._log("infrakit down examples/swarm-docker/ --yes --volumes")
        for line in self._cluster.infrakit("down", *self._cluster.given(), "--yes", "--volumes").splitlines():
            self._log(f"        {line}")
        left = self._cluster.docker("volume", "ls", "--quiet", "--filter", "name=swarm-10.77.")
        self._check(not self._cluster.containers() and not left, "no node and no volume is left")

    # -- shared steps ----------------------------------------------------------------------------------------------

    def _start_fault(self) -> tuple[Before, str]:
        self._await_complete()
        self._watcher.reset()
        leader, containers, identities = self._leader(), self._cluster.containers(), self._cluster.identities()
        return Before(time.time(), containers, identities), leader

    def _leader(self) -> str:
        return str(wait_for("a leader", self._cluster.leader))

    def _is_complete(self) -> bool:
        return self._cluster.complete(self._workers)

    def _await_complete(self) -> None:
        try:
            wait_for("a complete Swarm", self._is_complete)
        except CheckFailed as error:
            raise CheckFailed(
                f"{error}: {self._cluster.shortfall(self._workers) or 'InfraKit has not converged'}"
            ) from None

    def _replaced(self, address: str, before: Before) -> str:
        now = self._cluster.containers().get(address, "")
        return now if now != before.containers[address] else ""

    def _await_election(self, victim: str, since: float) -> None:
        leader = wait_for("an election in the Swarm", lambda: self._cluster.leader(but=victim))
        self._log(f"        the Swarm has elected {leader} after {time.time() - since:.1f} s")

    def _check_returned(self, before: Before, victims: list[str]) -> None:
        self._await_complete()
        after, identities = self._cluster.containers(), self._cluster.identities()
        took_s = time.time() - before.at
        self._check(
            identities == before.identities,
            f"complete after {took_s:.1f} s: {', '.join(victims)} with the same address, volume and node ID",
        )
        others = {name: id_ for name, id_ in before.containers.items() if name not in victims}
        self._check(
            others.items() <= after.items() and len(after) == len(before.containers), "no other node was touched"
        )
        for victim in victims:
            self._log_phases(before.at, victim)
        self._check_watcher()

    def _check_untouched(self, before: Before, *, recreated: int = 0) -> None:
        self._await_complete()
        after = self._cluster.containers()
        created = [id_ for id_, when in self._watcher.created.items() if when > before.at]
        self._check(
            before.containers.items() <= after.items()
            and len(created) == recreated
            and len(after) == len(before.containers) + recreated,
            f"the stale leader did nothing: the new leader created {recreated} container, and none was destroyed"
            if recreated
            else "the stale leader did nothing: no container was created or destroyed",
        )
        self._check(self._cluster.identities() == before.identities, "the managers are the same members")
        self._check_watcher()

    def _wait_out_fault(self, since: float) -> None:
        """Wait until the fault has lasted for `FREEZE_S`."""
        time.sleep(max(0.0, since + FREEZE_S - time.time()))

    def _check_watcher(self) -> None:
        if self._watcher.violations:
            raise CheckFailed("; ".join(dict.fromkeys(self._watcher.violations)))

    def _check_service(self) -> None:
        fewest = self._watcher.fewest
        self._check(fewest == REPLICAS, f"the service kept running: at least {fewest} of {REPLICAS} tasks at any time")

    def _has_image(self, worker: str) -> bool:
        return bool((self._cluster.inside(worker, "docker image ls --quiet busybox") or "").strip())

    def _commit(self, why: str, *, destroys: int = 0, **variables: object) -> None:
        given = [*self._cluster.given(**variables), "--message", why, "--destroys", str(destroys)]
        self._cluster.infrakit("commit", *given, at=self._leader())

    def _log_phases(self, since: float, slot: str | None) -> None:
        """Log the duration of each phase. The election is the Swarm's; InfraKit's own share ends at the create call."""
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
        terminated, requested = first("terminated", since), first("creating", since)
        active = first("started", elected, "is active") if elected else None
        created = first("created", requested or since)
        healthy = first("healthy", created or since)
        begins = since
        parts = []
        if elected and not terminated:
            parts.append(f"election {elected - since:.2f}")
            begins = elected
            if active:
                parts.append(f"active {active - elected:.2f}")
        elif terminated:
            parts.append(f"detection {terminated - since:.2f}")
        before = active if active and not terminated else terminated or begins
        for name, when in (("decision", requested), ("creation", created), ("boot until proven healthy", healthy)):
            if when:
                parts.append(f"{name} {when - before:.2f}")
                before = when
        own = f"; InfraKit's own share {requested - begins:.2f} s" if requested else ""
        self._log(f"        {slot or 'worker'}, in seconds: {', '.join(parts)}{own}")


def _when(event: Facts) -> float:
    return datetime.datetime.fromisoformat(str(event["Timestamp"])).timestamp()
