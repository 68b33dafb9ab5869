"""The life cycle of an instance of `local`: a real process, its environment, and what remains of it."""

import asyncio
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
    STAYS,
    destroy,
    facts,
    is_alive,
    listed,
    spec,
    until,
    until_gone,
    until_written,
    wait_for_death,
)

TELL_ALL = """#!/usr/bin/env python3
import json, os, sys, time
with open("told.new", "w") as file:
    json.dump({"environment": dict(os.environ), "arguments": sys.argv, "directory": os.getcwd(),
               "session": os.getsid(0), "group": os.getpgid(0)}, file)
os.rename("told.new", "told")
time.sleep(1000)
"""


async def test_satisfies_the_contract(local: Local) -> None:
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
    made = await local.provision(
        spec=spec(
            TELL_ALL, logical_id="10.0.0.7", volumes=("data-1", "log/2"), tags=tags, Environment={"COLOUR": "blue"}
        )
    )
    place = home / "instances" / made
    told = json.loads(await until_written(place / "work" / "told", "session"))
    found = told["environment"]
    assert found["INFRAKIT_INSTANCE_ID"] == made
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
    assert told["directory"] == str(place / "work")
    assert told["arguments"] == [str(place / "init")]
    known = await facts(local, made)
    assert told["session"] == told["group"] == known["PID"] == known["PGID"] != os.getsid(0)


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
async def test_any_interpreter(local: Local, home: Path, init: str) -> None:
    made = await local.provision(spec=spec(init))
    assert "ran\n" in await until_written(home / "instances" / made / "work" / "out")


async def test_working_files_and_limits(local: Local, home: Path) -> None:
    files = {"conf/app.ini": "[a]\n", "run.sh": "#!/bin/sh\nulimit -n >limit\nexec sleep 1000\n"}
    made = await local.provision(spec=spec("exec ./run.sh", Files=files, Limits={"OpenFiles": 77}))
    work = home / "instances" / made / "work"
    assert await until_written(work / "limit") == "77\n"
    assert (work / "conf" / "app.ini").read_text() == "[a]\n"


async def test_a_limit_above_the_users_own_is_refused_and_creates_nothing(local: Local, home: Path) -> None:
    with pytest.raises(errors.Refused, match="open_files"):
        await local.provision(spec=spec(logical_id="a", Limits={"OpenFiles": 2**30}))
    assert await listed(local) == {}
    assert list((home / "instances").iterdir()) == []
    assert await local.provision(spec=spec(logical_id="a"))


async def test_a_terminated_instance_is_not_listed_and_its_log_and_volume_stay(local: Local, home: Path) -> None:
    made = await local.provision(
        spec=spec('echo hello; echo kept >"$INFRAKIT_VOLUME/file"; exec sleep 1000', volumes=("v",), logical_id="a")
    )
    await until_written(home / "volumes" / "v" / "file")
    os.killpg((await facts(local, made))["PID"], signal.SIGKILL)
    await until_gone(local, made)
    assert await local.inspect(instance=made) is None
    assert "hello" in await local.logs(instance=made, lines=10)
    again = await local.provision(spec=spec(volumes=("v",), logical_id="a"))
    assert again != made
    assert (home / "volumes" / "v" / "file").read_text() == "kept\n"


async def test_a_leader_that_was_killed_is_never_listed_as_running_again(local: Local) -> None:
    made = await local.provision(spec=spec())
    await listed(local)
    pid = (await facts(local, made))["PID"]
    os.killpg(pid, signal.SIGKILL)
    wait_for_death(pid)
    seen = (await listed(local)).get(made)
    assert seen is None or seen.state is State.STOPPING  # the kernel may still be killing the rest of the group
    await until_gone(local, made)


@pytest.mark.parametrize(("code", "present"), [(0, True), (3, True), (1, False), (143, False)])
async def test_success_codes_mean_finished(local: Local, home: Path, code: int, present: bool) -> None:
    made = await local.provision(spec=spec(f"exit {code}", logical_id="job", SuccessCodes=[0, 3]))

    async def ended() -> bool:
        found = (await listed(local)).get(made)
        return found is None or found.state is State.FINISHED

    await until(ended)
    assert (made in await listed(local)) is present
    assert (await local.inspect(instance=made) is not None) is present
    if present:
        assert (await facts(local, made))["ExitCode"] == code
        with pytest.raises(errors.Conflict, match=made):
            await local.provision(spec=spec(logical_id="job"))
        await destroy(local, made)
    assert await listed(local) == {}
    assert await local.provision(spec=spec(logical_id="job"))


async def test_without_success_codes_every_exit_terminates_the_instance(local: Local) -> None:
    made = await local.provision(spec=spec("exit 0"))
    await until_gone(local, made)


async def test_descriptions_stay_the_same_object_until_something_changes(local: Local) -> None:
    made = await local.provision(spec=spec(tags={"a": "1"}))
    other = await local.provision(spec=spec(tags={"a": "2"}))
    first, second = await listed(local), await listed(local)
    assert all(first[each] is second[each] for each in (made, other))
    assert first[made].state is State.RUNNING
    await local.label(instance=made, labels={"a": "3", "b": "4"})
    third = await listed(local)
    assert third[made].tags == {"a": "3", "b": "4"}
    assert third[other] is first[other]
    assert list(await listed(local, a="3")) == [made]
    assert await listed(local, a="1") == {}


async def test_destroy_terminates_releases_and_is_idempotent(local: Local, home: Path) -> None:
    made = await local.provision(spec=spec(logical_id="a", volumes=("v",)))
    pid = (await facts(local, made))["PID"]
    await asyncio.gather(*(destroy(local, made) for _ in range(3)))
    assert not is_alive(pid)
    assert await listed(local) == {}
    assert (home / "volumes" / "v").is_dir()
    await destroy(local, made)
    assert await local.inspect(instance=made) is None
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
    made = await local.provision(spec=spec("seq 1 100000; echo done >mark; exec sleep 1000"))
    await until_written(home / "instances" / made / "work" / "mark")
    assert await local.logs(instance=made, lines=3) == "99998\n99999\n100000\n"
    assert await local.logs(instance=made, lines=0) == ""
    assert (await local.logs(instance=made, lines=10**6)).startswith("1\n2\n")


async def test_a_log_is_followed_line_by_line_to_its_end(local: Local, home: Path) -> None:
    made = await local.provision(spec=spec("echo one; echo two; echo three; printf half; exec sleep 1000"))
    log = home / "instances" / made / "log"
    await until_written(log, "half")
    first = await local.tail(instance=made, lines=2)
    assert (first.text, first.ended) == ("three\nhalf", False)
    with log.open("a") as more:
        more.write(" a line\nfive\nsi")
    second = await local.tail(instance=made, after=first.position)
    assert (second.text, second.ended) == (" a line\nfive\n", False)  # an incomplete line is returned later
    third = await local.tail(instance=made, after=second.position)
    assert (third.text, third.position, third.ended) == ("", second.position, False)
    log.write_text("anew\n")
    assert (await local.tail(instance=made, after=third.position)).text == "anew\n"
    with log.open("a") as more:
        more.write("last words")
    await destroy(local, made)

    await until_gone(local, made)

    async def buried() -> bool:
        return "last words" in (await local.tail(instance=made, after=len("anew\n"))).text

    await until(buried)
    last = await local.tail(instance=made, after=len("anew\n"))
    assert last.ended is False  # until no more text follows
    end = await local.tail(instance=made, after=last.position)
    assert (end.text, end.ended) == ("", True)
    with pytest.raises(errors.NotFound):
        await local.tail(instance=InstanceID("i-000000000000"))


@pytest.mark.parametrize(
    ("end", "told"),
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
async def test_watch_hints_at_an_exit(local: Local, end: str, told: str) -> None:
    made = await local.provision(spec=spec(f"sleep 0.1; {end}"))
    hints = aiter(local.watch())
    async with asyncio.timeout(30):
        assert await anext(hints) == f"{made} {told}"


async def test_an_exit_before_the_first_listing_is_reported_too(local: Local, home: Path) -> None:
    made = await local.provision(spec=spec("exit 3"))
    hints = aiter(local.watch())
    await until_written(home / "instances" / made / "exit")
    async with asyncio.timeout(30):
        assert await anext(hints) == f"{made} exited with code 3"


@pytest.mark.parametrize("init", ["", " \n", "a\0b"])
async def test_nothing_to_run_is_refused(local: Local, init: str) -> None:
    with pytest.raises(errors.Refused):
        await local.provision(spec=spec(init))


async def test_other_attachments_are_refused(local: Local) -> None:
    wanted = spec()
    eni = Attachment(id="eni-1", type="eni")
    with pytest.raises(errors.Refused, match="eni-1"):
        await local.provision(spec=type(wanted)(init=STAYS, attachments=(eni,)))
    with pytest.raises(errors.Refused):
        await local.delete_attachment(attachment=eni)


async def test_a_volume_is_deleted_only_when_no_instance_holds_it(local: Local, home: Path) -> None:
    volume = Attachment(id="v", type="volume")
    made = await local.provision(spec=spec(volumes=("v",)))
    with pytest.raises(errors.Conflict, match=made):
        await local.delete_attachment(attachment=volume)
    await destroy(local, made)
    (home / "volumes" / "v" / "file").write_text("x")
    await local.delete_attachment(attachment=volume)
    await local.delete_attachment(attachment=volume)
    assert list((home / "volumes").iterdir()) == []


async def test_existing_volumes_are_reported_with_any_holder(local: Local, home: Path) -> None:
    names = ("v", "log/2", "x" * 300, "other")
    made = await local.provision(spec=spec(volumes=names[:3]))
    asked = [*(Attachment(id=name, type="volume") for name in names), Attachment(id="v", type="eni")]
    assert await local.existing(attachments=asked) == asked[:3]
    await destroy(local, made)
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
        made = await local.provision(spec=spec("ls -l /proc/self/fd >all; mv all open; exec sleep 1000"))
        opened = await until_written(home / "instances" / made / "work" / "open")
    finally:
        os.close(inherited)
    assert str(home / "instances" / made / "log") in opened
    assert str(tmp_path / "lock") not in opened


async def test_a_directory_is_the_same_by_any_path(local: Local, tmp_path: Path, home: Path) -> None:
    made = await local.provision(spec=spec(logical_id="a"))
    (tmp_path / "alias").symlink_to(home)
    other = Local(tmp_path / "alias")
    try:
        assert (await facts(other, made))["Directory"] == (await facts(local, made))["Directory"]
        second = await other.provision(spec=spec("exec sleep 1000 & exit 1"))
        await until_gone(local, second)
    finally:
        await other.close()
