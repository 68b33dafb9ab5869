"""The gallery's scripts for volumes, on real block devices: a volume that holds anything is never formatted."""

import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.gallery import volumes
from tests.integration.gallery.volumes import Volume
from tests.unit.examples.gallery import render

TIMEOUT_S = 150.0
ADDRESS = (
    f"127.{os.getpid() >> 16 & 63 | 64}.{os.getpid() >> 8 & 255}.{os.getpid() & 255 | 1}"  # unique to this process
)


@pytest.fixture
def attach(tmp_path: Path) -> Iterator[Callable[[], Volume]]:
    if missing := volumes.missing_requirement():
        pytest.skip(missing)
    attached: list[Volume] = []

    def another() -> Volume:
        place = tmp_path / str(len(attached))
        place.mkdir()
        attached.append(Volume(place))
        return attached[-1]

    yield another
    for volume in attached:
        volume.close()


def mount(volume: Volume, *options: str, exits: int = 0) -> str:
    """Run the script, and return its stderr."""
    script = render("format-and-mount.sh.j2", *volume.variables, *options)
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == exits, done.stderr
    return done.stderr


def test_a_blank_volume_is_formatted_once_and_keeps_its_data(attach: Callable[[], Volume]) -> None:
    volume = attach()
    output = mount(volume)
    assert "is blank: formatting it as ext4" in output
    assert volume.is_mounted()
    (volume.target / "data").write_text("precious")
    assert "is already mounted at" in mount(volume)
    volume.unmount()
    output = mount(volume)
    assert "formatting" not in output
    assert (volume.target / "data").read_text() == "precious"
    (line,) = volume.fstab.read_text().splitlines()
    assert line.startswith("UUID=")
    assert line.split()[1:] == [str(volume.target), "ext4", "defaults,noatime,nofail", "0", "2"]


def test_two_concurrent_runs_format_a_volume_once(attach: Callable[[], Volume]) -> None:
    volume = attach()
    script = render("format-and-mount.sh.j2", *volume.variables)
    runs = [
        subprocess.Popen(["sh", "-c", script], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    output = [run.communicate(timeout=60)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], output
    assert "".join(output).count("formatting") == 1
    assert len(volume.fstab.read_text().splitlines()) == 1


def with_another_filesystem(volume: Volume) -> str:
    subprocess.run(["mkfs.ext2", "-q", volume.device], check=True, timeout=60)
    return "holds ext2, not ext4; nothing was changed"


def with_partitions(volume: Volume) -> str:
    entry = bytes((0, 0, 0, 0, 0x83, 0, 0, 0)) + (2048).to_bytes(4, "little") + (8192).to_bytes(4, "little")
    with Path(volume.device).open("r+b") as device:
        device.seek(446)
        device.write(entry + bytes(48) + b"\x55\xaa")
    return "holds a partition table, not ext4; nothing was changed"


@pytest.mark.parametrize("prepare", [with_another_filesystem, with_partitions])
def test_a_volume_with_another_filesystem_or_partitions_is_refused(
    attach: Callable[[], Volume], prepare: Callable[[Volume], str]
) -> None:
    volume = attach()
    expected = prepare(volume)
    before = volume.digest()
    assert expected in mount(volume, exits=1)
    assert volume.digest() == before
    assert not volume.is_mounted()
    assert not volume.fstab.exists()


def test_a_missing_volume_is_refused(attach: Callable[[], Volume]) -> None:
    volume = attach()
    output = mount(volume, "--var=volume/device=/dev/nowhere", exits=1)
    assert output == "volume: no block device /dev/nowhere after 0s; nothing was changed\n"
    assert not volume.target.exists()
    assert "no block device" in mount(
        volume, f"--var=volume/device={volume.file}", exits=1
    )  # a regular file is not a block device


def test_a_mount_point_of_another_volume_is_refused(attach: Callable[[], Volume]) -> None:
    first, second = attach(), attach()
    mount(first)
    before = second.digest()
    output = mount(second, f"--var=volume/mount={first.target}", exits=1)
    assert f"{first.target} is {first.device}, not {second.device}; nothing was changed" in output
    assert second.digest() == before


def etcdctl(*words: str) -> str:
    done = subprocess.run(
        ["etcdctl", f"--endpoints=http://{ADDRESS}:2379", *words],
        env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def answers() -> bool:
    try:
        with urllib.request.urlopen(f"http://{ADDRESS}:2379/health", timeout=5) as answer:
            return b"true" in answer.read()
    except OSError:
        return False


def test_an_etcd_member_restarts_with_its_volume(attach: Callable[[], Volume], monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("etcd") is None or shutil.which("etcdctl") is None:
        pytest.skip("install etcd: apt-get install etcd-server etcd-client")
    monkeypatch.setenv("no_proxy", ADDRESS)
    volume = attach()
    variables = (f"--var=etcd/data={volume.target}", "--var=etcd/name=one", f"--var=etcd/members/one={ADDRESS}")
    script = render("etcd-member.sh.j2", *variables, variables="")
    refused = subprocess.run(["sh"], input=script, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "the volume is not at" in refused.stderr
    mount(volume)
    for command in ("put color blue", "get color"):
        member = subprocess.Popen(
            ["sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            end = time.monotonic() + TIMEOUT_S
            while not answers():
                assert member.poll() is None
                assert time.monotonic() < end, "etcd does not answer"
                time.sleep(0.05)
            output = etcdctl(*command.split())
        finally:
            os.killpg(member.pid, signal.SIGKILL)
            member.wait(60)
        volume.unmount()
        mount(volume)
    assert output == "color\nblue\n"
