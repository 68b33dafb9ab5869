"""The provider whose instances are files."""

import asyncio
import json
import random
import stat
from pathlib import Path

import msgspec
import pytest

from infrakit.instances.file import DIRECTORY_VARIABLE, File
from infrakit.spi import errors, instance
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import TAG_TOKEN, Attachment, InstanceID, InstanceSpec, LogicalID


@pytest.fixture
def provider(tmp_path: Path) -> File:
    return File(tmp_path / "files", random=random.Random(1))


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "files").glob("instance-*"))


def spec(**tags: str) -> InstanceSpec:
    return InstanceSpec(properties=msgspec.Raw(b'{"note":"v1"}'), tags=tags, init="#!/bin/sh\necho hi")


async def test_an_instance_is_a_file_with_its_whole_spec(provider: File, tmp_path: Path) -> None:
    for protocol in (instance.Instance, instance.Capable, instance.Inspects):
        assert isinstance(provider, protocol)
    assert await provider.describe_instances(tags={}) == []
    full = msgspec.structs.replace(
        spec(role="x"), logical_id=LogicalID("10.0.0.1"), attachments=(Attachment(id="v", type="ebs"),)
    )
    created = await provider.provision(spec=full)
    (path,) = files(tmp_path)
    assert path.name == created
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = json.loads(path.read_text())
    assert (written["ID"], written["LogicalID"], written["Tags"]) == (created, "10.0.0.1", {"role": "x"})
    assert written["Spec"]["Init"] == "#!/bin/sh\necho hi"
    (described,) = await provider.describe_instances(tags={"role": "x"}, properties=True)
    assert (described.id, described.logical_id, described.tags) == (created, "10.0.0.1", {"role": "x"})
    assert isinstance(described.properties, msgspec.Raw)
    shown = json.loads(bytes(described.properties))
    assert shown["Properties"] == {"note": "v1"}
    assert shown["Attachments"] == [{"ID": "v", "Type": "ebs"}]


async def test_tags_select_by_all_of_them_and_labels_are_merged(provider: File) -> None:
    one, two = await provider.provision(spec=spec(a="1", b="1")), await provider.provision(spec=spec(a="1"))
    assert {d.id for d in await provider.describe_instances(tags={"a": "1"})} == {one, two}
    assert [d.id for d in await provider.describe_instances(tags={"a": "1", "b": "1"})] == [one]
    await provider.label(instance=two, labels={"b": "1", "a": "2"})
    (found,) = await provider.describe_instances(tags={"a": "2"})
    assert found.tags == {"a": "2", "b": "1"}
    with pytest.raises(errors.NotFound):
        await provider.label(instance=InstanceID("instance-0"), labels={})


async def test_destroy_is_final_and_reported_once(provider: File, tmp_path: Path) -> None:
    created = await provider.provision(spec=spec())
    assert (await provider.inspect(instance=created)) is not None
    await provider.destroy(instance=created, context=DestroyContext())
    assert files(tmp_path) == []
    assert await provider.inspect(instance=created) is None
    with pytest.raises(errors.NotFound, match=f"there is no instance {created}"):
        await provider.destroy(instance=created, context=DestroyContext())


async def test_a_retry_with_the_same_token_creates_nothing(provider: File) -> None:
    created = await provider.provision(spec=spec(**{TAG_TOKEN: "t"}))
    again = await asyncio.gather(*(provider.provision(spec=spec(**{TAG_TOKEN: "t"})) for _ in range(5)))
    assert set(again) == {created}


async def test_a_logical_id_belongs_to_one_instance(provider: File) -> None:
    pet = msgspec.structs.replace(spec(), logical_id=LogicalID("a"))
    outcomes = await asyncio.gather(*(provider.provision(spec=pet) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, errors.Conflict) for outcome in outcomes) == 4


async def test_an_unreadable_file_is_an_error_and_not_a_missing_instance(provider: File, tmp_path: Path) -> None:
    await provider.provision(spec=spec())
    torn = tmp_path / "files" / "instance-7"
    for content in (b"", b'{"ID": "inst', b"\xff", b"[]"):
        torn.write_bytes(content)
        with pytest.raises(errors.PluginError, match="instance-7: it cannot be read"):
            await provider.describe_instances(tags={})
    torn.unlink()
    assert len(await provider.describe_instances(tags={})) == 1


@pytest.mark.parametrize("unknown", ["../x", "instance-/../../etc/passwd", "", "x", "instance-\0"])
async def test_an_unknown_instance_is_not_found(provider: File, unknown: str) -> None:
    await provider.provision(spec=spec())
    assert await provider.inspect(instance=InstanceID(unknown)) is None
    with pytest.raises(errors.NotFound):
        await provider.destroy(instance=InstanceID(unknown), context=DestroyContext())


async def test_two_processes_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "shared"))
    one, two = File(tmp_path / "a"), File(tmp_path / "b")
    created = await asyncio.gather(*(each.provision(spec=spec(**{TAG_TOKEN: "t"})) for each in (one, two) * 5))
    assert len(set(created)) == 1
    assert len(await two.describe_instances(tags={})) == 1


async def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(errors.PluginError, match="files"):
        await File(tmp_path / "files").provision(spec=spec())


async def test_an_instance_whose_file_cannot_be_read_has_not_terminated(provider: File, tmp_path: Path) -> None:
    created = await provider.provision(spec=spec())
    (tmp_path / "files").rename(tmp_path / "unmounted")
    with pytest.raises(errors.PluginError, match="directory is missing"):
        await provider.inspect(instance=created)
    (tmp_path / "unmounted").rename(tmp_path / "files")
    (tmp_path / "files" / created).unlink()
    (tmp_path / "files" / created).mkdir()
    with pytest.raises(errors.PluginError, match="cannot be read"):
        await provider.inspect(instance=created)
