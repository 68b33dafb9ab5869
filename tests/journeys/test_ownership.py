"""The store is lost, and a new one begins: the instances of the lost one are left alone until they are adopted."""

import shutil

from tests.journeys.operator import Operator, cattle, pets


def test_the_instances_of_a_lost_store_are_adopted_by_name(operator: Operator) -> None:
    operator.up(pets("db", "a b"))
    operator.converged()
    before = {process.pid for process in operator.processes()}
    [name] = operator.ask_status()["Clusters"]
    operator.end_daemon()
    shutil.rmtree(operator.home / "home" / "store")
    (operator.home / "home" / "seen.json").unlink()

    operator.up(pets("db", "a b"))
    operator.until(lambda: operator.group("db")["Waiting"], "the group explains why nothing is created")
    assert {process.pid for process in operator.processes()} == before
    status = " ".join(operator("status", exits=2).split())
    assert f"which belongs to the cluster {name}: no second instance" in status
    assert f"infrakit adopt {name}" in " ".join(operator("why", "db").split())
    events = operator("events", "--group", "db")
    assert events.count("not a member: it carries the group's tag") == 2
    assert "is not a name of a cluster" in operator("adopt", "a/b", "-m", "a slip", exits=1)

    assert f"Adopted the cluster {name}: declaration 2." in operator("adopt", name, "-m", "its store was lost")
    operator.converged()
    assert {process.pid for process in operator.processes()} == before
    assert any("adopt" in line and "its store was lost" in line for line in operator("history").splitlines())

    operator.commit(cattle("web", 1), pets("db", "a b"))
    operator.kill(operator.members("db")["a"]["ID"])
    operator.converged()
    assert len(operator.processes()) == 3
