"""The checks of `make clean` before it deletes the home of the demo."""

import os
import subprocess
import sys
from pathlib import Path

CLEAN = Path(__file__).parents[3] / "examples/quickstart/clean.py"


def clean(home: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(CLEAN), str(home)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_a_running_instance_that_is_not_declared_is_reported_and_keeps_the_home(tmp_path: Path) -> None:
    instance = {**os.environ, "INFRAKIT_DIRECTORY": f"{tmp_path}/local/instances/i-1"}
    with subprocess.Popen(["sleep", "1000"], env=instance) as process:
        try:
            done = clean(tmp_path)
            assert done.returncode == 1
            assert f"kill {process.pid}" in done.stderr
            assert clean(tmp_path / "other").returncode == 0
        finally:
            process.kill()
    done = clean(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
