"""TCP for other machines: tokens, what may be listened at, and strangers who knock."""

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

from infrakit.rpc import acceptor, call, client, guard, remotes, tls, tokens, transport, unix
from infrakit.rpc.acceptor import Acceptor
from infrakit.rpc.listen import Listen
from infrakit.rpc.remotes import Remote
from infrakit.rpc.server import Server
from infrakit.spi import errors
from infrakit.spi.instance import Instance
from infrakit.spi.manager import Manager
from infrakit.spi.values import InstanceSpec
from tests.integration.rpc.authority import HOST, Authority, Remembering, scaled
from tests.integration.rpc.daemons import DEADLINE_S, Connection, ask, post, rpc
from tests.unit.cli.canned import CannedManager
from tests.unit.rpc.plugins import Provider

HELLO = rpc("Handshake.Hello")


@contextlib.asynccontextmanager
async def knocking(url: str, **more: ssl.SSLContext) -> AsyncIterator[Connection]:
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
def manager() -> Remembering:
    return Remembering()


@pytest.fixture
async def guarded(path: Path, tmp_path: Path, manager: Remembering) -> AsyncIterator[tuple[str, Path]]:
    """The URL of a daemon that asks for a token, on loopback, and the directory of its files."""
    file = tmp_path / "tokens"
    (tmp_path / "ann.token").write_text(tokens.issue(file, "ann") + "\n")
    async with Server(path, {".": manager}, listen=plain(token_file=str(file))) as server:
        yield server.urls[0], tmp_path


async def test_a_token_says_who_calls(guarded: tuple[str, Path], manager: Remembering) -> None:
    url, directory = guarded
    await scaled(Remote(url=url, token_file=str(directory / "ann.token")))
    assert manager.who == "ann"
    secret = (directory / "ann.token").read_text().strip()
    assert secret not in (directory / "tokens").read_text()
    assert hashlib.sha256(secret.encode()).hexdigest() in (directory / "tokens").read_text()
    assert stat.S_IMODE((directory / "tokens").stat().st_mode) == 0o600


async def test_without_a_token_or_with_a_wrong_one_nothing_is_done(
    guarded: tuple[str, Path], manager: Remembering
) -> None:
    url, directory = guarded
    (directory / "wrong").write_text("guess")
    for remote in (Remote(url=url), Remote(url=url, token_file=str(directory / "wrong"))):
        with pytest.raises(errors.Refused, match="show a certificate or a token that is known here"):
            await scaled(remote)
        with pytest.raises(errors.Refused, match="show a certificate or a token"):
            await asyncio.to_thread(lambda r: list(call.events(r, since=0, group=None, follow=False)), remote)
    assert manager.who == ""
    for content, words in ((None, "the token cannot be read"), ("", "holds no token"), ("ä", "holds no token")):
        file = directory / "mine"
        if content is not None:
            file.write_text(content)
        with pytest.raises(errors.Refused, match=words):
            await scaled(Remote(url=url, token_file=str(file)))


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YW5uOng=", "Bearer \xff\xfe", "Bearer " + "x" * 4000, "Bearer 0 0", "bearer\tx"],
)
async def test_whatever_else_is_shown_is_no_token(
    guarded: tuple[str, Path], header: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with knocking(guarded[0]) as stranger:
        request = post(HELLO, f"Authorization: {header}").decode().encode("latin-1")
        assert (await stranger.exchange(request)).status == 401
    assert caplog.records == []


@pytest.mark.parametrize("target", ["/events", "/info/api.json", "/health", "/nope", "/watch"])
async def test_without_one_nothing_is_shown(guarded: tuple[str, Path], target: str) -> None:
    async with knocking(guarded[0]) as stranger:
        answer = await stranger.exchange(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_token_is_struck_out_while_its_connection_lives(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard, "RELOAD_S", 0.02)
    file = tmp_path / "tokens"
    secret = tokens.issue(file, "ann")
    request = post(HELLO, f"Authorization: Bearer {secret}")
    async with Server(path, {}, listen=plain(token_file=str(file))) as server, knocking(server.urls[0]) as ann:
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


def test_a_wrong_file_of_tokens_is_refused(tmp_path: Path) -> None:
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


def test_a_token_is_added_to_a_file_that_people_have_edited(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# ours\nann:{'0' * 64}")
    file.chmod(0o600)
    secret = tokens.issue(file, "bob")
    assert tokens.Tokens(file).name(f"Bearer {secret}") == "bob"
    for name in ("", "a:b", "a\nb", " a", "#a"):
        with pytest.raises(errors.Refused, match="cannot be the name of a token"):
            tokens.issue(file, name)


def test_a_token_is_not_sent_where_others_could_read_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    with pytest.raises(errors.Refused, match=r"a token over plain HTTP could be intercepted; use https"):
        Remote(url="http://10.0.0.1:1", token_file=str(tmp_path / "token")).token()
    for url in ("https://10.0.0.1:1", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"):
        assert Remote(url=url, token_file=str(tmp_path / "token")).token() == "secret"


def test_a_plugin_is_shown_what_the_environment_names_and_it_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (remotes.CA_VARIABLE, remotes.CERT_VARIABLE, remotes.KEY_VARIABLE, remotes.TOKEN_VARIABLE):
        monkeypatch.setenv(name, name.lower())
    files = {"ca": "infrakit_tls_ca", "cert": "infrakit_tls_cert", "key": "infrakit_tls_key"}
    token = {"token_file": "infrakit_token_file"}
    assert remotes.plugin("https://10.0.0.1:1") == Remote(url="https://10.0.0.1:1", **files, **token)
    assert remotes.plugin("http://127.0.0.1:1") == Remote(url="http://127.0.0.1:1", **token)
    assert remotes.plugin("http://10.0.0.1:1") == Remote(url="http://10.0.0.1:1")


async def test_a_plugin_that_asks_for_a_token(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, mine = Provider(), tmp_path / "mine"
    mine.write_text(tokens.issue(tmp_path / "tokens", "daemon-1"))
    monkeypatch.setenv(remotes.TOKEN_VARIABLE, str(mine))
    async with Server(path, {".": provider}, listen=plain(token_file=str(tmp_path / "tokens"))) as server:
        async with transport.opened(server.urls[0]) as fresh:  # nobody runs ahead of the reading of the token
            await asyncio.gather(*(fresh.post(HELLO, deadline_s=DEADLINE_S) for _ in range(5)))
        remote = await client.connect(Instance, "far", server.urls[0])
        await asyncio.gather(*(remote.provision(spec=InstanceSpec()) for _ in range(5)))
        assert len(provider.asked) == 5
        await remote.close()
        monkeypatch.delenv(remotes.TOKEN_VARIABLE)
        with pytest.raises(errors.Refused, match=r"answers 401: show a certificate or a token.*INFRAKIT_TOKEN_FILE"):
            await client.connect(Instance, "far", server.urls[0])
        monkeypatch.setenv(remotes.TOKEN_VARIABLE, str(tmp_path / "none"))
        with pytest.raises(errors.Refused, match="the token cannot be read"):  # not NotFound: that is about instances
            await client.connect(Instance, "far", server.urls[0])


# -- where -------------------------------------------------------------------------------------------------------------


def test_strangers_are_not_given_control_by_mistake() -> None:
    files = tls.Files(cert="c", key="k")
    for refused, words in (
        (Listen(host="0.0.0.0", port=1), "plain TCP is for loopback"),
        (Listen(host="infra.example.org", port=1), "plain TCP is for loopback"),
        (Listen(host="::", port=1, tls=files), "any client that reaches it"),
        (Listen(host="10.0.0.1", port=1, token_file="t"), "a token over plain TCP could be intercepted"),
        (Listen(host="10.0.0.1", port=1, token_file="t", force=True), "a token over plain TCP could be intercepted"),
    ):
        with pytest.raises(errors.Refused, match=words):
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


async def test_a_start_that_fails_leaves_nothing(path: Path, tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        where = Listen(host=HOST, port=taken.getsockname()[1])
        for listen, words in (
            (where, r"cannot listen at http://127.0.0.1:\d+: Address already in use"),
            (Listen(host="192.0.2.1", port=0, force=True), "cannot listen at .*: Cannot assign"),
            (Listen(host="no-such-host.invalid", port=0, force=True), "cannot listen at .*: "),
            (plain(token_file=str(tmp_path / "none")), "the tokens cannot be read"),
        ):
            with pytest.raises(errors.Refused, match=words):
                await Server(path, {}, listen=listen).__aenter__()
            assert list(path.parent.iterdir()) == []
    assert asyncio.all_tasks() == before


# -- strangers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"])
async def test_pages_of_browsers_reach_nothing(path: Path, manager: Remembering, header: str) -> None:
    """On loopback no token is asked for, and any page may send there what is plain enough."""
    async with Server(path, {".": manager}, listen=plain()) as server:
        async with knocking(server.urls[0]) as page:
            assert (await page.exchange(post(HELLO, header))).status == 403
        async with knocking(server.urls[0]) as page:
            answer = await page.exchange(f"GET /events HTTP/1.1\r\nHost: h\r\n{header}\r\n\r\n".encode())
            assert answer.status == 403
        await scaled(Remote(url=server.urls[0]))
    assert manager.who == "ann (anonymous)"


@pytest.mark.parametrize("beginning", [b"", b"POST / HT", b"POST / HTTP/1.1\r\nHost: h\r\n"])
async def test_who_asks_nothing_is_let_go(path: Path, beginning: bytes) -> None:
    async with Server(path, {".": CannedManager()}, listen=plain(), read_s=0.1) as server:
        async with knocking(server.urls[0]) as stranger:
            await stranger.send(beginning)
            assert await stranger.closed_by_peer() == b""
        async with knocking(server.urls[0]) as known:
            assert (await known.exchange(post(HELLO))).status == 200
            async with knocking(server.urls[0]) as stranger:
                assert await stranger.closed_by_peer() == b""  # by then the other has been silent for as long
            assert (await known.exchange(post(HELLO))).status == 200


async def test_a_handshake_has_a_deadline(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "HANDSHAKE_S", 0.1)
    authority = Authority(tmp_path)
    cert, key = authority.server()
    async with Server(path, {}, listen=plain(tls=tls.Files(cert=cert, key=key))) as server:
        for beginning in (b"", b"\x16\x03\x01\x02\x00\x01"):
            async with knocking(server.urls[0]) as stranger:
                await stranger.send(beginning)
                with contextlib.suppress(ConnectionError):
                    assert await stranger.closed_by_peer() == b""
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100_000):
            async with knocking(server.urls[0]) as stranger:
                with contextlib.suppress(ConnectionError):
                    await stranger.send(garbage)
                    assert b"HTTP" not in await stranger.closed_by_peer()
        assert await asyncio.to_thread(call.hello, authority.remote(server.urls[0])) == {}
        assert server.connections <= 1


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "CONNECTIONS_MAX", 3)


@pytest.mark.usefixtures("_few")
async def test_above_the_limit_callers_are_turned_away(path: Path) -> None:
    async with Server(path, {".": CannedManager()}, listen=plain()) as server, contextlib.AsyncExitStack() as crowd:
        for _ in range(3):
            inside = await crowd.enter_async_context(knocking(server.urls[0]))
            assert (await inside.exchange(post(HELLO))).status == 200
        assert server.connections == 3
        async with knocking(server.urls[0]) as outside:
            answer = await outside.exchange(post(HELLO))
            assert (answer.status, answer.body) == (503, b"too many connections\n")
            assert await outside.closed_by_peer() == b""
        with socket.create_connection((HOST, int(server.urls[0].rpartition(":")[2]))) as early:
            early.sendall(post(HELLO))  # before anybody looks: closed now, the connection would break without a word
            reader, writer = await asyncio.open_connection(sock=early.dup())
            assert (await reader.read()).endswith(b"too many connections\n")
            writer.close()
        with pytest.raises(errors.Refused, match="too many connections"):
            await scaled(Remote(url=server.urls[0]))
        with pytest.raises(errors.Refused, match="answers 503: too many connections"):
            await client.connect(Instance, "far", server.urls[0])
        assert (await inside.exchange(post(HELLO))).status == 200
        assert await ask(path, Manager.show, version=1)  # strangers do not lock out the owner
        await crowd.aclose()
        async with asyncio.timeout(DEADLINE_S):
            while server.connections:  # noqa: ASYNC110 - the server notices when it notices
                await asyncio.sleep(0.01)
        await scaled(Remote(url=server.urls[0]))


@pytest.mark.usefixtures("_few")
async def test_those_in_their_handshake_count(path: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.server()
    where = plain(tls=tls.Files(cert=cert, key=key))
    async with Server(path, {}, listen=where) as server, contextlib.AsyncExitStack() as crowd:
        for _ in range(3):
            await crowd.enter_async_context(knocking(server.urls[0]))
        async with knocking(server.urls[0]) as outside:
            assert await outside.closed_by_peer() == b""
        assert server.connections == 3
    assert server.connections == 0


async def test_a_server_that_stops_leaves_no_connection(path: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.server()
    before = asyncio.all_tasks()
    async with contextlib.AsyncExitStack() as crowd:
        async with Server(path, {}, listen=plain(tls=tls.Files(cert=cert, key=key))) as server:
            context = tls.client_context(ca=authority.path)
            settled = await crowd.enter_async_context(knocking(server.urls[0], ssl=context))
            assert (await settled.exchange(post(HELLO))).status == 200
            arriving = await crowd.enter_async_context(knocking(server.urls[0]))
            await arriving.send(b"\x16")
        for each in (settled, arriving):
            with contextlib.suppress(ConnectionError):
                assert await each.closed_by_peer() == b""
    assert server.connections == 0
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    gc.collect()  # a socket that was forgotten would be told as a warning, which fails the test


def test_where_few_files_may_be_opened_few_connections_are(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connections_max(limit: int) -> int:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
        return Acceptor(lambda _: None, first_s=1, body_bytes_max=1).connections_max

    assert asyncio.run(connections_max(1024)) == 256
    assert asyncio.run(connections_max(1_000_000)) == acceptor.CONNECTIONS_MAX
    assert asyncio.run(connections_max(resource.RLIM_INFINITY)) == acceptor.CONNECTIONS_MAX


async def test_a_caller_who_comes_as_it_stops_leaves_no_complaint(path: Path) -> None:
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    bound = unix.bind(path)
    with contextlib.closing(bound), socket.socket(socket.AF_UNIX) as caller:
        async with acceptor.accepting(Acceptor(lambda _: None, first_s=1, body_bytes_max=1), [bound]):
            for _ in range(10):  # steps after which it listens
                await asyncio.sleep(0)
            caller.connect(str(path))
            await asyncio.sleep(0)  # the listener is told in the very step in which it is ended
    assert complaints == []


async def test_without_files_to_open_it_waits_and_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, failures = socket.socket.accept, [OSError(24, "Too many open files"), ConnectionAbortedError(103, "gone")]

    def scarce(bound: socket.socket) -> object:
        if failures:
            raise failures.pop()
        return whole(bound)

    monkeypatch.setattr(socket.socket, "accept", scarce)
    async with Server(path, {".": CannedManager()}):
        assert await ask(path, Manager.show, version=1)
    assert failures == []
