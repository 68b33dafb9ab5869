"""Files that are reloaded when they change."""

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


def test_a_file_is_read_again_only_after_a_change(file: Path) -> None:
    number = Number(file)
    reloaded = Reloaded([str(file)], number)
    for content, value, reads in (("1", 1, 1), ("2", 2, 2), ("2", 2, 2), ("3", 3, 3)):
        file.write_text(content)
        reloaded.refresh()
        assert (reloaded.value, number.reads) == (value, reads)
    file.chmod(0o600)  # new permissions are a change, too
    reloaded.refresh()
    assert number.reads == 4


def test_an_invalid_file_is_logged_once_and_the_previous_value_stays(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reloaded = Reloaded([str(file)], Number(file))
    file.write_text("broken")
    for _ in range(3):
        reloaded.refresh()
    assert reloaded.value == 1
    assert [r.message for r in caplog.records] == [
        f"{file}: the previous content stays in force: no number: invalid literal for int() with base 10: 'broken'"
    ]
    file.unlink()
    for _ in range(3):
        reloaded.refresh()
    assert (reloaded.value, len(caplog.records)) == (1, 2)
    file.write_text("2")
    reloaded.refresh()
    assert reloaded.value == 2


def test_the_file_must_be_valid_at_first(file: Path) -> None:
    file.write_text("broken")
    with pytest.raises(Refused):
        Reloaded([str(file)], Number(file))
