"""Check the invariant that no two running containers ever have the same address or the same volume.

A thread polls the Engine from the first container to the last; a duplicate that is observed once fails the whole run.
It also records when each container was created and terminated, and the minimum number of running tasks of the service.
"""

import http.client
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

NETWORK = "infrakit-swarm"
SAMPLE_S = 0.05
LIVES = ("running", "paused", "restarting", "removing")
WORKLOAD = b"/bin/busybox\0sleep\x004242\0"

Facts = dict[str, Any]


class Unix(http.client.HTTPConnection):
    """An HTTP connection to the unix socket of an Engine."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("engine", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def instances(path: str) -> list[Facts]:
    """Return every container that is an instance on the network of this example, including exited ones."""
    connection = Unix(path, 10.0)
    try:
        wanted = quote(json.dumps({"label": ["infrakit.docker.id"], "network": [NETWORK]}))
        connection.request("GET", f"/containers/json?all=1&filters={wanted}")
        found: list[Facts] = json.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()


class Watcher:
    """Polls the Engine from `__enter__` to `__exit__`."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self.samples = 0
        self.violations: list[str] = []
        self.created: dict[str, float] = {}  # container -> time of first observation, seconds since 1970
        self.terminated: dict[str, float] = {}
        self.fewest = 0  # minimum number of running tasks of the service since `reset`
        self._counting = threading.Lock()  # a count from before a `reset` must not be recorded after it
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def reset(self) -> None:
        """Restart the minimum of running tasks from the current count."""
        with self._counting:
            self.fewest = running()

    def _watch(self) -> None:
        while not self._done.is_set():
            try:
                self._sample(instances(self._engine))
            except (OSError, http.client.HTTPException) as error:
                self.violations.append(f"the Engine does not respond to the watcher: {error}")
            with self._counting:
                self.fewest = min(self.fewest, running())
            self._done.wait(SAMPLE_S)

    def _sample(self, listed: list[Facts]) -> None:
        self.samples += 1
        now, owners = time.time(), dict[str, str]()
        living = {each["Id"]: each for each in listed if each["State"] in LIVES}
        for missing in self.created.keys() - living.keys() - self.terminated.keys():
            self.terminated[missing] = now
        for id_, each in living.items():
            self.created.setdefault(id_, now)
            volumes = [mount["Name"] for mount in each["Mounts"] if mount["Type"] == "volume"]
            address = each["Labels"].get("infrakit.docker.logical-id")
            for resource in (*volumes, *([address] if address else [])):
                other = owners.setdefault(resource, id_)
                if other != id_:
                    self.violations.append(f"{resource} belongs to {other[:12]} and {id_[:12]} at the same time")


def running() -> int:
    """Count the running tasks of the service on all nodes, which are processes of this host."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found += (entry / "cmdline").read_bytes() == WORKLOAD
            except OSError:
                continue
    return found
