"""A loop device backed by a file, in place of a volume that a provider has attached."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

SIZE = 256 << 20  # etcd reserves 64 MB for each part of its log


def missing_requirement() -> str:
    """Why this machine cannot run these tests; empty if it can."""
    if os.geteuid() != 0:
        return "run as root: loop devices and mounts need it"
    for program, package in {"losetup": "mount", "mkfs.ext4": "e2fsprogs", "findmnt": "util-linux"}.items():
        if shutil.which(program) is None:
            return f"install {program}: apt-get install {package}"
    return "" if Path("/dev/loop-control").exists() else "load the kernel's loop devices: modprobe loop"


class Volume:
    """A blank volume; `close` unmounts and detaches it."""

    def __init__(self, place: Path) -> None:
        self.file, self.target, self.fstab = place / "volume", place / "mnt", place / "fstab"
        self.file.touch()
        os.truncate(self.file, SIZE)
        self.device = _run("losetup", "--find", "--show", str(self.file)).strip()

    @property
    def variables(self) -> tuple[str, ...]:
        """The options that pass it to the templates."""
        values = {"device": self.device, "mount": self.target, "fstab": self.fstab, "patience": 0}
        return tuple(f"--var=volume/{name}={value}" for name, value in values.items())

    def is_mounted(self) -> bool:
        return os.path.ismount(self.target)

    def digest(self) -> str:
        """A digest of its whole content."""
        _run("sync", self.device)
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def unmount(self) -> None:
        _run("umount", str(self.target))

    def close(self) -> None:
        while self.is_mounted():
            _run("umount", "--lazy", str(self.target))
        _run("losetup", "--detach", self.device)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
