"""A Docker Swarm that heals itself, on one machine: three managers and two workers, from one command.

    python3 examples/swarm-docker/demo.py            start it and print events; Ctrl-C stops it
    python3 examples/swarm-docker/demo.py --check    inject every fault in faults.py and check every guarantee

It needs a Docker Engine at a socket of this host (DOCKER_HOST), root, and the image of a node, which it builds if there
is none (packaging/node-image). With --check, it prints a timeline, and exits with code 1 at the first check that
fails. It removes everything that it creates except the image.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # where timeline.py is
from cluster import HERE, MANAGERS, Cluster
from faults import Faults
from timeline import CheckFailed, Timeline, wait_for
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
    "rolling_update",
    "scale",
    "lose_the_quorum",
    "lose_a_volume",
    "tear_down",
)


def prepare(cluster: Cluster, timeline: Timeline) -> None:
    """Refuse to start if resources of another run exist, and build the image if there is none."""
    if cluster.call("docker", "version").returncode:
        raise CheckFailed(f"no Engine responds at {cluster.host}: start it, or set DOCKER_HOST to another one")
    mine = instances(cluster.engine)
    if mine or RUN.exists() or not cluster.call("docker", "network", "inspect", NETWORK).returncode:
        raise CheckFailed(
            f"resources of another run exist ({len(mine)} containers, {RUN}, the network {NETWORK}):"
            " remove them: python3 examples/swarm-docker/demo.py --end"
        )
    if cluster.call("docker", "image", "inspect", IMAGE).returncode:
        timeline.log(f"packaging/node-image/build {IMAGE}, which takes a minute")
        subprocess.run([HERE.parents[1] / "packaging/node-image/build", IMAGE], check=True, env=cluster.environment)


def start(cluster: Cluster, timeline: Timeline) -> "subprocess.Popen[bytes]":
    """Run the one command. It creates one node, the seed; the replica on it creates the others."""
    given = cluster.given(log="info" if "--check" in sys.argv else "error")
    timeline.log(f"infrakit up examples/swarm-docker/ {' '.join(given[1:])}")
    log = (RUN / "outside.log").open("wb") if "--check" in sys.argv else None
    up = subprocess.Popen(
        ["infrakit", "up", str(HERE), *given[1:]],
        env=cluster.environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    wait_for("the Swarm", lambda: cluster.complete(WORKERS) or up.poll() is not None)
    if up.poll() is not None:
        raise CheckFailed(f"infrakit up: exit code {up.returncode}: {(RUN / 'outside.log').read_text() if log else ''}")
    return up


def check(cluster: Cluster, timeline: Timeline, only: list[str]) -> None:
    with Watcher(cluster.engine) as watcher:
        up = start(cluster, timeline)
        timeline.check(not cluster.shortfall(WORKERS), f"three managers at {', '.join(MANAGERS)}, {WORKERS} workers")
        up.send_signal(signal.SIGINT)
        timeline.check(up.wait(30) == 0, "infrakit up has exited; the Swarm keeps running")
        faults = Faults(cluster, timeline, watcher)
        faults.create_service()
        for name in only or FAULTS:
            getattr(faults, name)()
    created = len(watcher.created)
    timeline.check(
        not watcher.violations,
        f"in {watcher.samples} samples, no two of {created} containers shared an address or a volume",
    )


def run_until_interrupted(cluster: Cluster, timeline: Timeline) -> None:
    up = start(cluster, timeline)
    try:
        print(f"\nIn another terminal:\n  export INFRAKIT_HOST=unix://{RUN}/{MANAGERS[0]}/group\n  infrakit leader")
        print(f"  infrakit status --watch\n  docker --host {cluster.host} ps\n\nKill any container.", flush=True)
        up.wait()
    finally:
        up.terminate()
        up.wait()


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also when the terminal is closed
        signal.signal(number, signal.default_int_handler)
    timeline, cluster = Timeline(), None
    try:
        cluster = Cluster(image=IMAGE, run=RUN)
        if "--end" in sys.argv:
            cluster.tear_down()
            return 0
        prepare(cluster, timeline)
    except CheckFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    RUN.mkdir()
    try:
        if "--check" in sys.argv:
            check(cluster, timeline, [word for word in sys.argv[1:] if not word.startswith("--")])
        else:
            run_until_interrupted(cluster, timeline)
    except KeyboardInterrupt:
        print("\nremoving every node", flush=True)
    except CheckFailed as error:
        print(f"\ndemo: {error}\n{cluster.recent_logs()}", file=sys.stderr)
        return 1
    finally:
        cluster.tear_down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
