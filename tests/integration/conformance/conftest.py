"""A path that is short enough for a socket."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def path() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    yield directory / "p"
    shutil.rmtree(directory)
