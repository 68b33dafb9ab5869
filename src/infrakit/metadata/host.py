"""The metadata plugin `host`: facts about the machine that this process runs on.

It sends no network request: the cloud provider is read from the firmware (DMI), where clouds write their names. It
publishes nothing about processes, their environment, or users.
"""

import asyncio
import contextlib
import ipaddress
import os
import platform
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil

from infrakit.spi import paths

DMI = Path("/sys/class/dmi/id")
# A part of the firmware's texts, in lower case, and the cloud provider that it identifies.
CLOUDS = {
    "amazon ec2": "aws",
    "google": "gcp",
    "microsoft corporation": "azure",
    "digitalocean": "digitalocean",
    "hetzner": "hetzner",
    "openstack": "openstack",
    "oraclecloud": "oracle",
    "alibaba cloud": "alibaba",
    "scaleway": "scaleway",
    "vultr": "vultr",
    "linode": "linode",
    "upcloud": "upcloud",
    "exoscale": "exoscale",
}
_DMI_TEXTS = ("sys_vendor", "product_name", "chassis_vendor", "chassis_asset_tag", "bios_vendor")
_TEXT_MAX = 200


class Host:
    """Publishes facts about the machine. Satisfies `spi.metadata.Metadata`. `dmi` is the directory of DMI texts."""

    def __init__(self, *, dmi: Path = DMI) -> None:
        self._dmi = dmi

    async def keys(self, *, path: str) -> Sequence[str] | None:
        return paths.keys(paths.find(await self._facts(), paths.split(path)))

    async def get(self, *, path: str) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(paths.find(await self._facts(), paths.split(path))))

    async def _facts(self) -> dict[str, Any]:
        return await asyncio.to_thread(facts, self._dmi)


def facts(dmi: Path = DMI) -> dict[str, Any]:
    """Read the complete tree. Facts that cannot be read are omitted."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    system = os.uname()
    cores = psutil.cpu_count(logical=False)
    interfaces = _interfaces()
    found: dict[str, Any] = {
        "name": system.nodename,
        "address": _main_address(interfaces),
        "interfaces": interfaces,
        "cpu": {"count": os.cpu_count(), "cores": cores, "architecture": system.machine},
        "memory": {
            "total_bytes": memory.total,
            "available_bytes": memory.available,
            "swap_bytes": swap.total,
        },
        "os": _os(),
        "kernel": {"name": system.sysname, "release": system.release},
        "cloud": _cloud(dmi),
    }
    return {name: value for name, value in found.items() if value not in (None, {})}


def _interfaces() -> dict[str, dict[str, Any]]:
    """Return the interfaces by name: addresses other than link-local ones, and whether the interface is up."""
    states = psutil.net_if_stats()
    return {
        name: {
            "up": states[name].isup if name in states else False,
            "ipv4": [a.address for a in addresses if a.family is socket.AF_INET],
            "ipv6": [a.address for a in addresses if a.family is socket.AF_INET6 and not _is_link_local(a.address)],
        }
        for name, addresses in sorted(psutil.net_if_addrs().items())
    }


def _is_link_local(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_link_local


def _main_address(interfaces: dict[str, dict[str, Any]]) -> str | None:
    """Return the first address that is not loopback, or a loopback address if there is no other."""
    addresses = [ipaddress.ip_address(a) for each in interfaces.values() for a in (*each["ipv4"], *each["ipv6"])]
    addresses.sort(key=lambda a: (a.is_loopback, a.version))  # stable: the first interface wins
    return str(addresses[0]) if addresses else None


def _os() -> dict[str, str]:
    release: dict[str, str] = {}
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
    names = {"id": "ID", "name": "NAME", "version": "VERSION_ID", "codename": "VERSION_CODENAME"}
    return {name: release[field] for name, field in names.items() if release.get(field)}


def _cloud(dmi: Path) -> dict[str, str]:
    """Return the cloud provider that the firmware names, and its product name of the machine type."""
    texts: dict[str, str] = {}
    for name in _DMI_TEXTS:
        with contextlib.suppress(OSError):  # missing in containers, and some are readable by root only
            texts[name] = (dmi / name).read_text(errors="replace").strip()[:_TEXT_MAX]
    text = " ".join(texts.values()).lower()
    provider = next((cloud for part, cloud in CLOUDS.items() if part in text), None)
    return {"provider": provider, "product": texts.get("product_name", "")} if provider else {}
