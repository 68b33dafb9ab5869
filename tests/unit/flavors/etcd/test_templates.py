"""The boot script of etcd: the built-in template, and declared ones."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from infrakit.flavors.etcd import EtcdFlavor
from tests.unit.flavors.etcd.test_prepare import pets, prepared, problems

TRIO = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


async def script(name: str = TRIO[1], *names: str, **properties: Any) -> str:
    return (await prepared(EtcdFlavor(), name, *(names or TRIO), **properties)).init


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"Run": 'echo it\'s "$HOME"\nexec x', "ExtraArgs": ["--a=b c", "--d='e'"], "ClusterToken": "$x `y`"},
        {"Volume": "", "DataDir": "/var/lib/my etcd", "Binary": "/usr/local/bin/etcd", "Bootstrap": "never"},
    ],
)
@pytest.mark.parametrize("name", TRIO)
async def test_the_default_passes_shellcheck(name: str, properties: dict[str, Any], tmp_path: Path) -> None:
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("install shellcheck: apt-get install shellcheck")
    path = tmp_path / "boot.sh"
    path.write_text(await script(name, **properties))
    process = await asyncio.create_subprocess_exec(checker, str(path), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def test_the_default_contains_no_template_syntax() -> None:
    text = await script()
    assert text.startswith("#!/bin/sh\n# shellcheck disable")
    assert "{{" not in text
    assert "{%" not in text


async def test_the_variables_of_a_declared_template() -> None:
    template = (
        "{{ etcd.name }} {{ etcd.client_url }} {{ etcd.peer_url }} {{ etcd.first }} {{ etcd.others | join(',') }}\n"
    )
    assert await script(Init=template) == (
        "10.0.0.2 http://10.0.0.2:2379 http://10.0.0.2:2380 false 10.0.0.1,10.0.0.3\n"
    )
    assert await script(Init=["{{ etcd.endpoints[0] }}", "{{ etcd.peers[2] }}", "{{ attachments[0].id }}"]) == (
        "http://10.0.0.1:2379\nhttp://10.0.0.2:2380\n10.0.0.2"
    )
    assert await script("10.0.0.1", Init="{{ etcd.first }} {{ etcd.token }} {{ spec.Init | length }}") == "true db 58"


async def test_a_declared_template_may_include_the_default(tmp_path: Path) -> None:
    path = tmp_path / "mine.sh"
    path.write_text("#!/bin/sh\necho {{ index.group }}\n{{ default_script() }}")
    assert await script(InitScriptTemplateURL=str(path)) == f"#!/bin/sh\necho db\n{await script()}"


async def test_problems_of_a_template_are_reported_at_commit(tmp_path: Path) -> None:
    path = tmp_path / "mine.sh"
    path.write_text("echo\n{{ etcd.endpoint }}\n")
    (found,) = await problems(pets(*TRIO), InitScriptTemplateURL=str(path))
    assert found == (
        f"InitScriptTemplateURL: {path}, line 2: there is no 'endpoint' in this mapping (did you mean 'endpoints'?)"
    )
    assert await problems(pets(*TRIO), Init="a", InitScriptTemplateURL=str(path)) == [
        "InitScriptTemplateURL: Init is declared, too (choose one of the two)"
    ]
    assert (await problems(pets(*TRIO), InitScriptTemplateURL="/nowhere"))[0].startswith(
        "InitScriptTemplateURL: /nowhere: no such file"
    )
