"""Files that are read again when they change."""

from pathlib import Path

import pytest

from infrakit.rpc.reloaded import Reloaded
from infrakit.spi.errors import Refused


class Number:
    """Reads a number from a file, and counts how often."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.reads = 0

    def __call__(self) -> int:
        self.reads += 1
        try:
            return int(self._file.read_text())
        except (OSError, ValueError) as error:
            raise Refused(f"no number: {error}") from None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "number").write_text("1")
    return tmp_path / "number"


def test_only_what_has_changed_is_read(file: Path) -> None:
    number = Number(file)
    kept = Reloaded([str(file)], number)
    for content, value, reads in (("1", 1, 1), ("2", 2, 2), ("2", 2, 2), ("3", 3, 3)):
        file.write_text(content)
        kept.refresh()
        assert (kept.value, number.reads) == (value, reads)
    file.chmod(0o600)  # others may read it no more, or do now: that is news too
    kept.refresh()
    assert number.reads == 4


def test_what_is_broken_is_told_once_and_changes_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Reloaded([str(file)], Number(file))
    file.write_text("broken")
    for _ in range(3):
        kept.refresh()
    assert kept.value == 1
    assert [r.message for r in caplog.records] == [
        f"{file}: the previous content stays in force: no number: invalid literal for int() with base 10: 'broken'"
    ]
    file.unlink()
    for _ in range(3):
        kept.refresh()
    assert (kept.value, len(caplog.records)) == (1, 2)
    file.write_text("2")
    kept.refresh()
    assert kept.value == 2


def test_at_first_it_must_be_right(file: Path) -> None:
    file.write_text("broken")
    with pytest.raises(Refused):
        Reloaded([str(file)], Number(file))
