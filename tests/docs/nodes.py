"""For pages whose nodes are containers with an Engine of their own: the Engine of the environment, with their image.

Such an image cannot be made in passing, so these pages are read by `make docs-nodes` alone.
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
    """Where replicas listen that a reader at `place` has started: a short path, for sockets."""
    return Path("/run") / place.name


@contextlib.contextmanager
def engine(place: Path) -> Iterator[dict[str, str]]:
    """The environment for it; what was made there is removed, whatever happened."""
    assert not _instances(), "somebody else has instances on this Engine"
    try:
        yield {"DOCKER_HOST": os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"}
    finally:
        while there := _instances():  # one that lives makes others again
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
