"""The life cycle of an instance of `local`: a real process, its environment, its log and its volumes."""

import asyncio
import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from infrakit.instances.local import Local
from infrakit.spi import errors, instance
from infrakit.spi.values import Attachment, InstanceID, State
from tests.unit.instances.local_world import (
    RUNS_FOREVER,
    destroy,
    facts,
    is_alive,
    listed,
    spec,
    until,
    until_gone,
    until_written,
    wait_for_exit,
)

REPORT_ENVIRONMENT = """#!/usr/bin/env python3
import json, os, sys, time
with open("report.new", "w") as file:
    json.dump({"environment": dict(os.environ), "arguments": sys.argv, "directory": os.getcwd(),
               "session": os.getsid(0), "group": os.getpgid(0)}, file)
os.rename("report.new", "report")
time.sleep(1000)
"""


async def test_local_satisfies_the_protocols_of_an_instance_plugin(local: Local) -> None:
    protocols = (
        instance.Instance,
        instance.Capable,
        instance.Inspects,
        instance.Watches,
        instance.Logs,
        instance.Volumes,
        instance.Keeps,
    )
    assert all(isinstance(local, each) for each in protocols)
    assert await local.capabilities() == instance.Capabilities(listing_lag_s=0.0, tokens=True)


async def test_init_finds_its_identity_and_environment(
    local: Local, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAEMON_SECRET", "hidden")
    tags = {"infrakit.group": "web", "infrakit.slot": "3", "infrakit.port": "8103"}
    created = await local.provision(
        spec=spec(
            REPORT_ENVIRONMENT,
            logical_id="10.0.0.7",
            volumes=("data-1", "log/2"),
            tags=tags,
            Environment={"COLOUR": "blue"},
        )
    )
    place = home / "instances" / created
    report = json.loads(await until_written(place / "work" / "report", "session"))
    found = report["environment"]
    assert found["INFRAKIT_INSTANCE_ID"] == created
    assert found["INFRAKIT_LOGICAL_ID"] == "10.0.0.7"
    assert (found["INFRAKIT_GROUP"], found["INFRAKIT_SEQUENCE"]) == ("web", "3")
    assert found["INFRAKIT_TAG_INFRAKIT_PORT"] == "8103"
    assert json.loads(found["INFRAKIT_TAGS"]) == tags
    assert [each["ID"] for each in json.loads(found["INFRAKIT_ATTACHMENTS"])] == ["data-1", "log/2"]
    assert found["INFRAKIT_VOLUME_DATA_1"] == str(home / "volumes" / "data-1")
    assert Path(found["INFRAKIT_VOLUME_LOG_2"]).parent == home / "volumes"
    assert "INFRAKIT_VOLUME" not in found  # there are two
    assert found["COLOUR"] == "blue"
    assert "DAEMON_SECRET" not in found
    assert report["directory"] == str(place / "work")
    assert report["arguments"] == [str(place / "init")]
    known = await facts(local, created)
    assert report["session"] == report["group"] == known["PID"] == known["PGID"] != os.getsid(0)


@pytest.mark.parametrize(
    "init",
    [
        "echo $0 ran >>out; exec sleep 1000",
        "#!/bin/sh -e\nfalse || echo ran >>out\nexec sleep 1000",
        "#! /usr/bin/env python3\nimport time; open('out', 'w').write('ran\\n'); time.sleep(1000)",
        "#!/bin/sh\r\necho ran >>out;exec sleep 1000",
    ],
    ids=["none", "argument", "env", "carriage-return"],
)
async def test_init_runs_with_any_interpreter(local: Local, home: Path, init: str) -> None:
    created = await local.provision(spec=spec(init))
    assert "ran\n" in await until_written(home / "instances" / created / "work" / "out")


async def test_working_files_and_limits(local: Local, home: Path) -> None:
    files = {"conf/app.ini": "[a]\n", "run.sh": "#!/bin/sh\nulimit -n >limit\nexec sleep 1000\n"}
    created = await local.provision(spec=spec("exec ./run.sh", Files=files, Limits={"OpenFiles": 77}))
    work = home / "instances" / created / "work"
    assert await until_written(work / "limit") == "77\n"
    assert (work / "conf" / "app.ini").read_text() == "[a]\n"


async def test_a_limit_above_the_users_own_is_refused_and_creates_nothing(local: Local, home: Path) -> None:
    with pytest.raises(errors.Refused, match="open_files"):
        await local.provision(spec=spec(logical_id="a", Limits={"OpenFiles": 2**30}))
    assert await listed(local) == {}
    assert list((home / "instances").iterdir()) == []
    assert await local.provision(spec=spec(logical_id="a"))


async def test_a_terminated_instance_is_not_listed_and_its_log_and_volume_stay(local: Local, home: Path) -> None:
    created = await local.provision(
        spec=spec('echo hello; echo kept >"$INFRAKIT_VOLUME/file"; exec sleep 1000', volumes=("v",), logical_id="a")
    )
    await until_written(home / "volumes" / "v" / "file")
    os.killpg((await facts(local, created))["PID"], signal.SIGKILL)
    await until_gone(local, created)
    assert await local.inspect(instance=created) is None
    assert "hello" in await local.logs(instance=created, lines=10)
    again = await local.provision(spec=spec(volumes=("v",), logical_id="a"))
    assert again != created
    assert (home / "volumes" / "v" / "file").read_text() == "kept\n"


async def test_an_instance_whose_process_was_killed_is_never_listed_as_running(local: Local) -> None:
    created = await local.provision(spec=spec())
    await listed(local)
    pid = (await facts(local, created))["PID"]
    os.killpg(pid, signal.SIGKILL)
    wait_for_exit(pid)
    seen = (await listed(local)).get(created)
    assert seen is None or seen.state is State.STOPPING  # the kernel may still be killing the rest of the group
    await until_gone(local, created)


@pytest.mark.parametrize(("code", "present"), [(0, True), (3, True), (1, False), (143, False)])
async def test_success_codes_mean_finished(local: Local, home: Path, code: int, present: bool) -> None:
    created = await local.provision(spec=spec(f"exit {code}", logical_id="job", SuccessCodes=[0, 3]))

    async def ended() -> bool:
        found = (await listed(local)).get(created)
        return found is None or found.state is State.FINISHED

    await until(ended)
    assert (created in await listed(local)) is present
    assert (await local.inspect(instance=created) is not None) is present
    if present:
        assert (await facts(local, created))["ExitCode"] == code
        with pytest.raises(errors.Conflict, match=created):
            await local.provision(spec=spec(logical_id="job"))
        await destroy(local, created)
    assert await listed(local) == {}
    assert await local.provision(spec=spec(logical_id="job"))


async def test_without_success_codes_every_exit_terminates_the_instance(local: Local) -> None:
    created = await local.provision(spec=spec("exit 0"))
    await until_gone(local, created)


async def test_descriptions_stay_the_same_object_until_something_changes(local: Local) -> None:
    created = await local.provision(spec=spec(tags={"a": "1"}))
    other = await local.provision(spec=spec(tags={"a": "2"}))
    first, second = await listed(local), await listed(local)
    assert all(first[each] is second[each] for each in (created, other))
    assert first[created].state is State.RUNNING
    await local.label(instance=created, labels={"a": "3", "b": "4"})
    third = await listed(local)
    assert third[created].tags == {"a": "3", "b": "4"}
    assert third[other] is first[other]
    assert list(await listed(local, a="3")) == [created]
    assert await listed(local, a="1") == {}


async def test_destroy_terminates_releases_and_is_idempotent(local: Local, home: Path) -> None:
    created = await local.provision(spec=spec(logical_id="a", volumes=("v",)))
    pid = (await facts(local, created))["PID"]
    await asyncio.gather(*(destroy(local, created) for _ in range(3)))
    assert not is_alive(pid)
    assert await listed(local) == {}
    assert (home / "volumes" / "v").is_dir()
    await destroy(local, created)
    assert await local.inspect(instance=created) is None
    await local.provision(spec=spec(logical_id="a", volumes=("v",)))


@pytest.mark.parametrize("unknown", ["i-000000000000", "../../etc", "", "lock", "i-00000000000\n"])
async def test_an_unknown_instance_is_not_found(local: Local, unknown: str) -> None:
    assert await local.inspect(instance=InstanceID(unknown)) is None
    with pytest.raises(errors.NotFound):
        await destroy(local, unknown)
    with pytest.raises(errors.NotFound):
        await local.label(instance=InstanceID(unknown), labels={})
    with pytest.raises(errors.NotFound):
        await local.logs(instance=InstanceID(unknown), lines=1)


async def test_logs_are_the_last_lines(local: Local, home: Path) -> None:
    created = await local.provision(spec=spec("seq 1 100000; echo done >mark; exec sleep 1000"))
    await until_written(home / "instances" / created / "work" / "mark")
    assert await local.logs(instance=created, lines=3) == "99998\n99999\n100000\n"
    assert await local.logs(instance=created, lines=0) == ""
    assert (await local.logs(instance=created, lines=10**6)).startswith("1\n2\n")


async def test_a_log_is_followed_line_by_line_to_its_end(local: Local, home: Path) -> None:
    created = await local.provision(spec=spec("echo one; echo two; echo three; printf half; exec sleep 1000"))
    log = home / "instances" / created / "log"
    await until_written(log, "half")
    first = await local.tail(instance=created, lines=2)
    assert (first.text, first.ended) == ("three\nhalf", False)
    with log.open("a") as more:
        more.write(" a line\nfive\nsi")
    second = await local.tail(instance=created, after=first.position)
    assert (second.text, second.ended) == (" a line\nfive\n", False)  # an incomplete line is returned later
    third = await local.tail(instance=created, after=second.position)
    assert (third.text, third.position, third.ended) == ("", second.position, False)
    log.write_text("anew\n")
    assert (await local.tail(instance=created, after=third.position)).text == "anew\n"
    with log.open("a") as more:
        more.write("last words")
    await destroy(local, created)

    await until_gone(local, created)

    async def collected() -> bool:
        return "last words" in (await local.tail(instance=created, after=len("anew\n"))).text

    await until(collected)
    last = await local.tail(instance=created, after=len("anew\n"))
    assert last.ended is False  # until no more text follows
    end = await local.tail(instance=created, after=last.position)
    assert (end.text, end.ended) == ("", True)
    with pytest.raises(errors.NotFound):
        await local.tail(instance=InstanceID("i-000000000000"))


@pytest.mark.parametrize(
    ("end", "hint"),
    [
        ("exit 7", "exited with code 7"),
        ("kill -9 $$", "exited with code 137 (SIGKILL)"),
        ("exit 255", "exited with code 255"),
        (
            "echo up; echo 'no \033[31mdatabase\007 at db' >&2; echo; exit 7",
            'exited with code 7; its log ends "no database at db"',
        ),
        ("echo up; kill -9 $$", "exited with code 137 (SIGKILL)"),
        ("echo up; exit 0", "exited with code 0"),
        ("rm ../log; mkfifo ../log; exit 7", "exited with code 7"),
        ("head -c 100000 /dev/zero | tr '\\0' x; exit 7", f'exited with code 7; its log ends "{"x" * 199}…"'),
    ],
)
async def test_watch_hints_at_an_exit(local: Local, end: str, hint: str) -> None:
    created = await local.provision(spec=spec(f"sleep 0.1; {end}"))
    hints = aiter(local.watch())
    async with asyncio.timeout(30):
        assert await anext(hints) == f"{created} {hint}"


async def test_an_exit_before_the_first_listing_is_reported_too(local: Local, home: Path) -> None:
    created = await local.provision(spec=spec("exit 3"))
    hints = aiter(local.watch())
    await until_written(home / "instances" / created / "exit")
    async with asyncio.timeout(30):
        assert await anext(hints) == f"{created} exited with code 3"


@pytest.mark.parametrize("init", ["", " \n", "a\0b"])
async def test_an_empty_or_invalid_init_is_refused(local: Local, init: str) -> None:
    with pytest.raises(errors.Refused):
        await local.provision(spec=spec(init))


async def test_other_attachments_are_refused(local: Local) -> None:
    wanted = spec()
    eni = Attachment(id="eni-1", type="eni")
    with pytest.raises(errors.Refused, match="eni-1"):
        await local.provision(spec=type(wanted)(init=RUNS_FOREVER, attachments=(eni,)))
    with pytest.raises(errors.Refused):
        await local.delete_attachment(attachment=eni)


async def test_a_volume_is_deleted_only_when_no_instance_holds_it(local: Local, home: Path) -> None:
    volume = Attachment(id="v", type="volume")
    created = await local.provision(spec=spec(volumes=("v",)))
    with pytest.raises(errors.Conflict, match=created):
        await local.delete_attachment(attachment=volume)
    await destroy(local, created)
    (home / "volumes" / "v" / "file").write_text("x")
    await local.delete_attachment(attachment=volume)
    await local.delete_attachment(attachment=volume)
    assert list((home / "volumes").iterdir()) == []


async def test_existing_volumes_are_reported_with_any_holder(local: Local, home: Path) -> None:
    names = ("v", "log/2", "x" * 300, "other")
    created = await local.provision(spec=spec(volumes=names[:3]))
    asked = [*(Attachment(id=name, type="volume") for name in names), Attachment(id="v", type="eni")]
    assert await local.existing(attachments=asked) == asked[:3]
    await destroy(local, created)
    assert await local.existing(attachments=asked) == asked[:3]
    await local.delete_attachment(attachment=asked[1])
    (home / "volumes" / "other").symlink_to(home / "not-mounted")
    assert await local.existing(attachments=asked) == [asked[0], asked[2], asked[3]]


async def test_instances_do_not_inherit_descriptors_of_the_daemon(
    open_local: Callable[[], Local], home: Path, tmp_path: Path
) -> None:
    """A daemon in an instance holds its locks; instances that inherit them would hold its logical ID and volume."""
    inherited = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    try:
        os.set_inheritable(inherited, True)
        local = open_local()
        created = await local.provision(spec=spec("ls -l /proc/self/fd >all; mv all open; exec sleep 1000"))
        opened = await until_written(home / "instances" / created / "work" / "open")
    finally:
        os.close(inherited)
    assert str(home / "instances" / created / "log") in opened
    assert str(tmp_path / "lock") not in opened


async def test_a_directory_is_the_same_by_any_path(local: Local, tmp_path: Path, home: Path) -> None:
    created = await local.provision(spec=spec(logical_id="a"))
    (tmp_path / "alias").symlink_to(home)
    other = Local(tmp_path / "alias")
    try:
        assert (await facts(other, created))["Directory"] == (await facts(local, created))["Directory"]
        second = await other.provision(spec=spec("exec sleep 1000 & exit 1"))
        await until_gone(local, second)
    finally:
        await other.close()


async def test_an_instance_in_a_missing_home_has_not_terminated(local: Local, home: Path) -> None:
    created = await local.provision(spec=spec(f"echo up >up; {RUNS_FOREVER}"))
    await until_written(home / "instances" / created / "work" / "up")  # the shell has read its script
    (home / "instances").rename(home / "unmounted")
    with pytest.raises(errors.PluginError, match="is missing"):
        await local.inspect(instance=created)
    (home / "unmounted").rename(home / "instances")
    assert await local.inspect(instance=created) is not None


async def test_an_instance_in_a_directory_without_permission_has_not_terminated(
    local: Local, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = await local.provision(spec=spec())
    known, place = os.stat, home / "instances" / created

    def forbidden(path: str | Path, **options: bool) -> os.stat_result:
        if str(path).startswith(str(place)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return known(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", forbidden)
        patch.setattr(Path, "exists", lambda path, **_options: os.path.exists(path))  # noqa: PTH110 - as in Python 3.14
        with pytest.raises(PermissionError):
            await local.inspect(instance=created)
    assert await local.inspect(instance=created) is not None
