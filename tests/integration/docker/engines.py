"""A Docker Engine for tests, in namespaces that terminate with it, so that nothing is ever left behind."""

import contextlib
import io
import json
import os
import re
import select
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BUSYBOX = Path("/bin/busybox")
IMAGE = "tiny"
DEADLINE_S = 150.0
APPLETS = (
    "sh",
    "sleep",
    "cat",
    "echo",
    "ls",
    "hostname",
    "ip",
    "kill",
    "touch",
    "true",
    "false",
    "env",
    "nslookup",
    "wc",
)
_PORT = re.compile(r"API listen on 127\.0\.0\.1:\d+")


def missing_requirement() -> str:
    """Why this machine cannot run an Engine; empty if it can."""
    if os.geteuid() != 0:
        return "a Docker Engine is started by root"
    if not all(shutil.which(each) for each in ("dockerd", "docker", "ip")) or not BUSYBOX.exists():
        return "install a Docker Engine: docker.io (Debian 13: and docker-cli), iptables, iproute2, busybox-static"
    return ""


def free_port() -> int:
    """A port of 127.0.0.1 at which nothing listens: newer Engines refuse to choose one themselves."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def cgroups(name: str) -> list[Path]:
    """The cgroup directories of `name`: one, or with cgroups of version 1 one in each hierarchy."""
    root = Path("/sys/fs/cgroup")
    return [each for each in (root / name, *root.glob(f"*/{name}")) if each.is_dir()]


@contextlib.contextmanager
def running(*listening: str, **options: Any) -> Iterator["Engine"]:
    """A running Engine, which is always terminated at exit; skips the test where no Engine can run."""
    if why := missing_requirement():
        pytest.skip(why)
    engine = Engine(*listening, **options)
    try:
        engine.start()
        yield engine
    finally:
        engine.close()


class Engine:
    """`dockerd` with all its state in its own directory."""

    def __init__(self, *listening: str, isolated: bool = True, **options: Any) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="ikd", dir="/tmp"))
        self.socket = self.place / "sock"
        self.host = f"unix://{self.socket}"
        self.cgroup = self.place.name
        self._isolated = isolated
        self._listening = listening
        self._process: subprocess.Popen[bytes] | None = None
        config = {
            "data-root": str(self.place / "data"),
            "exec-root": str(self.place / "exec"),
            "pidfile": str(self.place / "pid"),
            "deprecated-key-path": str(self.place / "key.json"),
            "bridge": "none",
            "cgroup-parent": f"/{self.cgroup}",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],  # systemd does not accept such a parent
            **({} if isolated else {"iptables": False}),
            **options,
        }
        (self.place / "config.json").write_text(json.dumps(config))

    @property
    def log(self) -> str:
        return (self.place / "log").read_text()

    def start(self) -> None:
        """Start the Engine, and wait until it answers."""
        net = ["--net"] if self._isolated else []
        isolation = ["unshare", *net, "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        loopback = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"] if self._isolated else []
        listening = [word for each in (self.host, *self._listening) for word in ("-H", each)]
        self.socket.unlink(missing_ok=True)
        (self.place / "pid").unlink(missing_ok=True)
        shutil.rmtree(self.place / "exec", ignore_errors=True)  # like /run after a power failure
        with (self.place / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *isolation,
                    *loopback,
                    "dockerd",
                    "--config-file",
                    str(self.place / "config.json"),
                    *listening,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + DEADLINE_S
        while self._ask("version").returncode or (self._listening and not _PORT.search(self.log)):
            assert self._process.poll() is None, self.log[-2000:]
            assert time.monotonic() < end, self.log[-2000:]
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the Engine and every container, like a power failure."""
        if self._process is not None:
            pid = self._process.pid
            alive = self._process.poll() is None
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if alive else []
            pidfds = [os.pidfd_open(int(each)) for each in children]
            self._process.kill()
            self._process.wait()
            for each in pidfds:  # the first process of a namespace exits last
                select.select([each], [], [], DEADLINE_S)
                os.close(each)
            self._process = None

    def close(self) -> None:
        """Terminate the Engine, and remove everything."""
        self.kill()
        for controller in cgroups(self.cgroup):
            for each in (*controller.glob("*/"), controller):
                self._remove(each)
        shutil.rmtree(self.place, ignore_errors=True)

    def _remove(self, cgroup: Path) -> None:
        """Retry while it is busy, shortly after the last of its processes was killed."""
        end = time.monotonic() + DEADLINE_S
        while cgroup.exists() and time.monotonic() < end:
            try:
                cgroup.rmdir()
            except OSError:
                time.sleep(0.05)

    def docker(self, *words: str, ok: bool = True) -> str:
        """The output of Docker's own client."""
        done = self._ask(*words)
        assert not ok or done.returncode == 0, done.stderr
        return done.stdout.strip() or done.stderr.strip()

    def _ask(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = ["docker", "--host", self.host, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    def build(self) -> None:
        """Build an image of one program, from Debian's busybox."""
        build_image(self.host)

    def clear(self) -> None:
        """Remove everything except the image."""
        if containers := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", "-v", *containers, ok=False)
        if volumes := self.docker("volume", "ls", "-q").split():
            self.docker("volume", "rm", *volumes)
        self.docker("network", "prune", "-f")


def build_image(host: str) -> None:
    """Build an image of one program, from Debian's busybox, on the Engine at `host`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
        archive.add(BUSYBOX, "bin/busybox")
        for name in APPLETS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    command = ["docker", "--host", host, "import", "--change", 'CMD ["sleep", "1000"]', "-", IMAGE]
    subprocess.run(command, input=packed.getvalue(), capture_output=True, timeout=DEADLINE_S, check=True)
