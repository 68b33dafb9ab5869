"""One daemon for each state directory."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infrakit.runtime.lock import StateLock
from infrakit.spi import errors

HOLD = """
import sys, time
from pathlib import Path
from infrakit.runtime.lock import StateLock
with StateLock(Path(sys.argv[1]), started="2026-11-23T10:00:00Z"):
    print("held", flush=True)
    time.sleep(1000)
"""


def test_a_second_daemon_is_refused_until_the_first_has_terminated(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(errors.Refused) as refused, StateLock(home):
            pass
        assert f"{home} is in use by the daemon with pid {first.pid} on " in str(refused.value)
        assert "started 2026-11-23 10:00:00Z" in str(refused.value)
        assert "stop it (a TERM signal; its instances keep running)" in refused.value.remedy
        pidfd = os.pidfd_open(first.pid)
        first.send_signal(signal.SIGKILL)
        select.select([pidfd], [], [], 60)
        os.close(pidfd)
        with StateLock(home):
            pass


def test_the_lock_is_released_at_exit_and_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), StateLock(tmp_path):
        raise ZeroDivisionError
    with StateLock(tmp_path), pytest.raises(errors.Refused), StateLock(tmp_path):
        pass
    with StateLock(tmp_path):
        pass


def test_instances_that_outlive_the_daemon_do_not_hold_the_lock(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    lock.__enter__()
    with subprocess.Popen(["sleep", "1000"], close_fds=False) as instance:
        lock.__exit__(None, None, None)
        with StateLock(tmp_path):
            instance.kill()


def test_a_lock_whose_holder_has_not_written_its_name_is_held(tmp_path: Path) -> None:
    with StateLock(tmp_path):
        (tmp_path / "lock").write_text("")
        with pytest.raises(errors.Refused, match="another daemon that has just started"), StateLock(tmp_path):
            pass


def test_only_the_owner_can_access_the_directory(tmp_path: Path) -> None:
    with StateLock(tmp_path / "home"):
        assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
