"""What must be true at every moment: nobody bears the address or the volume of another one that lives.

A thread asks the Engine again and again, from the first container to the last; a second bearer, seen once, is a fault
of the whole run. It also knows when each container came and went, and how much of the service ran at the least.
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
    """HTTP at the socket of an Engine."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("engine", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def instances(path: str) -> list[Facts]:
    """Every container that is an instance on the network of this example, dead ones too."""
    connection = Unix(path, 10.0)
    try:
        wanted = quote(json.dumps({"label": ["infrakit.docker.id"], "network": [NETWORK]}))
        connection.request("GET", f"/containers/json?all=1&filters={wanted}")
        found: list[Facts] = json.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()


class Watcher:
    """Samples from `__enter__` to `__exit__`."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self.samples = 0
        self.violations: list[str] = []
        self.born: dict[str, float] = {}  # container -> when it was seen first, seconds since 1970
        self.ended: dict[str, float] = {}
        self.fewest = 0  # tasks of the service that ran, since `reset`
        self._counting = threading.Lock()  # what was counted before a `reset` must not be taken for what came after
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def reset(self) -> None:
        """Count the service anew from here."""
        with self._counting:
            self.fewest = running()

    def _watch(self) -> None:
        while not self._done.is_set():
            try:
                self._sample(instances(self._engine))
            except (OSError, http.client.HTTPException) as error:
                self.violations.append(f"the Engine does not answer the watcher: {error}")
            with self._counting:
                self.fewest = min(self.fewest, running())
            self._done.wait(SAMPLE_S)

    def _sample(self, listed: list[Facts]) -> None:
        self.samples += 1
        now, bearers = time.time(), dict[str, str]()
        living = {each["Id"]: each for each in listed if each["State"] in LIVES}
        for gone in self.born.keys() - living.keys() - self.ended.keys():
            self.ended[gone] = now
        for id_, each in living.items():
            self.born.setdefault(id_, now)
            volumes = [mount["Name"] for mount in each["Mounts"] if mount["Type"] == "volume"]
            address = each["Labels"].get("infrakit.docker.logical-id")
            for borne in (*volumes, *([address] if address else [])):
                other = bearers.setdefault(borne, id_)
                if other != id_:
                    self.violations.append(f"{borne} is borne by {other[:12]} and {id_[:12]} at once")


def running() -> int:
    """Tasks of the service that run now, on whatever node: processes of this host all of them."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found += (entry / "cmdline").read_bytes() == WORKLOAD
            except OSError:
                continue
    return found
