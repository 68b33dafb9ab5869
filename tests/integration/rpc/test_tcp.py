"""TCP for other machines: tokens, listen addresses, and unauthenticated clients."""

import asyncio
import contextlib
import gc
import hashlib
import resource
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infrakit.rpc import acceptor, authentication, call, client, remotes, tls, tokens, transport, unix
from infrakit.rpc.acceptor import Acceptor
from infrakit.rpc.listen import Listen
from infrakit.rpc.remotes import Remote
from infrakit.rpc.server import Server
from infrakit.spi import errors
from infrakit.spi.instance import Instance
from infrakit.spi.manager import Manager
from infrakit.spi.values import InstanceSpec
from tests.integration.rpc.authority import HOST, Authority, RecordingManager, scale_as_ann
from tests.integration.rpc.daemons import DEADLINE_S, Connection, call_in_thread, post, rpc
from tests.unit.cli.canned import CannedManager
from tests.unit.rpc.plugins import Provider

HELLO = rpc("Handshake.Hello")


@contextlib.asynccontextmanager
async def connected(url: str, **more: ssl.SSLContext) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]), **more)  # type: ignore[arg-type]
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def plain(**more: object) -> Listen:
    return Listen(host=HOST, port=0, **more)  # type: ignore[arg-type]


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def manager() -> RecordingManager:
    return RecordingManager()


@pytest.fixture
async def guarded(path: Path, tmp_path: Path, manager: RecordingManager) -> AsyncIterator[tuple[str, Path]]:
    """The URL of a daemon on loopback that requires a token, and the directory of its files."""
    file = tmp_path / "tokens"
    (tmp_path / "ann.token").write_text(tokens.issue(file, "ann") + "\n")
    async with Server(path, {".": manager}, listen=plain(token_file=str(file))) as server:
        yield server.urls[0], tmp_path


async def test_a_token_identifies_the_caller(guarded: tuple[str, Path], manager: RecordingManager) -> None:
    url, directory = guarded
    await scale_as_ann(Remote(url=url, token_file=str(directory / "ann.token")))
    assert manager.who == "ann"
    secret = (directory / "ann.token").read_text().strip()
    assert secret not in (directory / "tokens").read_text()
    assert hashlib.sha256(secret.encode()).hexdigest() in (directory / "tokens").read_text()
    assert stat.S_IMODE((directory / "tokens").stat().st_mode) == 0o600


async def test_a_missing_or_wrong_token_is_refused(guarded: tuple[str, Path], manager: RecordingManager) -> None:
    url, directory = guarded
    (directory / "wrong").write_text("guess")
    for remote in (Remote(url=url), Remote(url=url, token_file=str(directory / "wrong"))):
        with pytest.raises(errors.Refused, match="present a valid client certificate or token"):
            await scale_as_ann(remote)
        with pytest.raises(errors.Refused, match="present a valid client certificate or token"):
            await asyncio.to_thread(lambda r: list(call.events(r, since=0, group=None, follow=False)), remote)
    assert manager.who == ""
    for content, message in ((None, "the token cannot be read"), ("", "holds no token"), ("ä", "holds no token")):
        file = directory / "mine"
        if content is not None:
            file.write_text(content)
        with pytest.raises(errors.Refused, match=message):
            await scale_as_ann(Remote(url=url, token_file=str(file)))


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YW5uOng=", "Bearer \xff\xfe", "Bearer " + "x" * 4000, "Bearer 0 0", "bearer\tx"],
)
async def test_an_invalid_authorization_header_is_rejected(
    guarded: tuple[str, Path], header: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(guarded[0]) as peer:
        request = post(HELLO, f"Authorization: {header}").decode().encode("latin-1")
        assert (await peer.exchange(request)).status == 401
    assert caplog.records == []


@pytest.mark.parametrize("target", ["/events", "/info/api.json", "/health", "/nope", "/watch"])
async def test_without_a_token_no_path_is_served(guarded: tuple[str, Path], target: str) -> None:
    async with connected(guarded[0]) as peer:
        answer = await peer.exchange(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_token_is_revoked_during_an_open_connection(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(authentication, "RELOAD_S", 0.02)
    file = tmp_path / "tokens"
    secret = tokens.issue(file, "ann")
    request = post(HELLO, f"Authorization: Bearer {secret}")
    async with Server(path, {}, listen=plain(token_file=str(file))) as server, connected(server.urls[0]) as ann:
        assert (await ann.exchange(request)).status == 200
        await asyncio.to_thread(file.write_text, "nonsense")
        async with asyncio.timeout(DEADLINE_S):
            while "line 1 is not NAME:SHA256" not in caplog.text:  # noqa: ASYNC110 - a file's change makes no event
                await asyncio.sleep(0.02)
        assert (await ann.exchange(request)).status == 200
        await asyncio.to_thread(file.write_text, f"# nobody but\nbob:{'0' * 64}\n")
        async with asyncio.timeout(DEADLINE_S):
            while (await ann.exchange(request)).status != 401:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    assert secret not in caplog.text


def test_an_invalid_token_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    for content in (b"ann", b"ann:short", b":" + b"0" * 64, b"a\x1bb:" + b"0" * 64):
        file.write_bytes(content)
        file.chmod(0o600)
        with pytest.raises(errors.Refused, match="line 1 is not NAME:SHA256"):
            tokens.Tokens(file)
    file.write_bytes(b"\xff")
    with pytest.raises(errors.Refused, match="it is not text"):
        tokens.Tokens(file)
    file.write_text("")
    for mode in (0o640, 0o604, 0o622):
        file.chmod(mode)
        with pytest.raises(errors.Refused, match=f"other users may read or write it; chmod 600 {file}"):
            tokens.Tokens(file)


def test_a_token_is_added_to_a_manually_edited_file(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# ours\nann:{'0' * 64}")
    file.chmod(0o600)
    secret = tokens.issue(file, "bob")
    assert tokens.Tokens(file).name(f"Bearer {secret}") == "bob"
    for name in ("", "a:b", "a\nb", " a", "#a"):
        with pytest.raises(errors.InvalidSpec, match="cannot be the name of a token"):
            tokens.issue(file, name)


def test_a_token_is_not_sent_over_plain_http_beyond_loopback(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    with pytest.raises(errors.Refused, match=r"a token over plain HTTP could be intercepted; use https"):
        Remote(url="http://10.0.0.1:1", token_file=str(tmp_path / "token")).token()
    for url in ("https://10.0.0.1:1", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"):
        assert Remote(url=url, token_file=str(tmp_path / "token")).token() == "secret"


def test_a_plugin_gets_the_credentials_of_the_environment_that_its_url_permits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (remotes.CA_VARIABLE, remotes.CERT_VARIABLE, remotes.KEY_VARIABLE, remotes.TOKEN_VARIABLE):
        monkeypatch.setenv(name, name.lower())
    files = {"ca": "infrakit_tls_ca", "cert": "infrakit_tls_cert", "key": "infrakit_tls_key"}
    token = {"token_file": "infrakit_token_file"}
    assert remotes.plugin("https://10.0.0.1:1") == Remote(url="https://10.0.0.1:1", **files, **token)
    assert remotes.plugin("http://127.0.0.1:1") == Remote(url="http://127.0.0.1:1", **token)
    assert remotes.plugin("http://10.0.0.1:1") == Remote(url="http://10.0.0.1:1")


async def test_a_plugin_that_requires_a_token(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, mine = Provider(), tmp_path / "mine"
    mine.write_text(tokens.issue(tmp_path / "tokens", "daemon-1"))
    monkeypatch.setenv(remotes.TOKEN_VARIABLE, str(mine))
    async with Server(path, {".": provider}, listen=plain(token_file=str(tmp_path / "tokens"))) as server:
        async with transport.opened(server.urls[0]) as fresh:  # no request is sent before the token is read
            await asyncio.gather(*(fresh.post(HELLO, deadline_s=DEADLINE_S) for _ in range(5)))
        remote = await client.connect(Instance, "far", server.urls[0])
        await asyncio.gather(*(remote.provision(spec=InstanceSpec()) for _ in range(5)))
        assert len(provider.asked) == 5
        await remote.close()
        monkeypatch.delenv(remotes.TOKEN_VARIABLE)
        with pytest.raises(
            errors.Refused, match=r"answers 401: present a valid client certificate or token.*INFRAKIT_TOKEN_FILE"
        ):
            await client.connect(Instance, "far", server.urls[0])
        monkeypatch.setenv(remotes.TOKEN_VARIABLE, str(tmp_path / "none"))
        with pytest.raises(errors.Refused, match="the token cannot be read"):  # not NotFound: that is about instances
            await client.connect(Instance, "far", server.urls[0])


# -- listen addresses --------------------------------------------------------------------------------------------------


def test_listening_beyond_loopback_without_authentication_is_refused() -> None:
    files = tls.Files(cert="c", key="k")
    for refused, message in (
        (Listen(host="0.0.0.0", port=1), "plain TCP is for loopback"),
        (Listen(host="infra.example.org", port=1), "plain TCP is for loopback"),
        (Listen(host="::", port=1, tls=files), "any client that reaches it"),
        (Listen(host="10.0.0.1", port=1, token_file="t"), "a token over plain TCP could be intercepted"),
        (Listen(host="10.0.0.1", port=1, token_file="t", force=True), "a token over plain TCP could be intercepted"),
    ):
        with pytest.raises(errors.Refused, match=message):
            refused.check()
    for allowed in (
        Listen(host="127.0.0.1", port=1),
        Listen(host="127.8.9.1", port=1, token_file="t"),
        Listen(host="::1", port=1),
        Listen(host="localhost", port=1),
        Listen(host="0.0.0.0", port=1, force=True),
        Listen(host="0.0.0.0", port=1, tls=files, force=True),
        Listen(host="0.0.0.0", port=1, tls=files, token_file="t"),
        Listen(host="0.0.0.0", port=1, tls=tls.Files(cert="c", key="k", client_ca="ca")),
    ):
        allowed.check()


async def test_every_address_of_a_name_is_served_at_one_port(path: Path) -> None:
    async with Server(path, {}, listen=Listen(host="localhost", port=0)) as server:
        assert len({url.rpartition(":")[2] for url in server.urls}) == 1
        assert f"http://{HOST}:" in " ".join(server.urls)
        for url in server.urls:
            assert await asyncio.to_thread(call.hello, Remote(url=url)) == {}


async def test_a_name_may_have_addresses_that_this_machine_lacks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(socket.AF_INET, host) for host in ("192.0.2.1", HOST, "127.0.0.2", HOST)]

    async def resolved(*_: object, **__: object) -> list[object]:
        return [(family, socket.SOCK_STREAM, 6, "", (host, 0)) for family, host in places]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    async with Server(path, {}, listen=Listen(host="localhost", port=0)) as server:
        (host, port), (other, same) = (url.removeprefix("http://").split(":") for url in server.urls)
        assert (host, other, port) == (HOST, "127.0.0.2", same)


async def test_a_failed_start_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        where = Listen(host=HOST, port=taken.getsockname()[1])
        for listen, message in (
            (where, r"cannot listen at http://127.0.0.1:\d+: Address already in use"),
            (Listen(host="192.0.2.1", port=0, force=True), "cannot listen at .*: Cannot assign"),
            (Listen(host="no-such-host.invalid", port=0, force=True), "cannot listen at .*: "),
            (plain(token_file=str(tmp_path / "none")), "the tokens cannot be read"),
        ):
            with pytest.raises(errors.Refused, match=message):
                await Server(path, {}, listen=listen).__aenter__()
            assert list(path.parent.iterdir()) == []
    assert asyncio.all_tasks() == before


# -- unauthenticated clients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"])
async def test_requests_of_web_pages_are_rejected(path: Path, manager: RecordingManager, header: str) -> None:
    """Loopback requires no token, and any web page may send simple requests there."""
    async with Server(path, {".": manager}, listen=plain()) as server:
        async with connected(server.urls[0]) as page:
            assert (await page.exchange(post(HELLO, header))).status == 403
        async with connected(server.urls[0]) as page:
            answer = await page.exchange(f"GET /events HTTP/1.1\r\nHost: h\r\n{header}\r\n\r\n".encode())
            assert answer.status == 403
        await scale_as_ann(Remote(url=server.urls[0]))
    assert manager.who == "ann (anonymous)"


@pytest.mark.parametrize("beginning", [b"", b"POST / HT", b"POST / HTTP/1.1\r\nHost: h\r\n"])
async def test_an_idle_connection_is_closed(path: Path, beginning: bytes) -> None:
    async with Server(path, {".": CannedManager()}, listen=plain(), read_s=0.1) as server:
        async with connected(server.urls[0]) as peer:
            await peer.send(beginning)
            assert await peer.closed_by_peer() == b""
        async with connected(server.urls[0]) as active:
            assert (await active.exchange(post(HELLO))).status == 200
            async with connected(server.urls[0]) as peer:
                assert await peer.closed_by_peer() == b""  # by then the first connection has been idle for as long
            assert (await active.exchange(post(HELLO))).status == 200


async def test_a_tls_handshake_has_a_timeout(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "HANDSHAKE_S", 0.1)
    authority = Authority(tmp_path)
    cert, key = authority.server()
    async with Server(path, {}, listen=plain(tls=tls.Files(cert=cert, key=key))) as server:
        for beginning in (b"", b"\x16\x03\x01\x02\x00\x01"):
            async with connected(server.urls[0]) as peer:
                await peer.send(beginning)
                with contextlib.suppress(ConnectionError):
                    assert await peer.closed_by_peer() == b""
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100_000):
            async with connected(server.urls[0]) as peer:
                with contextlib.suppress(ConnectionError):
                    await peer.send(garbage)
                    assert b"HTTP" not in await peer.closed_by_peer()
        assert await asyncio.to_thread(call.hello, authority.remote(server.urls[0])) == {}
        assert server.connections <= 1


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "CONNECTIONS_MAX", 3)


@pytest.mark.usefixtures("_few")
async def test_connections_above_the_limit_are_rejected(path: Path) -> None:
    async with Server(path, {".": CannedManager()}, listen=plain()) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            inside = await stack.enter_async_context(connected(server.urls[0]))
            assert (await inside.exchange(post(HELLO))).status == 200
        assert server.connections == 3
        async with connected(server.urls[0]) as outside:
            answer = await outside.exchange(post(HELLO))
            assert (answer.status, answer.body) == (503, b"too many connections\n")
            assert await outside.closed_by_peer() == b""
        with socket.create_connection((HOST, int(server.urls[0].rpartition(":")[2]))) as early:
            early.sendall(post(HELLO))  # before the server accepts: if it closed at once, the response would be lost
            reader, writer = await asyncio.open_connection(sock=early.dup())
            assert (await reader.read()).endswith(b"too many connections\n")
            writer.close()
        with pytest.raises(errors.Refused, match="too many connections"):
            await scale_as_ann(Remote(url=server.urls[0]))
        with pytest.raises(errors.Refused, match="answers 503: too many connections"):
            await client.connect(Instance, "far", server.urls[0])
        assert (await inside.exchange(post(HELLO))).status == 200
        assert await call_in_thread(
            path, Manager.show, version=1
        )  # clients on TCP do not lock out the owner of the socket
        await stack.aclose()
        async with asyncio.timeout(DEADLINE_S):
            while server.connections:  # noqa: ASYNC110 - a closed connection sets no event
                await asyncio.sleep(0.01)
        await scale_as_ann(Remote(url=server.urls[0]))


@pytest.mark.usefixtures("_few")
async def test_connections_in_their_handshake_count_towards_the_limit(path: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.server()
    where = plain(tls=tls.Files(cert=cert, key=key))
    async with Server(path, {}, listen=where) as server, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(connected(server.urls[0]))
        async with connected(server.urls[0]) as outside:
            assert await outside.closed_by_peer() == b""
        assert server.connections == 3
    assert server.connections == 0


async def test_a_stopped_server_leaves_no_connection_open(path: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.server()
    before = asyncio.all_tasks()
    async with contextlib.AsyncExitStack() as stack:
        async with Server(path, {}, listen=plain(tls=tls.Files(cert=cert, key=key))) as server:
            context = tls.client_context(ca=authority.path)
            established = await stack.enter_async_context(connected(server.urls[0], ssl=context))
            assert (await established.exchange(post(HELLO))).status == 200
            arriving = await stack.enter_async_context(connected(server.urls[0]))
            await arriving.send(b"\x16")
        for each in (established, arriving):
            with contextlib.suppress(ConnectionError):
                assert await each.closed_by_peer() == b""
    assert server.connections == 0
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    gc.collect()  # an unclosed socket would emit a warning, which fails the test


def test_the_connection_limit_respects_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connections_max(limit: int) -> int:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
        return Acceptor(lambda _: None, first_s=1, body_bytes_max=1).connections_max

    assert asyncio.run(connections_max(1024)) == 256
    assert asyncio.run(connections_max(1_000_000)) == acceptor.CONNECTIONS_MAX
    assert asyncio.run(connections_max(resource.RLIM_INFINITY)) == acceptor.CONNECTIONS_MAX


async def test_a_connection_during_shutdown_causes_no_error(path: Path) -> None:
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    bound = unix.bind(path)
    with contextlib.closing(bound), socket.socket(socket.AF_UNIX) as caller:
        async with acceptor.accepting(Acceptor(lambda _: None, first_s=1, body_bytes_max=1), [bound]):
            for _ in range(10):  # steps after which it listens
                await asyncio.sleep(0)
            caller.connect(str(path))
            await asyncio.sleep(0)  # the listener is notified in the very step in which it is closed
    assert reported == []


async def test_accepting_continues_after_a_lack_of_file_descriptors(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, failures = socket.socket.accept, [OSError(24, "Too many open files"), ConnectionAbortedError(103, "gone")]

    def scarce(bound: socket.socket) -> object:
        if failures:
            raise failures.pop()
        return original(bound)

    monkeypatch.setattr(socket.socket, "accept", scarce)
    async with Server(path, {".": CannedManager()}):
        assert await call_in_thread(path, Manager.show, version=1)
    assert failures == []
