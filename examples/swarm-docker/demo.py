"""A Docker Swarm that heals itself, on one machine: three managers and two workers, from one command.

    python3 examples/swarm-docker/demo.py            start it, and show what happens; Ctrl-C ends it
    python3 examples/swarm-docker/demo.py --check    break it in every way that faults.py knows, by itself

It needs a Docker Engine at a socket of this host (DOCKER_HOST), root, and the image of a node, which it builds if there
is none (packaging/node-image). With --check, it prints a timeline, and ends with exit code 1 at the first promise that
is not kept. All that it makes is gone afterwards, but the image.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from cluster import HERE, MANAGERS, Broken, Cluster, wait_for
from faults import Faults, Timeline
from watcher import NETWORK, Watcher, instances

IMAGE = os.environ.get("INFRAKIT_NODE_IMAGE", "infrakit-node")
RUN = Path("/run/infrakit-swarm")
WORKERS = 2
FAULTS = (
    "kill_the_leader",
    "kill_a_worker",
    "kill_a_follower",
    "kill_the_leader_while_a_follower_heals",
    "freeze_the_leader",
    "cut_the_leader_off",
    "roll",
    "scale",
    "lose_the_quorum",
    "lose_a_volume",
    "end",
)


def prepare(cluster: Cluster, timeline: Timeline) -> None:
    """Refuse what could be somebody else's, and build the image if there is none."""
    if cluster.call("docker", "version").returncode:
        raise Broken(f"no Engine answers at {cluster.host}: start it, or name another one in DOCKER_HOST")
    mine = instances(cluster.engine)
    if mine or RUN.exists() or not cluster.call("docker", "network", "inspect", NETWORK).returncode:
        raise Broken(
            f"there is one already, or what is left of one ({len(mine)} containers, {RUN}, the network {NETWORK}):"
            " end it with: python3 examples/swarm-docker/demo.py --end"
        )
    if cluster.call("docker", "image", "inspect", IMAGE).returncode:
        timeline.say(f"packaging/node-image/build {IMAGE}, which takes a minute")
        subprocess.run([HERE.parents[1] / "packaging/node-image/build", IMAGE], check=True, env=cluster.environment)


def start(cluster: Cluster, timeline: Timeline) -> "subprocess.Popen[bytes]":
    """The one command. It makes one node, the seed; the InfraKit that runs there makes the others."""
    given = cluster.given(log="info" if "--check" in sys.argv else "error")
    timeline.say(f"infrakit up examples/swarm-docker/ {' '.join(given[1:])}")
    log = (RUN / "outside.log").open("wb") if "--check" in sys.argv else None
    up = subprocess.Popen(
        ["infrakit", "up", str(HERE), *given[1:]],
        env=cluster.environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    wait_for("the Swarm", lambda: cluster.whole(WORKERS) or up.poll() is not None)
    if up.poll() is not None:
        raise Broken(f"infrakit up: exit code {up.returncode}: {(RUN / 'outside.log').read_text() if log else ''}")
    return up


def check(cluster: Cluster, timeline: Timeline, only: list[str]) -> None:
    with Watcher(cluster.engine) as watcher:
        up = start(cluster, timeline)
        timeline.promise(not cluster.shortfall(WORKERS), f"three managers at {', '.join(MANAGERS)}, {WORKERS} workers")
        up.send_signal(signal.SIGINT)
        timeline.promise(up.wait(30) == 0, "infrakit up has ended; the Swarm goes on without it")
        faults = Faults(cluster, timeline, watcher)
        faults.serve()
        for name in only or FAULTS:
            getattr(faults, name)()
    made = len(watcher.born)
    timeline.promise(
        not watcher.violations,
        f"in {watcher.samples} looks, none of {made} containers bore the address or the volume of another that lived",
    )


def stay(cluster: Cluster, timeline: Timeline) -> None:
    up = start(cluster, timeline)
    try:
        print(f"\nIn another terminal:\n  export INFRAKIT_HOST=unix://{RUN}/{MANAGERS[0]}/group\n  infrakit leader")
        print(
            f"  infrakit status --watch\n  docker --host {cluster.host} ps\n\nKill any of the containers.", flush=True
        )
        up.wait()
    finally:
        up.terminate()
        up.wait()


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also where the terminal is closed
        signal.signal(number, signal.default_int_handler)
    timeline, cluster = Timeline(), None
    try:
        cluster = Cluster(image=IMAGE, run=RUN)
        if "--end" in sys.argv:
            cluster.end()
            return 0
        prepare(cluster, timeline)
    except Broken as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    RUN.mkdir()
    try:
        if "--check" in sys.argv:
            check(cluster, timeline, [word for word in sys.argv[1:] if not word.startswith("--")])
        else:
            stay(cluster, timeline)
    except KeyboardInterrupt:
        print("\nending every node", flush=True)
    except Broken as error:
        print(f"\ndemo: {error}\n{cluster.last_words()}", file=sys.stderr)
        return 1
    finally:
        cluster.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
