"""Other machines: TLS with certificates of both sides, tokens, and what is refused."""

import asyncio
import hashlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from infrakit.rpc import call, client, listen, tls, tokens
from infrakit.rpc.listen import Listen
from infrakit.rpc.remotes import Remote
from infrakit.rpc.server import Server
from infrakit.spi import errors
from infrakit.spi.instance import Instance
from infrakit.spi.manager import Manager
from tests.unit.cli.canned import CannedManager
from tests.unit.rpc.plugins import Provider

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Authority:
    """Certificates in files, as an operator would have them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.path = str(directory / "ca.pem")
        self.ca.cert_pem.write_to_path(self.path)

    def server(self, name: str = "server", *, host: str = HOST, **more: Any) -> tuple[str, str]:
        return self._write(name, self.ca.issue_cert(host, **more))

    def client(self, name: str, **more: Any) -> tuple[str, str]:
        return self._write(name, self.ca.issue_cert(f"{name}@example.org", common_name=name, **more))

    def _write(self, name: str, issued: trustme.LeafCert) -> tuple[str, str]:
        cert, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        issued.private_key_pem.write_to_path(str(key))
        issued.cert_chain_pems[0].write_to_path(str(cert))
        return str(cert), str(key)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Remembering(CannedManager):
    """Knows who scaled last."""

    who = ""

    async def scale(self, **order: Any) -> Any:
        self.who = order["who"]
        return await super().scale(**order)


async def scaled(remote: Remote) -> None:
    order: dict[str, Any] = {"group": "web", "size": 2, "who": "ann", "why": "x", "expected": None}
    await asyncio.to_thread(lambda: call.call(remote, Manager.scale, **order))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20.0):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - a file's change makes no event
            await asyncio.sleep(0.02)


@pytest.fixture
def manager() -> Remembering:
    return Remembering()


@pytest.fixture
async def mutual(path: Path, authority: Authority, manager: Remembering) -> AsyncIterator[str]:
    """The URL of a daemon that asks for certificates."""
    cert, key = authority.server()
    files = tls.Files(cert=cert, key=key, client_ca=authority.path)
    where = Listen(host=HOST, port=free_port(), tls=files)
    async with Server(path, {".": manager}, listen=where):
        yield where.url


async def test_both_sides_show_a_certificate_and_the_caller_is_known(
    mutual: str, authority: Authority, manager: Remembering
) -> None:
    cert, key = authority.client("ops-1")
    await scaled(Remote(url=mutual, ca=authority.path, cert=cert, key=key))
    assert manager.who == "ann (certificate ops-1)"


async def test_who_shows_none_or_a_stranger_one_is_refused(mutual: str, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    cert, key = stranger.client("mallory")
    for remote in (
        Remote(url=mutual, ca=authority.path),
        Remote(url=mutual, ca=authority.path, cert=cert, key=key),
    ):
        with pytest.raises((errors.Unreachable, errors.OutcomeUnknown)) as refused:
            await scaled(remote)
        assert "certificate" in str(refused.value).lower() or "broke" in str(refused.value)


async def test_an_expired_certificate_is_refused(mutual: str, authority: Authority) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    cert, key = authority.client("late", not_before=past - timedelta(days=1), not_after=past)
    with pytest.raises((errors.Unreachable, errors.OutcomeUnknown)):
        await scaled(Remote(url=mutual, ca=authority.path, cert=cert, key=key))


async def test_a_server_that_cannot_prove_itself_is_not_asked(
    mutual: str, authority: Authority, tmp_path: Path, path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    cert, key = authority.client("ops-1")
    with pytest.raises(errors.Unreachable, match=r"its certificate is not accepted here: self-signed certificate"):
        await scaled(Remote(name="prod", url=mutual, ca=stranger.path, cert=cert, key=key))
    wrong, wrong_key = authority.server("wrong", host="10.9.9.9")
    where = Listen(host=HOST, port=free_port(), tls=tls.Files(cert=wrong, key=wrong_key))
    async with Server(path.with_name("q"), {".": CannedManager()}, listen=where):
        with pytest.raises(errors.Unreachable, match=r"remote prod \(https.*not accepted here: IP address mismatch"):
            await scaled(Remote(name="prod", url=where.url, ca=authority.path))


async def test_a_certificate_is_renewed_while_it_is_served(
    path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "RELOAD_S", 0.02)
    cert, key = authority.server()
    where = Listen(host=HOST, port=free_port(), tls=tls.Files(cert=cert, key=key))

    def shown() -> bytes:
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((HOST, where.port)))

    async with Server(path, {".": CannedManager()}, listen=where):
        first = await asyncio.to_thread(shown)
        renewed, renewed_key = authority.server("renewed")
        await asyncio.to_thread(os.replace, renewed_key, key)
        await asyncio.to_thread(os.replace, renewed, cert)
        await until(lambda: shown() != first)
        second = await asyncio.to_thread(shown)
        await asyncio.to_thread(Path(cert).write_text, "broken")
        await until(lambda: "the old certificate is kept" in caplog.text)
        assert await asyncio.to_thread(shown) == second


@pytest.fixture
async def guarded(path: Path, tmp_path: Path, manager: Remembering) -> AsyncIterator[tuple[str, Path]]:
    """The URL of a daemon that asks for a token, on loopback, and the file of tokens."""
    file = tmp_path / "tokens"
    (tmp_path / "ann.token").write_text(tokens.issue(file, "ann") + "\n")
    where = Listen(host=HOST, port=free_port(), token_file=str(file))
    async with Server(path, {".": manager}, listen=where):
        yield where.url, tmp_path


async def test_a_token_says_who_calls(guarded: tuple[str, Path], manager: Remembering) -> None:
    url, directory = guarded
    await scaled(Remote(url=url, token_file=str(directory / "ann.token")))
    assert manager.who == "ann"
    assert "ann.token" not in (directory / "tokens").read_text()
    secret = (directory / "ann.token").read_text().strip()
    assert secret not in (directory / "tokens").read_text()
    assert hashlib.sha256(secret.encode()).hexdigest() in (directory / "tokens").read_text()


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
    with pytest.raises(errors.NotFound, match="the token cannot be read"):
        await scaled(Remote(url=url, token_file=str(directory / "none")))


async def test_tokens_are_read_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manager: Remembering
) -> None:
    monkeypatch.setattr(tokens, "RELOAD_S", 0.02)
    tokens.issue(tmp_path / "tokens", "ann")
    where = Listen(host=HOST, port=free_port(), token_file=str(tmp_path / "tokens"))
    async with Server(path, {".": manager}, listen=where):
        (tmp_path / "bob").write_text(tokens.issue(tmp_path / "tokens", "bob"))
        async with asyncio.timeout(20.0):
            while not manager.who:
                try:
                    await scaled(Remote(url=where.url, token_file=str(tmp_path / "bob")))
                except errors.Refused:
                    await asyncio.sleep(0.02)
    assert manager.who == "ann (token bob)"


@pytest.mark.parametrize("content", ["ann", "ann:short", ":" + "0" * 64])
def test_a_wrong_file_of_tokens_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokens").write_text(content)
    (tmp_path / "tokens").chmod(0o600)
    with pytest.raises(errors.Refused, match="line 1 is not NAME:SHA256"):
        tokens.Tokens(tmp_path / "tokens")
    (tmp_path / "tokens").chmod(0o640)
    with pytest.raises(errors.Refused, match="others may read or write it"):
        tokens.Tokens(tmp_path / "tokens")


def test_strangers_are_not_given_control_by_mistake(tmp_path: Path) -> None:
    files = tls.Files(cert="c", key="k")
    with pytest.raises(errors.Refused, match="plain TCP is for loopback"):
        Listen(host="0.0.0.0", port=1).check()
    with pytest.raises(errors.Refused, match="plain TCP is for loopback"):
        Listen(host="10.0.0.1", port=1, token_file="t").check()
    with pytest.raises(errors.Refused, match="anybody who can reach it"):
        Listen(host="::", port=1, tls=files).check()
    for allowed in (
        Listen(host="127.0.0.1", port=1),
        Listen(host="::1", port=1),
        Listen(host="localhost", port=1),
        Listen(host="0.0.0.0", port=1, force=True),
        Listen(host="0.0.0.0", port=1, tls=files, token_file="t"),
        Listen(host="0.0.0.0", port=1, tls=tls.Files(cert="c", key="k", client_ca="ca")),
    ):
        allowed.check()


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(errors.Refused, match=r"none\.pem"):
        tls.server_context(tls.Files(cert=str(tmp_path / "none.pem"), key="x"))
    with pytest.raises(errors.Refused, match="no certificates of an authority"):
        tls.client_context(ca=str(tmp_path / "none.pem"))


@pytest.mark.parametrize(
    ("text", "expected"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("tcp://a:1", ("a", 1)), ("[::1]:5", ("::1", 5))]
)
def test_addresses_to_listen_at(text: str, expected: tuple[str, int]) -> None:
    assert listen.parse(text) == expected


@pytest.mark.parametrize("text", ["", "80", "a:", "a:x", "a:99999"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(errors.Refused, match="is no address to listen at"):
        listen.parse(text)


async def test_a_plugin_on_another_machine(
    path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cert, key = authority.server()
    where = Listen(host=HOST, port=free_port(), tls=tls.Files(cert=cert, key=key, client_ca=authority.path))
    mine, my_key = authority.client("daemon-1")
    for name, value in ((tls.CA_VARIABLE, authority.path), (tls.CERT_VARIABLE, mine), (tls.KEY_VARIABLE, my_key)):
        monkeypatch.setenv(name, value)
    async with Server(path, {".": Provider()}, listen=where):
        remote = await client.connect(Instance, "far", where.url)
        assert await remote.describe_instances(tags={}) == []
        await remote.close()
        monkeypatch.setenv(tls.CERT_VARIABLE, "")
        with pytest.raises(errors.Unreachable):
            await client.connect(Instance, "far", where.url)
