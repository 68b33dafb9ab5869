"""Operations of the daemon: halts, shutdowns, restarts, freeing and destroying."""

import signal
import time

from tests.journeys.operator import Operator, cattle, pets


def test_a_halt_survives_a_restart_until_it_is_lifted(operator: Operator) -> None:
    operator.up(cattle("web", 2), cattle("x", 1))
    operator.converged()
    operator("halt", "web", "-m", "moving the rack")
    first = operator.members("web")
    operator.kill(first["1"]["ID"])
    assert operator.end_daemon() == 0
    operator.up(cattle("web", 2), cattle("x", 1))
    operator.until(lambda: operator.group("x")["Converged"], "x is reconciled")
    status = operator("status", exits=2)
    assert "HALTED: group web, by ann at " in status
    assert "moving the rack" in status
    assert "halted by ann" in operator("why", "web")
    assert "halted" in operator("group", "ls")
    operator("halt", "-m", "fire drill")
    operator.kill(operator.members("x")["1"]["ID"])
    assert "everything" in operator("status", exits=2)
    operator("unhalt", "web")
    assert len(operator.processes()) == 1  # the halt of everything still holds
    operator("unhalt")
    operator.converged()
    assert len(operator.processes()) == 3
    what = [line.split()[4] for line in operator("history").splitlines()[1:]]
    what = [each for each in what if each != "proven"]  # InfraKit's own
    assert what == ["unhalt", "unhalt", "halt", "halt", "commit"]


def test_ctrl_c_leaves_the_instances_running_and_a_restart_finds_them(operator: Operator) -> None:
    operator.up(cattle("web", 2), pets("db", "a"))
    operator.converged()
    before = {p.pid for p in operator.processes()}
    assert operator.end_daemon(signal.SIGINT) == 0
    assert "The instances keep running without supervision" in operator.daemon_output()
    assert {p.pid for p in operator.processes()} == before
    operator("status", exits=3)
    operator.up(cattle("web", 2), pets("db", "a"))
    operator.converged()
    assert {p.pid for p in operator.processes()} == before


def test_a_killed_daemon_creates_no_duplicates_and_loses_no_instance(operator: Operator) -> None:
    operator.up(cattle("web", 10, in_flight=2), pets("db", "a b"))
    operator.until(operator.processes, "some instances exist")
    operator.end_daemon(signal.SIGKILL)
    operator.up(cattle("web", 10, in_flight=2), pets("db", "a b"))
    operator.converged()
    assert len(operator.processes()) == 12
    before = {p.pid for p in operator.processes()}
    operator("group", "scale", "web", "11", "--wait=30s")
    operator.end_daemon(signal.SIGKILL)
    operator.up(cattle("web", 11, in_flight=2), pets("db", "a b"))
    operator.converged()
    assert {p.pid for p in operator.processes()} > before
    assert len(operator.processes()) == 12 + 1


def test_a_second_daemon_is_refused_with_the_pid_of_the_first(operator: Operator) -> None:
    operator.up(cattle("web", 1))
    assert operator.daemon is not None
    output = operator("up", "doc.json", exits=2)
    assert f"pid {operator.daemon.pid}" in output
    operator.converged()


def test_a_freed_group_keeps_running_and_can_be_managed_again(operator: Operator) -> None:
    operator.up(cattle("web", 2))
    operator.converged()
    before = {p.pid for p in operator.processes()}
    operator("group", "free", "web", "-m", "by hand")
    assert "web" not in operator("group", "ls")
    operator.commit(cattle("web", 3))
    assert {p.pid for p in operator.processes()} > before
    assert len(operator.processes()) == 3


def test_a_destroyed_group_keeps_its_volumes_unless_requested(operator: Operator) -> None:
    keep = 'echo here >>"$INFRAKIT_VOLUME/data"; exec sleep 1000'
    operator.up(pets("db", "a b", init=keep), cattle("web", 1))
    operator.converged()
    operator("group", "destroy", "db", exits=2)  # no terminal to confirm at
    operator("group", "destroy", "db", "--yes", "-m", "retired")
    operator.until(lambda: "db" not in operator("group", "ls"), "the group is destroyed")
    assert len(operator.processes()) == 1
    operator.commit(pets("db", "a b", init=keep))
    volume = next((operator.home / "home").glob("**/db-a"))
    assert (volume / "data").read_text() == "here\nhere\n"
    operator("group", "destroy", "db", "--yes", "--volumes", "-m", "for good")
    operator.until(lambda: "db" not in operator("group", "ls"), "the group is destroyed")
    assert not volume.exists()


def test_a_halt_stops_the_destruction_of_a_group_and_of_its_volumes(operator: Operator) -> None:
    operator.up(pets("db", "a b"))
    operator.converged()
    volumes = sorted((operator.home / "home").glob("**/db-[ab]"))
    assert len(volumes) == 2
    operator("halt", "-m", "the wrong disk")
    assert "until the halt is lifted" in operator("group", "destroy", "db", "--yes", "--volumes")
    ordered_at = time.monotonic()
    operator.until(lambda: operator.group("db")["ObservedAgeS"] < time.monotonic() - ordered_at, "it is observed again")
    assert len(operator.processes()) == 2
    assert all(each.exists() for each in volumes)
    operator("unhalt")
    operator.until(lambda: "db" not in operator("group", "ls"), "the group is destroyed")
    assert not operator.processes()
    assert not any(each.exists() for each in volumes)


def test_down_destroys_everything_and_stops_the_daemon(operator: Operator) -> None:
    operator.up(cattle("web", 2), pets("db", "a"))
    operator.converged()
    operator("down", "--yes", "-m", "weekend")
    assert operator.daemon is not None
    assert operator.daemon.wait(60) == 0
    assert not operator.processes()
    operator("status", exits=3)


def test_a_damaged_store_is_reported_and_nothing_is_started(operator: Operator) -> None:
    operator.up(cattle("web", 1))
    operator.converged()
    operator.end_daemon()
    newest = max((operator.home / "home" / "store" / "declaration").glob("0*"))
    newest.write_bytes(newest.read_bytes()[:-5])
    output = operator("up", "doc.json", exits=2)
    assert f"{newest} is damaged" in output
    assert "restore it from a backup" in output
    assert len(operator.processes()) == 1


def test_events_are_followed_live(operator: Operator) -> None:
    operator.up(cattle("web", 1))
    operator.converged()
    follower, log = operator.run_in_background("events", "--follow", "--group", "web"), operator.home / "background.log"
    operator.until(lambda: _scaled(operator) and "converged" in log.read_text(), "the new events are printed")
    follower.send_signal(signal.SIGINT)
    assert follower.wait(60) in {0, 130}
    assert "created" in log.read_text()


def _scaled(operator: Operator) -> str:
    return operator("group", "scale", "web", str(len(operator.members("web")) % 3 + 1), "--wait=30s")
