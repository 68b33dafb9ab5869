"""Plugins in separate processes: used by the daemon, killed, replaced, supervised."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.journeys.operator import Operator, cattle, pets

pytestmark = pytest.mark.slow


def wait_until_running(operator: Operator, name: str) -> None:
    operator.until(lambda: operator.plugins().get(name) == "running", f"{name} answers")


def test_a_daemon_uses_running_plugins_and_hosts_the_others(operator: Operator) -> None:
    operator.run_in_background("plugin", "start", "simulator", "--name", "cloud")
    wait_until_running(operator, "cloud")
    operator.up(cattle("far", 2, plugin="cloud"), cattle("near", 1))
    operator.converged()
    listed = operator("plugin", "ls")
    assert re.search(r"^cloud +running +Instance/0\.6\.1", listed, re.MULTILINE)
    assert re.search(r"^group +running +.*Manager/", listed, re.MULTILINE)
    assert re.search(r"^vanilla +available +Flavor", listed, re.MULTILINE)
    assert len(operator.processes()) == 1


def test_a_killed_provider_loses_no_instance_and_is_used_again_after_a_restart(operator: Operator) -> None:
    provider = operator.run_in_background("plugin", "start", "local", "vanilla")
    wait_until_running(operator, "local")
    operator.up(pets("db", "a b"), cattle("web", 2))
    operator.converged()
    before = {p.pid for p in operator.processes()}
    assert len(before) == 4
    provider.send_signal(signal.SIGKILL)
    provider.wait(60)
    operator.until(lambda: operator.group("web")["Phase"] == "unknown", "the failure is detected")
    assert "no decision" in operator("status", exits=2)
    assert operator.plugins()["local"] == "unreachable"
    operator.run_in_background("plugin", "start", "local", "vanilla")
    operator.converged()
    assert {p.pid for p in operator.processes()} == before
    operator("plugin", "stop", "local")
    operator.until(lambda: operator.plugins()["vanilla"] == "available", "both have stopped")


def test_a_declared_group_waits_for_its_plugin(operator: Operator) -> None:
    provider = operator.run_in_background("plugin", "start", "simulator:cloud")
    wait_until_running(operator, "cloud")
    operator.up(cattle("far", 2, plugin="cloud"), cattle("near", 1))
    operator.converged()
    operator.end_daemon()
    provider.terminate()
    assert provider.wait(60) == 0
    assert "cloud" not in operator.plugins()
    operator.up(cattle("near", 1))
    operator.until(lambda: operator.group("near")["Converged"], "the other group is reconciled")
    status = operator("status", exits=2)
    assert "unmanaged" in status
    assert "there is no plugin 'cloud'" in status
    assert "there is no plugin 'cloud'" in operator("why", "far", exits=2)
    assert 'found "cloud", but there is no instance plugin' in operator.commit(
        cattle("far", 2, plugin="cloud"), exits=1
    )
    operator.run_in_background("plugin", "start", "simulator:cloud")
    # The simulated provider has forgotten its instances: as with wrong credentials, all members have vanished at once.
    operator.until(lambda: "infrakit group resume far" in operator("status", exits=2), "the operator is asked")
    operator("group", "resume", "far")
    operator.converged()


def test_a_supervised_plugin_is_restarted(operator: Operator) -> None:
    supervisor = operator.run_in_background("plugin", "start", "--supervise", "vanilla", "simulator:cloud")
    wait_until_running(operator, "cloud")
    pid = int((operator.home / "home" / "plugins" / "cloud.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    wait_until_running(operator, "cloud")
    operator.until(
        lambda: "killed by SIGKILL; restarting in" in (operator.home / "background.log").read_text(),
        "the restart is logged",
    )
    wait_until_running(operator, "cloud")
    supervisor.terminate()
    assert supervisor.wait(60) == 0
    assert "cloud" not in operator.plugins()
    assert operator.plugins()["vanilla"] == "available"


def test_a_plugin_that_cannot_be_started_is_reported(operator: Operator) -> None:
    assert "no package offers a plugin 'vanila'; did you mean vanilla?" in operator(
        "plugin", "start", "vanila", exits=1
    )
    assert "names no plugin that can be served" in operator("plugin", "start", "vanilla:a/b", exits=1)
    assert "no plugin vanilla runs here" in operator("plugin", "stop", "vanilla", exits=1)
    operator.run_in_background("plugin", "start", "vanilla")
    wait_until_running(operator, "vanilla")
    assert "another process listens at" in operator("plugin", "start", "vanilla", exits=2)


def test_a_plugin_is_checked_from_the_command_line(operator: Operator) -> None:
    operator.run_in_background("plugin", "start", "file", "vanilla")
    wait_until_running(operator, "file")
    output = operator("plugin", "check", "file")
    assert "passed   instance/describe-after-provision" in output
    assert " 0 failed, 0 skipped; capabilities: " in output
    assert (
        "large-id, tokens, any-text, capable, inspects, identified; without: watches, logs, tails, volumes, keeps"
        in output
    )
    socket = str(operator.home / "home" / "plugins" / "vanilla")
    (operator.home / "wrong.yaml").write_text("{Inti: x}")
    refused = operator("plugin", "check", socket, "--kind", "flavor", "--properties", "wrong.yaml", exits=2)
    assert "failed   flavor/validate" in refused
    assert "unknown field" in refused
    assert '"Verdict": "failed"' in operator(
        "plugin", "check", "vanilla", "--properties", "wrong.yaml", "-o", "json", exits=2
    )
    assert "<testsuite " in operator("plugin", "check", "vanilla", "-o", "junit")
    assert "no plugin nope runs here" in operator("plugin", "check", "nope", exits=1)


@pytest.mark.skipif(shutil.which("node") is None, reason="install Node.js: apt-get install nodejs")
def test_a_group_runs_on_a_plugin_in_another_language(operator: Operator) -> None:
    (operator.home / "home" / "plugins").mkdir(parents=True, mode=0o700)
    script = Path(__file__).parents[2] / "examples/node/plugin.js"
    socket, data = operator.home / "home" / "plugins" / "shelf", operator.home / "data"
    operator.run_program_in_background("node", str(script), str(socket), str(data))
    wait_until_running(operator, "shelf")
    operator.up(cattle("web", 3, plugin="shelf"), pets("db", "a", plugin="shelf"))
    operator.converged()
    assert len(list(data.iterdir())) == 4
    operator("group", "scale", "web", "2", "-m", "less", "--wait", "120s")
    assert len(list(data.iterdir())) == 3
    operator("down", "--yes")
    assert list(data.iterdir()) == []
