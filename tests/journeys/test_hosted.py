"""A self-hosted etcd cluster, bootstrapped, watched, changed and destroyed from outside with one command each.

Its replicas listen at unix sockets in one directory, as containers that share a directory do; with TCP it is the same.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.etcd.members import address, needs_etcd
from tests.integration.flavor_etcd.machines import QUICK
from tests.journeys.operator import Operator, cattle
from tests.journeys.replicas import answers

pytestmark = [needs_etcd, pytest.mark.slow]


class Hosted(Operator):
    """An operator outside; the machines of the cluster are processes of the provider in the operator's home."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses = [address() for _ in range(3)]
        program = self.home / "infrakit"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m infrakit "$@"\n')
        program.chmod(0o700)
        self.environment["PATH"] = f"{self.home}:{os.environ['PATH']}"
        (self.home / "cluster").mkdir()
        self.declare(cattle("web", 1))
        self.views: list[subprocess.Popen[str]] = []

    @property
    def etcd(self) -> dict[str, Any]:
        store = f"etcd://{','.join(f'{each}:2379' for each in self.addresses)}/infrakit"
        run = f"""\
export INFRAKIT_HOME="$INFRAKIT_VOLUME/infrakit" INFRAKIT_NAME="$INFRAKIT_LOGICAL_ID" INFRAKIT_STORE={store}
export INFRAKIT_GROUP_SELF_LOGICAL_ID="$INFRAKIT_LOGICAL_ID" INFRAKIT_LEADERSHIP="etcd://$INFRAKIT_LOGICAL_ID:2379"
export INFRAKIT_PLUGINS_DIR={self.home}/r/"$INFRAKIT_LOGICAL_ID"
mkdir -p "$INFRAKIT_HOME"
ln -sfn "${{INFRAKIT_DIRECTORY%/instances/*}}" "$INFRAKIT_HOME/local"
exec infrakit up --advertise unix://"$INFRAKIT_PLUGINS_DIR"/group
"""
        properties = {
            "Allocation": {"LogicalIDs": self.addresses},
            "Instance": {"Plugin": "local"},
            "Healing": {"BootGrace": "20s", "UnhealthyAfter": "5s", "Backoff": "500ms"},
            "Flavor": {
                "Plugin": "etcd",
                "Properties": {"ExtraArgs": QUICK, "Run": run, "Replica": f"unix://{self.home}/r/{{LogicalID}}/group"},
            },
        }
        return {"kind": "group", "metadata": {"name": "etcd"}, "properties": properties}

    def declare(self, *others: dict[str, Any]) -> None:
        (self.home / "cluster" / "infrakit.yaml").write_text(json.dumps([self.etcd, *others], indent=1))

    def view(self, *words: str) -> Path:
        """Start `infrakit up`, and return the file of its output."""
        output = self.home / f"view{len(self.views)}.log"
        with output.open("w") as log:
            self.views.append(
                self.start(
                    *("up", *(words or ("cluster",))), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                )
            )
        return output

    def wait_for_output(self, output: Path, words: str, *, times: int = 1) -> None:
        try:
            self.until(lambda: output.read_text().count(words) >= times, repr(words))
        except AssertionError as error:
            raise AssertionError(f"{error} in:\n{output.read_text()}") from None

    def use_replica(self, address: str) -> None:
        """Send commands to the replica on that machine from now on; wait until it answers."""
        self.environment["INFRAKIT_HOST"] = f"unix://{self.home}/r/{address}/group"
        self.until(lambda: answers(self), f"the replica on {address} answers")

    def replicas(self) -> dict[str, psutil.Process]:
        """The processes of the replicas, by address."""
        found = {}
        for process in psutil.process_iter():
            try:
                given, words = process.environ(), process.cmdline()
            except psutil.Error:
                continue
            if str(self.home) in given.get("INFRAKIT_PLUGINS_DIR", "") and "infrakit" in words:
                found[given["INFRAKIT_LOGICAL_ID"]] = process
        return found

    def instances(self) -> dict[str, str]:
        """The instance ID by slot, of all groups."""
        return {each["Slot"]: each["ID"] for each in self.ask("instance", "ls")}

    def close(self) -> None:
        for view in self.views:
            if view.poll() is None:
                view.kill()
            view.wait(60)
        self.kill_all()
        super().close()

    def kill_all(self) -> None:
        """Kill all processes of the provider; suspend them first, so that none creates another meanwhile."""
        while found := self.all_processes():
            self.signal(signal.SIGSTOP)
            self.signal(signal.SIGKILL)
            psutil.wait_procs(found, timeout=5)

    def signal(self, number: signal.Signals) -> None:
        for each in self.all_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    def all_processes(self) -> list[psutil.Process]:
        found, mark = [], f"{self.home}/home/local/"
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("INFRAKIT_DIRECTORY", "").startswith(mark)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def hosted() -> Iterator[Hosted]:
    hosted = Hosted()
    try:
        yield hosted
    finally:
        hosted.close()


def test_one_command_bootstraps_the_cluster_and_another_destroys_it(hosted: Hosted) -> None:
    first = hosted.view()
    second = hosted.view()  # concurrently
    for output in (first, second):
        hosted.wait_for_output(output, "Bringing up cluster/infrakit.yaml")
    created = sum(output.read_text().count("the first of its group") for output in (first, second))
    committed = sum(
        output.read_text().count("Committed cluster/infrakit.yaml: declaration 1.") for output in (first, second)
    )
    assert (created, committed) == (1, 1), "two concurrent commands have the effect of one"
    hosted.wait_for_output(first, "converged      etcd: all 3")
    hosted.wait_for_output(first, "converged      web: all 1")
    for each in hosted.addresses[1:]:
        assert f" creating       etcd/{each}: " in first.read_text(), "the first replica created the others"

    hosted.use_replica(hosted.addresses[1])  # each replica reports it, from the leader's socket
    hosted.converged()
    before = hosted.instances()
    view = hosted.views.pop(0)
    view.send_signal(signal.SIGINT)
    assert view.wait(60) == 0
    assert "The cluster continues on its own: 3 of etcd, 1 of web." in first.read_text()
    assert "infrakit down cluster    destroys it" in first.read_text()

    _loses_the_replica_of_the_view(hosted, second)
    hosted.converged()
    hosted.declare(cattle("web", 2))
    third = hosted.view()
    hosted.wait_for_output(third, "Bringing up")
    assert "Committed cluster/infrakit.yaml: declaration " in third.read_text()
    hosted.converged()
    assert before["1"] in hosted.instances().values()
    assert len(hosted.instances()) == 5
    _is_destroyed(hosted)


def _loses_the_replica_of_the_view(hosted: Hosted, output: Path) -> None:
    """The replica of the view is not known from outside: kill each in turn, until the view reports the loss."""
    for number, each in enumerate(hosted.addresses):
        hosted.use_replica(hosted.addresses[number - 1])
        hosted.replicas()[each].kill()  # the boot script starts another
        hosted("halt", "web", "-m", f"look {number}")
        hosted.wait_for_output(output, f"web is halted by ann: look {number}")  # it has polled since then
        message = f"the replica at unix://{hosted.home}/r/{each}/group stopped answering"
        hosted.until(lambda: len(hosted.replicas()) == 3, "the replica is restarted")
        if message in output.read_text():
            break
    else:
        raise AssertionError(f"the view reported no loss:\n{output.read_text()}")
    assert output.read_text().count(message) == 1
    assert hosted.views[0].poll() is None, "the view continues"
    hosted("unhalt", "web")


def _is_destroyed(hosted: Hosted) -> None:
    del hosted.environment["INFRAKIT_HOST"]
    assert "not confirmed: standard input is not a terminal" in hosted("down", "cluster", exits=2)
    elsewhere = hosted.environment | {"INFRAKIT_HOME": str(hosted.home / "elsewhere")}
    here, hosted.environment = hosted.environment, elsewhere
    assert "the provider lists no machine of etcd" in hosted("down", "cluster", "--yes", exits=2)
    hosted.environment = here
    whole = (hosted.home / "cluster" / "infrakit.yaml").read_text()
    hosted.declare()
    assert "the cluster declares group web, which FILE omits" in hosted("down", "cluster", "--yes", exits=2)
    (hosted.home / "cluster" / "infrakit.yaml").write_text(whole)
    output = hosted("down", "cluster", "--yes").splitlines()
    assert output[:5] == [
        "halted: no replica of the cluster acts any more",
        "destroying web: 2 instances",
        "web is destroyed",
        "destroying etcd: 3 instances",
        "etcd is destroyed",
    ]
    assert hosted.all_processes() == []
    assert "no instances of this cluster exist" in hosted("down", "cluster", "--yes")
    assert "recover the earlier cluster: infrakit bootstrap --recover" in hosted("up", "cluster", exits=2)


def test_a_cluster_is_recovered_from_its_volumes_and_stays_halted_until_unhalt(hosted: Hosted) -> None:
    hosted.declare()
    output = hosted.view()
    hosted.wait_for_output(output, "converged      etcd: all 3")
    hosted("down", "cluster", "--yes")
    hosted.wait_for_output(output, "no replica reports a status")
    hosted("bootstrap", "cluster", "--recover")
    hosted.wait_for_output(output, "everything is halted by ann: down cluster/infrakit.yaml; lift it: infrakit unhalt")
    hosted.use_replica(hosted.addresses[0])
    hosted("unhalt")
    hosted.converged()
    hosted.use_replica(hosted.addresses[2])
    del hosted.environment["INFRAKIT_HOST"]
    _is_not_destroyed_while_no_replica_can_be_halted(hosted)
    assert not list((hosted.home / "home" / "local" / "volumes").iterdir())


def _is_not_destroyed_while_no_replica_can_be_halted(hosted: Hosted) -> None:
    hosted.signal(signal.SIGSTOP)
    output = hosted("down", "cluster", "--yes", exits=2)
    hosted.signal(signal.SIGCONT)
    assert "no replica answers, and machines exist" in output
    assert "if you know that none of them acts: --without-halt" in output
    assert len(hosted.replicas()) == 3
    hosted.kill_all()
    output = hosted("down", "cluster", "--yes", "--volumes", "--without-halt")
    assert "is deleted" in output


def test_an_invalid_file_starts_nothing_and_an_interrupted_bootstrap_can_be_continued(hosted: Hosted) -> None:
    path = hosted.home / "cluster" / "infrakit.yaml"
    whole = path.read_text()
    path.write_text(whole.replace("LogicalIDs", "LogicalIds"))
    assert 'did you mean "LogicalIDs"?' in hosted("up", "cluster", exits=1)
    path.unlink()
    assert "cluster/infrakit.yaml" in hosted("up", "cluster", exits=1)
    path.write_text(whole)
    assert "none is started here" in hosted("up", "cluster", "--listen", "127.0.0.1:0", exits=1)
    assert hosted.all_processes() == []

    output = hosted.view()
    hosted.wait_for_output(output, "is created, the first of its group")
    hosted.views[-1].send_signal(signal.SIGINT)
    assert hosted.views[-1].wait(60) in (0, 130)
    again = hosted.view()
    hosted.wait_for_output(again, "converged      etcd: all 3")
    assert "is created" not in again.read_text()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give a socket to another user")
def test_another_user_is_refused_access_to_the_sockets(hosted: Hosted) -> None:
    hosted.declare()
    hosted.wait_for_output(hosted.view(), "Bringing up")
    place = hosted.home / "r" / hosted.addresses[0]
    for path in (place, place / "group"):
        shutil.chown(path, 65534)
    caps = "--bounding-set=-dac_override,-dac_read_search"  # root without the permission to open every file

    def run_unprivileged(*words: str, exits: int = 2, **more: str) -> str:
        command = ["setpriv", caps, sys.executable, "-m", "infrakit", *words]
        environment = hosted.environment | more
        done = subprocess.run(
            command, cwd=hosted.home, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == exits, done.stderr
        return done.stderr

    for words in (["up", "cluster"], ["down", "cluster", "--yes"], ["bootstrap", "cluster"]):
        output = run_unprivileged(*words)
        assert "permission denied: whether a replica answers there" in output
        assert "run the command as the owner of the socket, or with sudo" in output
    assert "run the command as that user, or with sudo" in run_unprivileged(
        "status", exits=3, INFRAKIT_HOST=f"unix://{place}/group"
    )
