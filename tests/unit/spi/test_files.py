"""Replacing a file is atomic: a failure leaves the old content."""

import os
import stat
from pathlib import Path

import pytest

from infrakit.spi import files


def test_the_content_is_replaced_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "mark.json"
    for content in (b"one", b"a longer second one", b""):
        files.replace(path, content)
        assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "write", "rename"])
def test_a_failure_leaves_the_old_content_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "mark.json"
    files.replace(path, b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    elif step == "rename":
        monkeypatch.setattr(Path, "replace", fail)
    content = b"new" if step != "write" else "not bytes"
    with pytest.raises((OSError, TypeError)) as failed:
        files.replace(path, content)  # type: ignore[arg-type]
    if step != "write":
        assert str(failed.value) == f"[Errno 28] No space left on device: '{path}'"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_and_then_its_directory_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    files.replace(tmp_path / "mark.json", b"x")
    assert [name.startswith(".mark.json.") for name in flushed] == [True, False]
    assert flushed[1] == tmp_path.name
