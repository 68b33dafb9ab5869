"""Health checks of the flavor vanilla: real commands, real sockets, real HTTP servers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from infrakit.flavors.vanilla import Vanilla
from infrakit.spi.values import Description, Health, HealthReport, InstanceID, LogicalID, State

UNKNOWN, HEALTHY, UNHEALTHY = Health.UNKNOWN, Health.HEALTHY, Health.UNHEALTHY


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def instance(name: str = "i-1", *, tags: dict[str, str] | None = None, **more: Any) -> Description:
    return Description(id=InstanceID(name), tags={"infrakit.group": "g", **(tags or {})}, **more)


@pytest.fixture
async def vanilla() -> AsyncIterator[Vanilla]:
    flavor = Vanilla()
    yield flavor
    await flavor.close()


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[int]:
    """A server on its own port that reads the head of a request and returns these bytes; None: never."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await reader.read()
            writer.write(answer or b"")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a TCP probe sends nothing
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*tasks, return_exceptions=True)


def status(line: str) -> bytes:
    return f"HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def closed_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port: int = each.getsockname()[1]
        return port


async def judge(vanilla: Vanilla, check: dict[str, Any], described: Description | None = None) -> HealthReport:
    properties = raw({"Health": {"Failures": 1, "Timeout": "10s", **check}})
    return await vanilla.healthy(properties=properties, instance=described or instance())


# Without a check


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (msgspec.UNSET, HEALTHY),
        (State.UNSPECIFIED, HEALTHY),
        (State.RUNNING, HEALTHY),
        (State.FINISHED, HEALTHY),
        (State.PENDING, UNKNOWN),
        (State.STOPPING, UNKNOWN),
        (State.TERMINATED, UNHEALTHY),
    ],
)
async def test_without_a_check_the_state_of_the_provider_decides(
    vanilla: Vanilla, state: Any, expected: Health
) -> None:
    described = instance(state=state)
    report = await vanilla.healthy(properties=raw({}), instance=described)
    every = await vanilla.healthy_all(properties=raw({}), instances=[described])
    assert report.health is expected
    assert every == {"i-1": report}


async def test_many_instances_without_a_check_share_one_report(vanilla: Vanilla) -> None:
    every = await vanilla.healthy_all(properties=raw({}), instances=[instance(str(each)) for each in range(1000)])
    assert len(every) == 1000
    assert len({id(each) for each in every.values()}) == 1


@pytest.mark.parametrize("state", [State.PENDING, State.STOPPING, State.TERMINATED, State.FINISHED])
async def test_an_instance_that_does_not_run_is_not_probed(vanilla: Vanilla, tmp_path: Path, state: State) -> None:
    await judge(vanilla, {"Command": ["touch", str(tmp_path / "probed")]}, instance(state=state))
    assert not (tmp_path / "probed").exists()


# HTTP


@pytest.mark.parametrize(
    ("line", "wanted", "expected"),
    [
        ("200 OK", None, HEALTHY),
        ("204 No Content", None, HEALTHY),
        ("500 Oops", None, UNHEALTHY),
        ("302 Found\r\nLocation: /elsewhere", None, UNHEALTHY),
        ("302 Found\r\nLocation: /elsewhere", 302, HEALTHY),
        ("200 OK", 418, UNHEALTHY),
    ],
)
async def test_http_status(vanilla: Vanilla, line: str, wanted: int | None, expected: Health) -> None:
    async with answering(status(line)) as port:
        url = f"http://127.0.0.1:{port}/health"
        report = await judge(vanilla, {"HTTP": {"URL": url, "Status": wanted}})
    assert report == HealthReport(health=expected, note=f"HTTP {line[:3]} (GET {url})")


async def test_http_notes_contain_no_password_and_no_query(vanilla: Vanilla) -> None:
    async with answering(status("503 Busy")) as port:
        url = f"http://user:pass@127.0.0.1:{port}/h?token=t"
        report = await judge(vanilla, {"HTTP": {"URL": url}})
    assert report.note == f"HTTP 503 (GET http://127.0.0.1:{port}/h)"


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", b""])
async def test_http_response_of_another_protocol_is_unhealthy(vanilla: Vanilla, answer: bytes) -> None:
    async with answering(answer) as port:
        report = await judge(vanilla, {"HTTP": {"URL": f"http://127.0.0.1:{port}/"}})
    assert (report.health, report.note.partition(" (")[0]) == (UNHEALTHY, "no HTTP answer")


async def test_http_timeout(vanilla: Vanilla) -> None:
    async with answering(None) as port:
        report = await judge(vanilla, {"HTTP": {"URL": f"http://127.0.0.1:{port}/"}, "Timeout": "50ms"})
    assert report == HealthReport(health=UNHEALTHY, note=f"no answer within 0.05 s (GET http://127.0.0.1:{port}/)")


async def test_http_refused(vanilla: Vanilla) -> None:
    port = closed_port()
    report = await judge(vanilla, {"HTTP": {"URL": f"http://127.0.0.1:{port}/"}})
    assert report == HealthReport(health=UNHEALTHY, note=f"refused (GET http://127.0.0.1:{port}/)")


# TCP


async def test_tcp_accepted(vanilla: Vanilla) -> None:
    async with answering(b"") as port:
        report = await judge(vanilla, {"TCP": {"Address": f"127.0.0.1:{port}"}})
        by_name = await judge(vanilla, {"TCP": {"Address": f"localhost:{port}"}})
    assert report == HealthReport(health=HEALTHY, note=f"accepted (TCP 127.0.0.1:{port})")
    assert by_name.health is HEALTHY


async def test_tcp_refused(vanilla: Vanilla) -> None:
    port = closed_port()
    report = await judge(vanilla, {"TCP": {"Address": f"127.0.0.1:{port}"}})
    assert report == HealthReport(health=UNHEALTHY, note=f"refused (TCP 127.0.0.1:{port})")


async def test_tcp_timeout(vanilla: Vanilla) -> None:
    """A listener whose backlog is full drops new connections."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        address = "{}:{}".format(*listener.getsockname())
        report = await judge(vanilla, {"TCP": {"Address": address}, "Timeout": "50ms"})
    assert report == HealthReport(health=UNHEALTHY, note=f"no answer within 0.05 s (TCP {address})")


# Failures that are not the fault of the instance


@pytest.mark.parametrize(
    "check",
    [
        {"TCP": {"Address": "no-such-host.invalid:80"}},
        {"HTTP": {"URL": "http://no-such-host.invalid/"}},
        {"TCP": {"Address": "${TAG_absent}:80"}},
        {"Command": ["/no/such/program"]},
        {"Command": "no-such-program"},
        {"Command": "kill -KILL $$"},
        {"Command": ["echo", "a\0b"]},
    ],
)
async def test_a_probe_that_cannot_run_is_unknown(vanilla: Vanilla, check: dict[str, Any]) -> None:
    report = await judge(vanilla, check)
    assert report.health is UNKNOWN
    assert report.note


@pytest.mark.parametrize("value", ["", "[", "]", "a b", "a\0b", "a..b", "x" * 300, "::1]:80", "é" * 70])
async def test_an_address_that_is_invalid_because_of_a_tag_is_unknown(vanilla: Vanilla, value: str) -> None:
    invalid = instance(tags={"host": value})
    tcp = await judge(vanilla, {"TCP": {"Address": "${TAG_host}:80"}}, invalid)
    http = await judge(vanilla, {"HTTP": {"URL": "http://${TAG_host}:80/"}}, invalid)
    assert (tcp.health, http.health) == (UNKNOWN, UNKNOWN)


@pytest.mark.parametrize("kind", ["TCP", "HTTP", "Command"])
async def test_a_lack_of_file_descriptors_in_this_process_is_unknown(
    vanilla: Vanilla, kind: str, without_descriptors: Callable[[], AbstractAsyncContextManager[None]]
) -> None:
    async with answering(status("200 OK")) as port:
        checks: dict[str, Any] = {
            "TCP": {"TCP": {"Address": f"127.0.0.1:{port}"}},
            "HTTP": {"HTTP": {"URL": f"http://127.0.0.1:{port}/"}},
            "Command": {"Command": ["true"]},
        }
        assert (await judge(vanilla, checks[kind])).health is HEALTHY
        async with without_descriptors():
            report = await judge(vanilla, checks[kind])
        assert report.health is UNKNOWN
        assert "Too many open files" in report.note
        assert (await judge(vanilla, checks[kind])).health is HEALTHY


@pytest.fixture
def without_descriptors() -> Callable[[], AbstractAsyncContextManager[None]]:
    import resource

    @asynccontextmanager
    async def scarce() -> AsyncIterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return scarce


# Commands


async def test_command_exit_codes_and_last_line(vanilla: Vanilla) -> None:
    good = await judge(vanilla, {"Command": ["sh", "-c", "echo first; echo ready >&2"]})
    bad = await judge(vanilla, {"Command": "echo broken; exit 3"})
    assert good == HealthReport(health=HEALTHY, note="exit code 0: ready (command sh)")
    assert bad == HealthReport(health=UNHEALTHY, note="exit code 3: broken (command)")


async def test_command_output_is_bounded_and_printable(vanilla: Vanilla) -> None:
    report = await judge(
        vanilla, {"Command": "yes no | head -c 3000000; printf '\\033[31m'; yes x | tr -d '\\n' | head -c 500"}
    )
    assert report.health is HEALTHY
    assert len(report.note) < 250
    assert report.note.isprintable()


async def test_command_receives_the_facts_of_the_instance(vanilla: Vanilla) -> None:
    described = instance(tags={"infrakit.port": "8103", "my.tag": "t"}, logical_id=LogicalID("10.0.0.1"))
    by_words = await judge(
        vanilla, {"Command": ["echo", "${ID} ${LOGICAL_ID} ${GROUP} ${PORT} ${TAG_my_tag} $$1"]}, described
    )
    line = "echo $ID $LOGICAL_ID ${INFRAKIT_GROUP} $INFRAKIT_PORT ${INFRAKIT_TAG_MY_TAG} '$1'"
    by_shell = await judge(vanilla, {"Command": line}, described)
    assert by_words.note == "exit code 0: i-1 10.0.0.1 g 8103 t $1 (command echo)"
    assert by_shell.note == "exit code 0: i-1 10.0.0.1 g 8103 t $1 (command)"


async def test_command_and_its_children_are_killed_at_the_timeout(vanilla: Vanilla, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    line = f"sleep 1000 & echo $! $$ > {pids}; wait"
    report = await judge(vanilla, {"Command": line, "Timeout": "1s"})
    assert report == HealthReport(health=UNHEALTHY, note="not finished within 1 s, killed (command)")
    await wait_for_exit(int(pid) for pid in pids.read_text().split())


async def test_command_is_killed_when_the_probe_is_cancelled(vanilla: Vanilla, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    task = asyncio.create_task(
        judge(vanilla, {"Command": f"echo $$ > {pids}.new; mv {pids}.new {pids}; exec sleep 1000"})
    )
    while not pids.exists():  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_for_exit([int(pids.read_text())])


async def test_a_background_child_does_not_delay_the_report(vanilla: Vanilla, tmp_path: Path) -> None:
    report = await judge(vanilla, {"Command": f"sleep 1000 & echo $! > {tmp_path}/pid; echo done"})
    psutil.Process(int((tmp_path / "pid").read_text())).kill()
    assert report.note == "exit code 0: done (command)"


async def wait_for_exit(pids: Any) -> None:
    """Wait until they have exited, zombies included; the limit is the timeout of the test."""
    for pid in pids:
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


# Consecutive probes


async def probes(vanilla: Vanilla, check: dict[str, Any], script: Path, codes: list[int]) -> list[Health]:
    """The verdicts after consecutive probes, each with the next exit code."""
    verdicts = []
    for code in codes:
        script.write_text(str(code))  # noqa: ASYNC240
        properties = raw({"Health": {"Command": f"exit $(cat {script})", "Timeout": "10s", "Interval": "0", **check}})
        reports = await vanilla.healthy_all(properties=properties, instances=[instance()])
        verdicts.append(reports[InstanceID("i-1")].health)
    return verdicts


async def test_a_verdict_changes_after_consecutive_failures_or_successes(vanilla: Vanilla, tmp_path: Path) -> None:
    check = {"Failures": 3, "Successes": 2}
    codes = [0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 0]
    u, h, s = UNKNOWN, HEALTHY, UNHEALTHY
    assert await probes(vanilla, check, tmp_path / "code", codes) == [u, h, h, h, h, h, h, s, s, s, s, h]


async def test_a_probe_that_cannot_run_neither_counts_nor_resets_the_failures(vanilla: Vanilla, tmp_path: Path) -> None:
    verdicts = await probes(vanilla, {"Failures": 2}, tmp_path / "code", [0, 1, 127, 1])
    assert verdicts == [HEALTHY, HEALTHY, UNKNOWN, UNHEALTHY]


async def test_probes_within_the_interval_count_once(vanilla: Vanilla, tmp_path: Path) -> None:
    check = {"Failures": 2, "Interval": "1h"}
    assert await probes(vanilla, check, tmp_path / "code", [0, 1, 1, 1, 1, 0]) == [HEALTHY] * 6


async def test_the_note_counts_the_failures_before_a_verdict(vanilla: Vanilla) -> None:
    report = await judge(vanilla, {"Command": "exit 1", "Failures": 3})
    assert report == HealthReport(health=UNKNOWN, note="exit code 1 (command) (failure 1 of 3)")


async def test_the_failures_of_a_removed_instance_are_discarded(vanilla: Vanilla) -> None:
    properties = raw({"Health": {"Command": "exit 1", "Failures": 2, "Timeout": "10s", "Interval": "0"}})
    both, one = [instance("a"), instance("b")], [instance("a")]
    await vanilla.healthy_all(properties=properties, instances=both)
    await vanilla.healthy_all(properties=properties, instances=one)
    reports = await vanilla.healthy_all(properties=properties, instances=both)
    assert [reports[each.id].health for each in both] == [UNHEALTHY, UNKNOWN]


async def test_groups_do_not_share_verdicts(vanilla: Vanilla) -> None:
    check = {"Command": "exit 1", "Failures": 2, "Interval": "0"}
    assert (await judge(vanilla, check, instance(tags={"infrakit.group": "a"}))).health is UNKNOWN
    assert (await judge(vanilla, check, instance(tags={"infrakit.group": "b"}))).health is UNKNOWN


# Concurrency


async def test_instances_are_probed_concurrently_but_never_more_than_64(vanilla: Vanilla) -> None:
    """With a server that answers once 64 requests wait, and that counts them."""
    waiting, most = 0, 0
    enough = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting, most
        await reader.readuntil(b"\r\n\r\n")
        waiting += 1
        most = max(most, waiting)
        if waiting == 64:
            for _ in range(2000):  # iterations of the event loop in which another request would arrive
                await asyncio.sleep(0)
            enough.set()
        await enough.wait()
        waiting -= 1
        writer.write(status("200 OK"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=256)
    async with server:
        port = server.sockets[0].getsockname()[1]
        properties = raw({"Health": {"HTTP": {"URL": f"http://127.0.0.1:{port}/"}, "Timeout": "60s"}})
        halves = [[instance(f"{half}-{each}") for each in range(100)] for half in "ab"]
        answers = await asyncio.gather(*(vanilla.healthy_all(properties=properties, instances=half) for half in halves))
    assert most == 64
    assert [len(each) for each in answers] == [100, 100]
    assert all(report.health is HEALTHY for each in answers for report in each.values())
