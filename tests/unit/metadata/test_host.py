"""The plugin `host`: facts about this machine, and none of its secrets."""

import json
import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from infrakit.metadata.host import Host
from infrakit.spi.metadata import Metadata

SECRET = "s3cret-of-the-environment"


async def read(dmi: Path, path: str = "") -> Any:
    return json.loads(bytes(await Host(dmi=dmi).get(path=path)))


async def test_it_describes_this_machine(tmp_path: Path) -> None:
    host = Host(dmi=tmp_path)
    assert isinstance(host, Metadata)
    assert await read(tmp_path, "name") == os.uname().nodename
    assert await read(tmp_path, "cpu/count") == os.cpu_count()
    assert await read(tmp_path, "memory/total_bytes") == psutil.virtual_memory().total
    assert await read(tmp_path, "kernel/release") == os.uname().release
    assert "127.0.0.1" in await read(tmp_path, "interfaces/lo/ipv4")
    assert await host.keys(path="kernel") == ["name", "release"]
    assert await host.keys(path="no") is None
    named = {a.address for each in psutil.net_if_addrs().values() for a in each}
    assert await read(tmp_path, "address") in named


@pytest.mark.parametrize(
    ("texts", "cloud"),
    [
        ({"sys_vendor": "Amazon EC2\n", "product_name": "t3.small\n"}, {"provider": "aws", "product": "t3.small"}),
        ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, {"provider": "gcp"}),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, {"provider": "azure"}),
        ({"chassis_asset_tag": "OracleCloud.com"}, {"provider": "oracle", "product": ""}),
        ({"sys_vendor": "QEMU", "product_name": "Standard PC"}, None),
        ({}, None),
    ],
)
async def test_the_firmware_names_the_cloud(
    tmp_path: Path, texts: dict[str, str], cloud: dict[str, str] | None
) -> None:
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    found = await read(tmp_path, "cloud")
    assert found is None if cloud is None else cloud.items() <= found.items()


async def test_nothing_of_the_environment_or_of_users_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOIN_TOKEN", SECRET)
    for name in ("product_uuid", "product_serial"):
        (tmp_path / name).write_text(SECRET)
    (tmp_path / "sys_vendor").write_text("Google")
    whole = await read(tmp_path)
    assert SECRET not in json.dumps(whole)
    known = {"name", "address", "interfaces", "cpu", "memory", "os", "kernel", "cloud"}
    assert set(whole) <= known  # every new fact needs a review
