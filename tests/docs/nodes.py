"""The Docker Engine of the environment, for pages whose nodes are containers with their own Engine.

The image of these nodes is expensive to build, so only `make docs-nodes` tests these pages.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import PAGES

PATIENCE_S = 300.0
NETWORK = "infrakit-swarm"
NEEDING = [page for page in PAGES if "\n$ infrakit up examples/swarm-docker/" in page.read_text()]


def run(place: Path) -> Path:
    """The directory of the sockets of replicas that a reader at `place` has started: a short path."""
    return Path("/run") / place.name


@contextlib.contextmanager
def engine(place: Path) -> Iterator[dict[str, str]]:
    """The environment variables for it; everything that was created there is removed, also after a failure."""
    assert not _instances(), "this Engine has other instances"
    try:
        yield {"DOCKER_HOST": os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"}
    finally:
        while there := _instances():  # a running node recreates the others
            _docker("rm", "--force", "--volumes", *there)
        if volumes := _docker("volume", "ls", "--quiet", "--filter", "name=swarm-10.77.0.").split():
            _docker("volume", "rm", *volumes)
        _docker("network", "rm", NETWORK)
        shutil.rmtree(run(place), ignore_errors=True)


def _instances() -> list[str]:
    return _docker("ps", "--all", "--quiet", "--filter", "label=infrakit.docker.id").split()


def _docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return done.stdout
