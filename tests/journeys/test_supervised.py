"""A daemon without systemd: `infrakit up --supervise` restarts one that hangs or crashes, and leaves nothing behind."""

import signal
import subprocess

import psutil
import pytest

from tests.journeys.operator import Operator, cattle

TIMEOUT = "10s"  # long enough for a daemon that starts on a busy machine
DEADLINE_S = 60.0


@pytest.fixture
def supervisor(operator: Operator) -> subprocess.Popen[str]:
    """A supervisor whose daemon has converged."""
    operator.up_supervised(TIMEOUT)
    operator.commit(cattle("web", 2))
    assert operator.daemon is not None
    return operator.daemon


def daemon_of(supervisor: subprocess.Popen[str]) -> psutil.Process:
    (daemon,) = psutil.Process(supervisor.pid).children()
    return daemon


def test_a_daemon_that_hangs_is_killed_and_restarted_and_heals(
    operator: Operator, supervisor: subprocess.Popen[str]
) -> None:
    hung = daemon_of(supervisor)
    assert operator.ask_status()["Pid"] == hung.pid
    hung.suspend()
    operator.processes()[0].kill()
    hung.wait(DEADLINE_S)
    operator.until(lambda: operator.answers() and operator.group("web")["Converged"], "it has healed")
    assert operator.ask_status()["Pid"] == daemon_of(supervisor).pid != hung.pid
    assert len(operator.processes()) == 2
    assert "made no progress for 10 s: it is killed" in operator.daemon_output()


def test_a_daemon_that_crashes_is_restarted(operator: Operator, supervisor: subprocess.Popen[str]) -> None:
    crashed = daemon_of(supervisor)
    before = {process.pid for process in operator.processes()}
    crashed.kill()
    crashed.wait(DEADLINE_S)
    operator.until(lambda: operator.answers() and operator.group("web")["Converged"], "another has taken over")
    assert daemon_of(supervisor).pid != crashed.pid
    assert {process.pid for process in operator.processes()} == before


@pytest.mark.parametrize("is_hung", [False, True])
def test_a_supervisor_that_is_stopped_ends_its_daemon(
    operator: Operator, supervisor: subprocess.Popen[str], is_hung: bool
) -> None:
    daemon = daemon_of(supervisor)
    if is_hung:
        daemon.suspend()
    assert operator.end_daemon(signal.SIGTERM) == 0
    assert not daemon.is_running()
    assert len(operator.processes()) == 2  # instances outlive the daemon


def test_a_supervisor_that_is_killed_ends_its_daemon(operator: Operator, supervisor: subprocess.Popen[str]) -> None:
    daemon = daemon_of(supervisor)
    operator.end_daemon(signal.SIGKILL)
    daemon.wait(DEADLINE_S)


def test_a_supervisor_ends_when_its_daemon_is_stopped(operator: Operator, supervisor: subprocess.Popen[str]) -> None:
    operator("down", "--yes")
    assert supervisor.wait(DEADLINE_S) == 0
    assert not operator.processes()


def test_a_file_is_refused_because_a_restart_would_commit_it_again(operator: Operator) -> None:
    document = operator.write(cattle("web", 1))
    assert "each restart would commit it again" in operator("up", document, "--supervise=5s", exits=1)


def test_a_daemon_that_is_refused_is_not_restarted(operator: Operator, supervisor: subprocess.Popen[str]) -> None:
    refused = operator("up", "--supervise=5s", exits=2)
    assert "is in use by the daemon with pid" in refused
    assert "it is not restarted" in refused
    assert supervisor.poll() is None
