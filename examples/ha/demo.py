"""A cluster that keeps itself alive: start it from nothing, break it, and watch it come back.

    python3 examples/ha/demo.py            start it, show what happens, end it with Ctrl-C
    python3 examples/ha/demo.py --check    break it in every way below by itself, and hold every promise to account

It needs the `infrakit` command and etcd (Debian: etcd-server, etcd-client), works in a temporary directory, and prints
a timeline. With --check, it ends with exit code 1 at the first promise that is not kept.
"""

import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

from cluster import DECLARATION, MACHINES, STORE, Broken, Cluster, Followers, Writer, wait_for

GAP_S_MAX = 15.0  # etcd elects within a few seconds, also on a machine with much else to do


class Timeline:
    """Lines with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        print(f"{self.seconds():6.1f} s  {text}", flush=True)

    def promise(self, kept: bool, text: str) -> None:
        self.say(f"{'kept   ' if kept else 'BROKEN '} {text}")
        if not kept:
            raise Broken(text)


def start(cluster: Cluster, timeline: Timeline) -> None:
    """One machine from one command; the replica on it does the rest."""
    cluster.start_provider()
    timeline.say("infrakit bootstrap examples/ha/infrakit.yaml --store etcd://...")
    for line in cluster.bootstrap().splitlines():
        timeline.say(f"        {line}")
    wait_for("the cluster is complete", cluster.converged)
    timeline.promise(set(cluster.members()) == set(MACHINES), f"three members of etcd at {', '.join(MACHINES)}")
    wait_for("every replica follows or leads", lambda: roles(cluster) == ["follower", "follower", "leader"])
    timeline.say("        three replicas of InfraKit, one of which acts")


def roles(cluster: Cluster) -> list[str]:
    return sorted(each["Role"] for each in cluster.replicas().get("Replicas", []))


def acting(cluster: Cluster, *, but: str = "") -> str:
    """The machine whose replica acts, once there is one."""

    def found() -> str:
        facts = cluster.replicas()
        leads = [each["Name"] for each in facts.get("Replicas", []) if each["Role"] == "leader"]
        return leads[0] if leads and leads[0] != but else ""

    return str(wait_for("a replica acts", found))


def kill_the_leader(cluster: Cluster, timeline: Timeline, writer: Writer) -> None:
    """The machine of the leader of both etcd and InfraKit."""
    victim, before = acting(cluster), cluster.members()
    timeline.promise(cluster.leader() == victim, f"InfraKit acts on {victim}, where etcd's leader is")
    writer.longest_s()
    cluster.kill(victim)
    began = time.monotonic()
    timeline.say(f"kill -9 of everything on {victim}")
    successor = wait_for("etcd elects", lambda: cluster.leader() if cluster.leader() != victim else "")
    timeline.say(f"        etcd has elected {successor} after {time.monotonic() - began:.1f} s")
    wait_for("the machine returns", lambda: cluster.processes(victim))
    timeline.say(f"        the replica on {successor} has made {victim} again after {time.monotonic() - began:.1f} s")
    wait_for("the cluster is complete", cluster.converged)
    took_s = time.monotonic() - began
    timeline.promise(cluster.members() == before, f"it is the same member as before, whole after {took_s:.1f} s")
    intact(timeline, writer)


def lose_a_volume(cluster: Cluster, timeline: Timeline, writer: Writer) -> None:
    """A machine dies, and its disk with it."""
    leader, before = acting(cluster), cluster.members()
    victim = next(machine for machine in MACHINES if machine != leader)
    cluster.lose_volume(victim)
    cluster.kill(victim)
    timeline.say(f"kill -9 of everything on {victim}, and its volume is lost")
    wait_for("a new member", lambda: cluster.members().get(victim, before[victim]) != before[victim])
    wait_for("the cluster is complete", cluster.converged)
    after = cluster.members()
    others = {name: member for name, member in after.items() if name != victim}
    same = others == {name: member for name, member in before.items() if name != victim}
    timeline.promise(
        same and len(after) == len(MACHINES), f"{victim} is a new member, and has all data from the others"
    )
    intact(timeline, writer)


def roll(cluster: Cluster, timeline: Timeline, writer: Writer) -> None:
    """Another configuration for every member: one at a time, the leader's machine last, and not while it leads."""
    leader, before = acting(cluster), cluster.members()
    edited = cluster.home / "edited.yaml"
    edited.write_text(DECLARATION.read_text().replace("--log-level=error", "--log-level=fatal"))
    writer.longest_s()
    began = time.monotonic()
    cluster.run("commit", str(edited), "-m", "etcd says less", at=leader)
    timeline.say("another configuration of etcd is committed")
    wait_for("leadership moves", lambda: acting(cluster) != leader)
    timeline.say(f"        {leader} has let {acting(cluster)} lead, before its own machine is replaced")
    wait_for("every member is replaced", cluster.converged)
    current = all(group["UpToDate"] == len(MACHINES) for group in cluster.status()["Groups"])
    timeline.promise(current, f"every machine has it, one after the other, in {time.monotonic() - began:.1f} s")
    timeline.promise(cluster.members() == before, "they are the same members")
    intact(timeline, writer)


def lose_the_quorum(cluster: Cluster, timeline: Timeline, writer: Writer) -> None:
    """Two of three die at once: nobody leads, so nobody acts, until an operator says so."""
    leader, before = acting(cluster), cluster.members()
    victims = [leader, next(machine for machine in MACHINES if machine != leader)]
    cluster.kill(*victims)
    timeline.say(f"kill -9 of everything on {' and '.join(victims)}: the quorum is lost")
    for line in cluster.bootstrap("--recover").splitlines():
        timeline.say(f"        {line}")
    wait_for("the cluster is complete", cluster.converged)
    timeline.promise(cluster.members() == before, "all three members are back, with their data")
    intact(timeline, writer, outage=True)


def intact(timeline: Timeline, writer: Writer, *, outage: bool = False) -> None:
    lost = writer.lost()
    timeline.promise(not lost, f"each of the {len(writer.acknowledged)} keys that were acknowledged is there")
    gap_s = writer.longest_s()
    if outage:
        timeline.say(f"        nothing could be written for {gap_s:.1f} s")
    else:
        timeline.promise(gap_s < GAP_S_MAX, f"writes went on meanwhile, the longest pause was {gap_s:.1f} s")


def refuse_if_taken() -> None:
    """Somebody's own demonstration may be running: leave it alone."""
    for host, port in [("127.0.20.254", 24864), *((machine, 12379) for machine in MACHINES)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise Broken(f"{host}:{port} is taken ({error.strerror}): end what listens there first") from error


def check(cluster: Cluster, timeline: Timeline) -> None:
    start(cluster, timeline)
    with Writer() as writer:
        wait_for("writes are acknowledged", lambda: len(writer.acknowledged) > 10)
        kill_the_leader(cluster, timeline, writer)
        lose_a_volume(cluster, timeline, writer)
        roll(cluster, timeline, writer)
        lose_the_quorum(cluster, timeline, writer)


def stay(cluster: Cluster, timeline: Timeline) -> None:
    start(cluster, timeline)
    beside = Path(cluster.program).parent
    recover = f"INFRAKIT_HOME={cluster.home} infrakit bootstrap {DECLARATION} \\\n    --store {STORE} --recover"
    print(f"\nIn another terminal (any of the three machines can be asked):\n  export PATH={beside}:$PATH")
    print(f"  export INFRAKIT_HOST=http://{MACHINES[0]}:24864\n  infrakit leader\n  infrakit status --watch")
    print("\nKill what runs on a machine:")
    for machine in MACHINES:
        print(f"  {machine}: kill -9 {' '.join(map(str, cluster.processes(machine)))}")
    print(f"\nTwo at once, and nobody leads. Then this brings them back:\n  {recover}")
    print("\nCtrl-C ends it all. Until then, what the replicas do:\n", flush=True)
    with Followers(cluster):
        signal.pause()


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also where the terminal is closed
        signal.signal(number, signal.default_int_handler)
    timeline = Timeline()
    with tempfile.TemporaryDirectory(prefix="ik", dir="/tmp", ignore_cleanup_errors=True) as directory:
        cluster = None
        try:
            refuse_if_taken()
            cluster = Cluster(Path(directory))
            (check if "--check" in sys.argv[1:] else stay)(cluster, timeline)
        except KeyboardInterrupt:
            print("\nending every machine", flush=True)
        except Broken as error:
            print(f"\ndemo: {error}", file=sys.stderr)
            if cluster is not None:
                print(cluster.last_words(), file=sys.stderr)
            return 1
        finally:
            if cluster is not None:
                cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
