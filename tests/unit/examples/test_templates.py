"""The gallery of templates: each is well-formed and documented; its cloud-init files have the right structure."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.examples.gallery import GALLERY, TEMPLATES, render

SCRIPTS = [name for name in TEMPLATES if name.endswith(".sh.j2")]
CLOUD_INIT = [name for name in TEMPLATES if name.startswith("cloud-init-")]
# The modules that the files use, and the types of their values: https://docs.cloud-init.io.
MODULES: dict[str, type | tuple[type, ...]] = {
    "hostname": str,
    "manage_etc_hosts": bool,
    "timezone": str,
    "users": list,
    "ssh_pwauth": bool,
    "disable_root": bool,
    "package_update": bool,
    "packages": list,
    "write_files": list,
    "snap": dict,
    "runcmd": list,
}


def test_the_gallery_is_complete() -> None:
    assert set(TEMPLATES) == {
        "cloud-init-debian.yaml.j2",
        "cloud-init-ubuntu.yaml.j2",
        "docker-engine.sh.j2",
        "etcd-member.sh.j2",
        "format-and-mount.sh.j2",
    }
    readme = (GALLERY / "README.md").read_text()
    assert not [name for name in TEMPLATES if f"`{name}`" not in readme]


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template_is_well_formed(name: str) -> None:
    assert re.search(r"renders to \d+ lines of well-formed (sh|yaml)$", render(name, "--check").strip())


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template_documents_every_variable_that_it_uses(name: str) -> None:
    text = (GALLERY / name).read_text()
    documented = text.partition("{{/*")[2].partition("*/}}")[0]
    documented = documented.replace(
        "those of cloud-init-debian.yaml.j2", (GALLERY / "cloud-init-debian.yaml.j2").read_text()
    )
    words = set(re.findall(r"[\w/]+", documented))
    used = set(re.findall(r"var\('([\w/]+)'", text))
    assert used
    assert not [each for each in used if not {each, each.rpartition("/")[0]} & words]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_pass_shellcheck(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("install shellcheck: apt-get install shellcheck")
    shellcheck(render(name))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_hostile_value_is_quoted(name: str) -> None:
    """The value of a variable must not become a command."""
    hostile = "/x y'; touch /tmp/hurt; echo '$(touch /tmp/hurt)"
    text = render(
        name, *(f"--var={each}={hostile}" for each in ("volume/device", "volume/mount", "docker/etc", "etcd/data"))
    )
    first = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (first.returncode, first.stderr) == (0, "")
    assert "'; touch" not in text.replace("""'"'"'; touch""", "")


@pytest.mark.parametrize("name", CLOUD_INIT)
def test_cloud_init_files_have_the_structure_of_cloud_init(name: str) -> None:
    text = render(name)
    assert text.startswith("#cloud-config\n")
    document = yaml.safe_load(text)
    assert {key: type(value) for key, value in document.items()} == {key: MODULES[key] for key in document}
    (user,) = document["users"]
    assert user["name"] in name  # debian, ubuntu
    assert user["lock_passwd"] is True
    assert user["ssh_authorized_keys"][0].startswith("ssh-ed25519 ")
    assert document["hostname"] == "store-1"
    assert all(isinstance(each, str) for each in document["packages"])
    for each in document["runcmd"]:
        assert isinstance(each, list | str)
    network, volume, docker = document["write_files"]
    assert "10.0.0.11/24" in network["content"]
    for file in (volume, docker):
        assert file["permissions"] == "0755"
        assert file["path"].startswith("/var/lib/cloud/scripts/per-boot/")
        script = base64.b64decode(file["content"], validate=True).decode()
        assert script.startswith("#!/bin/sh\n")
        if shutil.which("shellcheck") is not None:
            shellcheck(script)
    assert volume["path"] < docker["path"]  # they run in this order
    script = base64.b64decode(volume["content"]).decode()
    assert "target=/var/lib/docker\n" in script.replace("'", "")  # where the script for Docker expects it


def test_the_private_address_is_in_the_format_of_each_distribution() -> None:
    files = {name: yaml.safe_load(render(name))["write_files"][0] for name in CLOUD_INIT}
    plan = yaml.safe_load(files["cloud-init-ubuntu.yaml.j2"]["content"])
    assert plan["network"]["ethernets"]["ens4"]["addresses"] == ["10.0.0.11/24"]
    assert "\n[Network]\nAddress=10.0.0.11/24\n" in files["cloud-init-debian.yaml.j2"]["content"]


def shellcheck(script: str) -> None:
    done = subprocess.run(
        ["shellcheck", "--norc", "-"], input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


# -- Docker Engine, with stubs for programs that need a whole machine ------------------------------------------------


class Machine:
    """Directories for /etc and the engine's data, and programs that only log their calls."""

    def __init__(self, place: Path) -> None:
        self.etc, self.log, bin_ = place / "etc", place / "log", place / "bin"
        bin_.mkdir()
        self.mounted = place / "mounted"
        for program, body in {
            "systemctl": 'echo "systemctl $*" >>"$LOG"',
            "docker": 'test "$1" = info',
            "dockerd": "exit 1",
            "apt-get": 'echo "apt-get $*" >>"$LOG"',
            "mountpoint": 'test -e "$MOUNTED"',
        }.items():
            path = bin_ / program
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(0o755)
        for program in ("cat", "dirname", "mkdir", "mv", "sleep"):
            (bin_ / program).symlink_to(str(shutil.which(program)))
        self.environment = {"PATH": str(bin_), "LOG": str(self.log), "MOUNTED": str(self.mounted)}

    def boot(self, *options: str, exits: int = 0) -> list[str]:
        """Run the script and return the calls that it made."""
        self.log.write_text("")
        script = render("docker-engine.sh.j2", f"--var=docker/etc={self.etc}", *options)
        done = subprocess.run(
            ["/bin/sh"], input=script, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == exits, done.stderr
        return self.log.read_text().splitlines()

    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.etc / "docker/daemon.json").read_text())
        return found


def test_docker_is_not_started_before_its_volume_is_mounted(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.boot(exits=1) == []
    assert not machine.etc.exists()
    assert machine.boot("--var=docker/volume=false")
    assert not (machine.etc / "systemd").exists()


def test_docker_is_restarted_only_when_its_configuration_has_changed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.mounted.touch()
    started = ["systemctl daemon-reload", "systemctl enable --now docker"]
    assert machine.boot() == [*started, "systemctl restart docker"]
    assert machine.config() == {
        "data-root": "/var/lib/docker",
        "log-driver": "local",
        "live-restore": False,
        "max-concurrent-downloads": 6,
    }
    unit = (machine.etc / "systemd/system/docker.service.d/volume.conf").read_text()
    assert "\nRequiresMountsFor=/var/lib/docker\n" in unit
    assert machine.boot() == started
    assert machine.boot("--var=docker/config/log-driver=journald") == [*started, "systemctl restart docker"]
    assert machine.config()["log-driver"] == "journald"
    assert not list(machine.etc.rglob("*.new"))


def test_docker_is_installed_where_it_is_missing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.mounted.touch()
    (tmp_path / "bin/dockerd").unlink()
    assert machine.boot()[:2] == [
        "apt-get update -q",
        "apt-get install -q -y --no-install-recommends docker.io iptables",
    ]


def test_the_docker_client_is_installed_where_it_is_a_separate_package(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.mounted.touch()
    client, installer = tmp_path / "bin/docker", tmp_path / "bin/apt-get"
    client.rename(tmp_path / "client")
    (tmp_path / "bin/ln").symlink_to(str(shutil.which("ln")))
    installer.write_text(f'{installer.read_text()}ln -s "{tmp_path}/client" "{client}"\n')
    assert machine.boot()[0] == "apt-get install -q -y --no-install-recommends docker-cli"
