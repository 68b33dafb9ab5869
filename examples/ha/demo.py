"""A self-healing cluster: create it, inject faults, and watch it recover.

    python3 examples/ha/demo.py            start it and print events; Ctrl-C stops it
    python3 examples/ha/demo.py --check    inject every fault below and check every guarantee

It needs the `infrakit` command and etcd (Debian: etcd-server, etcd-client), works in a temporary directory, and prints
a timeline. With --check, it exits with code 1 at the first check that fails.
"""

import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where timeline.py is
from cluster import DECLARATION, MACHINES, STORE, Cluster, Followers, Writer
from timeline import CheckFailed, Timeline, wait_for

GAP_S_MAX = 15.0  # etcd elects within a few seconds, even on a busy machine


def start(cluster: Cluster, timeline: Timeline) -> None:
    """Create one machine with one command; the replica on it creates the others."""
    cluster.start_provider()
    timeline.log("infrakit bootstrap examples/ha/infrakit.yaml --store etcd://...")
    for line in cluster.bootstrap().splitlines():
        timeline.log(f"        {line}")
    wait_for("a complete cluster", cluster.converged)
    timeline.check(set(cluster.members()) == set(MACHINES), f"three members of etcd at {', '.join(MACHINES)}")
    wait_for("one leader and two followers", lambda: roles(cluster) == ["follower", "follower", "leader"])
    timeline.log("        three replicas of InfraKit, one of them active")


def roles(cluster: Cluster) -> list[str]:
    return sorted(each["Role"] for each in cluster.replicas().get("Replicas", []))


def active_replica(cluster: Cluster, *, but: str = "") -> str:
    """Wait for an active replica and return its machine."""

    def found() -> str:
        facts = cluster.replicas()
        leads = [each["Name"] for each in facts.get("Replicas", []) if each["Role"] == "leader"]
        return leads[0] if leads and leads[0] != but else ""

    return str(wait_for("an active replica", found))


def kill_the_leader(cluster: Cluster, timeline: Timeline, writer: Writer) -> None:
    """Kill the machine that has the leader of etcd and the active replica of InfraKit."""
    victim, before = active_replica(cluster), cluster.members()
    timeline.check(cluster.leader() == victim, f"the active replica is on {victim}, beside etcd's leader")
    writer.longest_s()
    cluster.kill(victim)
    began = time.monotonic()
    timeline.log(f"kill -9 of all processes on {victim}")
    new_leader = wait_for("an election in etcd", lambda: cluster.leader() if cluster.leader() != victim else "")
    timeline.log(f"        etcd has elected {new_leader} after {time.monotonic() - began:.1f} s")
    wait_for("the machine to be recreated", lambda: cluster.processes(victim))
    timeline.log(f"        the replica on {new_leader} has recreated {victim} after {time.monotonic() - began:.1f} s")
    wait_for("a complete cluster", cluster.converged)
    took_s = time.monotonic() - began
    timeline.check(
        cluster.members() == before, f"{victim} is the same member as before, cluster complete after {took_s:.1f} s"
    )
    check_writes(timeline, writer)


def lose_a_volume(cluster: Cluster, timeline: Timeline, writer: Writer) -> None:
    """Kill a machine and delete its volume."""
    leader, before = active_replica(cluster), cluster.members()
    victim = next(machine for machine in MACHINES if machine != leader)
    cluster.lose_volume(victim)
    cluster.kill(victim)
    timeline.log(f"kill -9 of all processes on {victim}, and its volume is lost")
    wait_for("a new member", lambda: cluster.members().get(victim, before[victim]) != before[victim])
    wait_for("a complete cluster", cluster.converged)
    after = cluster.members()
    others = {name: member for name, member in after.items() if name != victim}
    same = others == {name: member for name, member in before.items() if name != victim}
    timeline.check(
        same and len(after) == len(MACHINES), f"{victim} is a new member, with all data replicated from the others"
    )
    check_writes(timeline, writer)


def rolling_update(cluster: Cluster, timeline: Timeline, writer: Writer) -> None:
    """Update the configuration of every member, the leader's machine last, after a leadership transfer."""
    leader, before = active_replica(cluster), cluster.members()
    edited = cluster.home / "edited.yaml"
    edited.write_text(DECLARATION.read_text().replace("--log-level=error", "--log-level=fatal"))
    writer.longest_s()
    began = time.monotonic()
    cluster.run("commit", str(edited), "-m", "etcd logs less", at=leader)
    timeline.log("a new configuration of etcd is committed")
    wait_for("a leadership transfer", lambda: active_replica(cluster) != leader)
    timeline.log(
        f"        {leader} has transferred leadership to {active_replica(cluster)}, before its own machine is replaced"
    )
    wait_for("the rolling update", cluster.converged)
    current = all(group["UpToDate"] == len(MACHINES) for group in cluster.status()["Groups"])
    timeline.check(current, f"rolling update of every machine, one at a time, in {time.monotonic() - began:.1f} s")
    timeline.check(cluster.members() == before, "all members kept their identity")
    check_writes(timeline, writer)


def lose_the_quorum(cluster: Cluster, timeline: Timeline, writer: Writer) -> None:
    """Kill two of three machines at once: without a quorum, no replica acts until the operator recovers it."""
    leader, before = active_replica(cluster), cluster.members()
    victims = [leader, next(machine for machine in MACHINES if machine != leader)]
    cluster.kill(*victims)
    timeline.log(f"kill -9 of all processes on {' and '.join(victims)}: the quorum is lost")
    for line in cluster.bootstrap("--recover").splitlines():
        timeline.log(f"        {line}")
    wait_for("a complete cluster", cluster.converged)
    timeline.check(cluster.members() == before, "all three members are back, with their data")
    check_writes(timeline, writer, outage=True)


def check_writes(timeline: Timeline, writer: Writer, *, outage: bool = False) -> None:
    lost = writer.lost()
    timeline.check(not lost, f"none of {len(writer.acknowledged)} acknowledged keys is lost")
    gap_s = writer.longest_s()
    if outage:
        timeline.log(f"        writes were unavailable for {gap_s:.1f} s")
    else:
        timeline.check(gap_s < GAP_S_MAX, f"writes continued, longest interruption {gap_s:.1f} s")


def refuse_if_in_use() -> None:
    """Refuse to start if an address is in use: another demonstration may be running."""
    for host, port in [("127.0.20.254", 24864), *((machine, 12379) for machine in MACHINES)]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise CheckFailed(
                    f"{host}:{port} is in use ({error.strerror}): stop the process that listens there"
                ) from error


def check(cluster: Cluster, timeline: Timeline) -> None:
    start(cluster, timeline)
    with Writer() as writer:
        wait_for("acknowledged writes", lambda: len(writer.acknowledged) > 10)
        kill_the_leader(cluster, timeline, writer)
        lose_a_volume(cluster, timeline, writer)
        rolling_update(cluster, timeline, writer)
        lose_the_quorum(cluster, timeline, writer)


def run_until_interrupted(cluster: Cluster, timeline: Timeline) -> None:
    start(cluster, timeline)
    bin_directory = Path(cluster.program).parent
    recover = f"INFRAKIT_HOME={cluster.home} infrakit bootstrap {DECLARATION} \\\n    --store {STORE} --recover"
    print(f"\nIn another terminal (any of the three machines responds):\n  export PATH={bin_directory}:$PATH")
    print(f"  export INFRAKIT_HOST=http://{MACHINES[0]}:24864\n  infrakit leader\n  infrakit status --watch")
    print("\nKill the processes of a machine:")
    for machine in MACHINES:
        print(f"  {machine}: kill -9 {' '.join(map(str, cluster.processes(machine)))}")
    print(f"\nKill two at once, and the quorum is lost. This recovers it:\n  {recover}")
    print("\nCtrl-C stops everything. Events of the replicas:\n", flush=True)
    with Followers(cluster):
        signal.pause()


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also when the terminal is closed
        signal.signal(number, signal.default_int_handler)
    timeline = Timeline()
    with tempfile.TemporaryDirectory(prefix="ik", dir="/tmp", ignore_cleanup_errors=True) as directory:
        cluster = None
        try:
            refuse_if_in_use()
            cluster = Cluster(Path(directory))
            (check if "--check" in sys.argv[1:] else run_until_interrupted)(cluster, timeline)
        except KeyboardInterrupt:
            print("\nstopping every machine", flush=True)
        except CheckFailed as error:
            print(f"\ndemo: {error}", file=sys.stderr)
            if cluster is not None:
                print(cluster.recent_logs(), file=sys.stderr)
            return 1
        finally:
            if cluster is not None:
                cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
