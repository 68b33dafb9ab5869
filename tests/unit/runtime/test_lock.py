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


def test_the_second_is_refused_and_told_who_is_first_until_that_one_is_dead(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(errors.Refused) as refused, StateLock(home):
            pass
        assert f"{home} is in use by the daemon with pid {first.pid} on " in str(refused.value)
        assert "started 2026-11-23T10:00:00Z" in str(refused.value)
        assert "infrakit down" in refused.value.remedy
        dead = os.pidfd_open(first.pid)
        first.send_signal(signal.SIGKILL)
        select.select([dead], [], [], 60)
        os.close(dead)
        with StateLock(home):
            pass


def test_it_is_let_go_at_the_end_and_when_something_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), StateLock(tmp_path):
        raise ZeroDivisionError
    with StateLock(tmp_path), pytest.raises(errors.Refused), StateLock(tmp_path):
        pass
    with StateLock(tmp_path):
        pass


def test_instances_that_outlive_the_daemon_do_not_hold_it(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    lock.__enter__()
    with subprocess.Popen(["sleep", "1000"], close_fds=False) as instance:
        lock.__exit__(None, None, None)
        with StateLock(tmp_path):
            instance.kill()


def test_a_holder_that_has_not_written_its_name_yet_is_still_a_holder(tmp_path: Path) -> None:
    with StateLock(tmp_path):
        (tmp_path / "lock").write_text("")
        with pytest.raises(errors.Refused, match="another daemon that has just started"), StateLock(tmp_path):
            pass


def test_nobody_else_may_look_inside(tmp_path: Path) -> None:
    with StateLock(tmp_path / "home"):
        assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
