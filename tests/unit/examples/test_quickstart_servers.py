"""The servers of the quickstart, extracted from its declaration and run as real processes."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infrakit.flavors.vanilla import Vanilla
from infrakit.spec import document
from infrakit.spi.values import Allocation, Description, GroupID, Health, Index, InstanceID, InstanceSpec

DECLARATION = Path(__file__).parents[3] / "examples/quickstart/infrakit.yaml"
GROUPS = {each.name: each.properties for each in document.parse(DECLARATION.read_text(), source="infrakit.yaml")}
# Used by this process only.
ADDRESS = f"127.{100 + (os.getpid() >> 16) % 100}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"


def flavor_properties(group: str) -> dict[str, Any]:
    declared: dict[str, Any] = msgspec.json.decode(GROUPS[GroupID(group)].flavor.properties)
    return declared


def allocation(group: str) -> Allocation:
    declared = GROUPS[GroupID(group)].allocation
    return Allocation(size=declared.size, logical_ids=declared.logical_ids)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Runs the Init of a group as a provider does: as a file, with the facts of the instance in the environment."""
    started: list[subprocess.Popen[str]] = []

    def run(group: str, **environment: str) -> subprocess.Popen[str]:
        script = tmp_path / "init"
        script.write_text(flavor_properties(group)["Init"])
        script.chmod(0o700)
        process = subprocess.Popen(
            [script],
            env={"PATH": os.environ["PATH"], "INFRAKIT_INSTANCE_ID": "w", **environment},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening")
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


@pytest.fixture
def start_web(start: Start) -> Callable[[], tuple[subprocess.Popen[str], str]]:
    def run() -> tuple[subprocess.Popen[str], str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            "INFRAKIT_SEQUENCE": "2",
            "INFRAKIT_TAG_INFRAKIT_PORT": str(port),
            "INFRAKIT_TAG_VERSION": "1",
        }
        return start("web", **environment), f"http://127.0.0.1:{port}"

    return run


@pytest.fixture
def start_counter(start: Start, tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    (tmp_path / "volume").mkdir()

    def run() -> subprocess.Popen[str]:
        environment = {
            "INFRAKIT_LOGICAL_ID": ADDRESS,
            "INFRAKIT_VOLUME": str(tmp_path / "volume"),
            "INFRAKIT_TAG_VERSION": "1",
        }
        return start("counter", **environment)

    return run


COUNTER = f"http://{ADDRESS}:7070"


def call(url: str, method: str = "GET") -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_web_returns_its_worker_number_and_version(start_web: Callable[[], tuple[subprocess.Popen[str], str]]) -> None:
    process, url = start_web()
    assert call(url) == (200, {"worker": 2, "version": "1", "pid": process.pid})
    assert call(url + "/health/w")[0] == 200
    assert call(url + "/health/another")[0] == 404  # the path of another instance
    assert call(url + "/nothing") == (404, {"error": "not found"})


def test_web_exits_with_code_0_on_sigterm(start_web: Callable[[], tuple[subprocess.Popen[str], str]]) -> None:
    process, _ = start_web()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_counter_counts(start_counter: Callable[[], subprocess.Popen[str]]) -> None:
    process = start_counter()
    facts = {"address": ADDRESS, "value": 0, "pid": process.pid, "version": "1", "boots": 1}
    assert call(COUNTER) == (200, facts)
    assert call(COUNTER + "/incr", "POST") == (200, facts | {"value": 1})
    assert call(COUNTER + "/health/w") == (200, facts | {"value": 1})
    assert call(COUNTER + "/health/another")[0] == 404
    assert call(COUNTER + "/incr") == (404, {"error": "not found"})
    assert call(COUNTER, "POST") == (404, {"error": "not found"})


def test_counter_loses_no_acknowledged_increment(start_counter: Callable[[], subprocess.Popen[str]]) -> None:
    """Repeated kill -9 while eight clients increment: at most the requests in flight are counted in addition."""
    acknowledged = 0
    for boot in range(1, 5):
        process = start_counter()
        before = call(COUNTER)[1]
        assert before["boots"] == boot
        assert acknowledged <= before["value"] <= acknowledged + 8
        with ThreadPoolExecutor(8) as clients:
            counting = [clients.submit(count_until_killed, kill=process if each == 0 else None) for each in range(8)]
        acknowledged = before["value"] + sum(each.result() for each in counting)
        assert process.wait(30) == -signal.SIGKILL
    assert acknowledged >= 4 * 20


def count_until_killed(*, kill: subprocess.Popen[str] | None) -> int:
    """The number of acknowledged increments. One client kills the server after its twentieth."""
    count = 0
    while True:
        try:
            call(COUNTER + "/incr", "POST")
        except (OSError, ValueError, http.client.HTTPException):  # the connection was closed
            return count
        count += 1
        if kill is not None and count == 20:
            kill.kill()


def test_counter_discards_a_line_torn_by_a_crash(
    start_counter: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    (tmp_path / "volume" / "counter.log").write_bytes(b"boot\nincr\nincr\nin")
    start_counter()
    assert (call(COUNTER)[1]["value"], call(COUNTER)[1]["boots"]) == (2, 2)
    assert (tmp_path / "volume" / "counter.log").read_bytes() == b"boot\nincr\nincr\nboot\n"


def test_counter_finishes_requests_in_flight_on_sigterm(start_counter: Callable[[], subprocess.Popen[str]]) -> None:
    process = start_counter()
    with socket.create_connection((ADDRESS, 7070), timeout=30) as client:
        client.sendall(b"POST /incr HTTP/1.0\r\n")
        while call(COUNTER)[0] != 200:  # the connection before ours has been accepted
            pass
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(ConnectionError):  # refused, or reset while the listener closes
            while True:  # until it stops listening
                socket.create_connection((ADDRESS, 7070), timeout=30).close()
        client.sendall(b"\r\n")
        assert b'"value": 1' in client.makefile("rb").read()
    assert process.wait(30) == 0


@pytest.mark.parametrize("group", ["web", "counter"])
async def test_the_flavor_accepts_the_declaration(group: str) -> None:
    properties = raw(flavor_properties(group))
    await Vanilla().validate(properties=properties, allocation=allocation(group))


async def test_the_flavor_reports_a_worker_healthy_and_a_killed_one_unhealthy(
    start_web: Callable[[], tuple[subprocess.Popen[str], str]],
) -> None:
    properties = flavor_properties("web")
    properties["Health"]["Interval"] = "0"
    process, url = await asyncio.to_thread(start_web)
    port = int(url.rpartition(":")[2])
    flavor = Vanilla()
    spec = await flavor.prepare(
        properties=raw(properties | {"Port": {"Base": port - 1}}),
        spec=InstanceSpec(),
        allocation=allocation("web"),
        index=Index(group=GroupID("web"), sequence=1),
    )
    worker = Description(id=InstanceID("w"), tags=spec.tags)
    first = await flavor.healthy(properties=raw(properties), instance=worker)
    await asyncio.to_thread(process.kill)
    await asyncio.to_thread(process.wait)
    reports = [await flavor.healthy(properties=raw(properties), instance=worker) for _ in range(2)]
    await flavor.close()
    assert (first.health, first.note) == (Health.HEALTHY, f"HTTP 200 (GET {url}/health/w)")
    assert [each.health for each in reports] == [Health.HEALTHY, Health.UNHEALTHY]
