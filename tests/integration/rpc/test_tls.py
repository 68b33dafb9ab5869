"""TLS with server and client certificates: what is accepted, what is refused, and the error messages."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from infrakit.rpc import authentication, client, listen, remotes, tls, validity
from infrakit.rpc.listen import Listen
from infrakit.rpc.remotes import Remote
from infrakit.rpc.server import Server
from infrakit.spi import errors
from infrakit.spi.instance import Instance
from tests.integration.rpc.authority import EXPIRED, HOST, YESTERDAY, Authority, RecordingManager, scale_as_ann
from tests.unit.cli.canned import CannedManager
from tests.unit.rpc.plugins import Provider


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def other_authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "theirs")


@pytest.fixture
def manager() -> RecordingManager:
    return RecordingManager()


def serving(authority: Authority, host: str = HOST, *, mutual: bool = False) -> Listen:
    cert, key = authority.server(host=host)
    files = tls.Files(cert=cert, key=key, client_ca=authority.path if mutual else "")
    return Listen(host=HOST, port=0, tls=files)


@pytest.fixture
async def mutual(path: Path, authority: Authority, manager: RecordingManager) -> AsyncIterator[str]:
    """The URL of a daemon that requires client certificates."""
    async with Server(path, {".": manager}, listen=serving(authority, mutual=True)) as server:
        yield server.urls[0]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20.0):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - a file's change makes no event
            await asyncio.sleep(0.02)


def presented(url: str) -> bytes:
    """The certificate that the server presents now."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((HOST, int(url.rpartition(":")[2]))))


# -- client certificates -----------------------------------------------------------------------------------------------


async def test_a_client_certificate_identifies_the_caller(
    mutual: str, authority: Authority, manager: RecordingManager
) -> None:
    await scale_as_ann(authority.remote(mutual, "ops-1"))
    assert manager.who == "ann (certificate ops-1)"
    await scale_as_ann(authority.remote(mutual, "ann"))
    assert manager.who == "ann"


async def test_a_client_without_a_certificate_is_rejected(
    mutual: str, authority: Authority, manager: RecordingManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "infrakit")
    with pytest.raises(errors.Unreachable, match=r"remote prod .*requires a client certificate; .*--cert FILE"):
        await scale_as_ann(authority.remote(mutual))
    assert manager.who == ""
    assert f"{HOST}:" in caplog.text
    assert "was rejected" in caplog.text


async def test_a_client_certificate_of_another_authority_is_rejected(
    mutual: str, authority: Authority, other_authority: Authority, manager: RecordingManager
) -> None:
    cert, key = other_authority.client("mallory")
    with pytest.raises(errors.Unreachable, match=rf"probably rejected our certificate {cert}; .*--tls-client-ca"):
        await scale_as_ann(Remote(url=mutual, ca=authority.path, cert=cert, key=key))
    assert manager.who == ""


async def test_an_expired_client_certificate_is_rejected_and_named(
    mutual: str, authority: Authority, manager: RecordingManager
) -> None:
    remote = authority.remote(mutual, "late", **EXPIRED)
    with pytest.raises(errors.Unreachable) as refused:
        await scale_as_ann(remote)
    assert f"our certificate {remote.cert} expired on {YESTERDAY:%Y-%m-%d %H:%M} UTC; renew it" in str(refused.value)
    assert manager.who == ""


async def test_client_certificates_with_tls_1_2(
    mutual: str, authority: Authority, manager: RecordingManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = tls.client_context

    def older(**files: str) -> ssl.SSLContext:
        context = original(**files)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    monkeypatch.setattr(tls, "client_context", older)
    await scale_as_ann(authority.remote(mutual, "ops-1"))
    assert manager.who == "ann (certificate ops-1)"
    with pytest.raises(errors.Unreachable):
        await scale_as_ann(authority.remote(mutual))


# -- server certificates -----------------------------------------------------------------------------------------------


async def test_a_server_certificate_of_another_authority_is_rejected(mutual: str, other_authority: Authority) -> None:
    message = rf"remote prod \({mutual}\): the server's certificate is not signed by {other_authority.path} .*--ca FILE"
    with pytest.raises(errors.Unreachable, match=message):
        await scale_as_ann(other_authority.remote(mutual, "ops-1"))


async def test_a_server_certificate_for_another_host_is_rejected(
    path: Path, authority: Authority, manager: RecordingManager
) -> None:
    async with Server(path, {".": manager}, listen=serving(authority, "10.9.9.9")) as server:
        with pytest.raises(errors.Unreachable, match=r"is for another host: .*not valid for '127\.0\.0\.1'"):
            await scale_as_ann(authority.remote(server.urls[0]))
    assert manager.who == ""


async def test_an_expired_server_certificate_is_rejected(
    path: Path, authority: Authority, manager: RecordingManager
) -> None:
    cert, key = authority.server(**EXPIRED)
    where = Listen(host=HOST, port=0, tls=tls.Files(cert=cert, key=key))
    async with Server(path, {".": manager}, listen=where) as server:
        with pytest.raises(errors.Unreachable) as refused:
            await scale_as_ann(authority.remote(server.urls[0]))
    assert f"the server's certificate expired on {YESTERDAY:%Y-%m-%d %H:%M} UTC; renew the file of --tls-cert" in str(
        refused.value
    )
    assert manager.who == ""


async def test_a_server_without_tls_is_reported(path: Path, authority: Authority) -> None:
    async with Server(path, {".": CannedManager()}, listen=Listen(host=HOST, port=0)) as server:
        with pytest.raises(errors.Unreachable, match=r"the TLS handshake failed \(.*check the URL"):
            await scale_as_ann(authority.remote(server.urls[0].replace("http:", "https:")))
        url = server.urls[0]
    with pytest.raises(
        errors.Unreachable, match=r"cannot be reached \(Connection refused\); .*infrakit remote use local"
    ):
        await scale_as_ann(Remote(name="prod", url=url))


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "RELOAD_S", 0.02)


@pytest.mark.usefixtures("_short_interval")
async def test_a_certificate_is_renewed_during_open_connections(
    path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    where = serving(authority)
    assert where.tls is not None
    cert, key = where.tls.cert, where.tls.key
    async with Server(path, {".": CannedManager()}, listen=where) as server:
        url = server.urls[0]
        context = tls.client_context(ca=authority.path)
        reader, writer = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]), ssl=context)
        first = await asyncio.to_thread(presented, url)
        renewed, renewed_key = authority.server("renewed")
        await asyncio.to_thread(os.replace, renewed_key, key)
        await asyncio.to_thread(os.replace, renewed, cert)
        await until(lambda: presented(url) != first)
        second = await asyncio.to_thread(presented, url)
        await asyncio.to_thread(Path(cert).write_text, "broken")
        await until(lambda: "the previous content stays in force" in caplog.text)
        assert await asyncio.to_thread(presented, url) == second
        await asyncio.to_thread(Path(key).write_text, "broken too")
        await until(
            lambda: caplog.text.count("stays in force") == 2
        )  # once for each change, however often the file is checked
        writer.write(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")  # on the connection of the first certificate
        assert b"200 OK" in await reader.readline()
        writer.close()


@pytest.mark.usefixtures("_short_interval")
async def test_an_authority_is_replaced_without_a_restart(
    path: Path, authority: Authority, other_authority: Authority, manager: RecordingManager
) -> None:
    async with Server(path, {".": manager}, listen=serving(authority, mutual=True)) as server:
        old = authority.remote(server.urls[0], "ops-1")
        cert, key = other_authority.client("ops-2")
        new = Remote(url=server.urls[0], ca=authority.path, cert=cert, key=key)
        (authority.directory / "kept.pem").write_bytes((authority.directory / "ca.pem").read_bytes())
        await scale_as_ann(old)
        await asyncio.to_thread(os.replace, other_authority.path, authority.path)
        old, new = (
            Remote(url=r.url, ca=str(authority.directory / "kept.pem"), cert=r.cert, key=r.key) for r in (old, new)
        )

        def accepted() -> bool:
            try:
                asyncio.run(scale_as_ann(new))
            except errors.Unreachable:
                return False
            return True

        await until(accepted)
        assert manager.who == "ann (certificate ops-2)"
        with pytest.raises(errors.Unreachable):
            await scale_as_ann(old)


def test_invalid_files_are_named(authority: Authority) -> None:
    cert, key = authority.server()
    other_cert, other_key = authority.server("other")
    none, nonsense = str(authority.directory / "none.pem"), authority.directory / "nonsense.pem"
    nonsense.write_text("nonsense")
    for files, message in (
        (tls.Files(cert=none, key=key), rf"{none}: the certificate cannot be read: No such file"),
        (tls.Files(cert=cert, key=none), rf"{none}: the key cannot be read: No such file"),
        (tls.Files(cert=cert, key=other_key), rf"{other_key}: the key does not match the certificate {cert}"),
        (tls.Files(cert=str(nonsense), key=key), rf"{nonsense}: the file holds no readable certificate"),
        (tls.Files(cert=other_cert, key=str(nonsense)), rf"{nonsense}: the file holds no readable key"),
        (tls.Files(cert=cert, key=key, client_ca=str(nonsense)), rf"{nonsense}: the file holds no CA certificates"),
        (tls.Files(cert=cert, key=key, client_ca=none), rf"{none}: the CA certificates cannot be read"),
    ):
        with pytest.raises(errors.Refused, match=message):
            tls.server_context(files)


def test_an_encrypted_key_is_refused(authority: Authority) -> None:
    cert, key = authority.server()
    loaded = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    Path(key).write_bytes(loaded.private_bytes(serialization.Encoding.PEM, form, secret))
    with pytest.raises(errors.Refused, match=rf"{key}: the key is encrypted; a daemon cannot prompt for a password"):
        tls.server_context(tls.Files(cert=cert, key=key))


def test_the_validity_of_a_certificate_is_read_from_its_bytes(authority: Authority) -> None:
    late, _ = authority.client("late", **EXPIRED)
    early, _ = authority.client(
        "early", not_before=YESTERDAY.replace(year=2048), not_after=YESTERDAY.replace(year=2051)
    )
    assert validity.of_file(late) == f"expired on {YESTERDAY:%Y-%m-%d %H:%M} UTC"
    assert validity.of_file(early) == f"is not valid before 2048-{YESTERDAY:%m-%d %H:%M} UTC"
    assert validity.of_file(authority.server()[0]) == ""
    der = ssl.PEM_cert_to_DER_cert(Path(late).read_text())
    assert all(validity.of(der[:n]) == "" for n in range(60))
    assert validity.of_file(str(authority.directory / "none")) == ""


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        ({"subject": ((("organizationName", "x"),), (("commonName", "ops"),))}, "ops"),
        ({"subject": (), "subjectAltName": (("URI", "spiffe://x/ops"),)}, "spiffe://x/ops"),
        ({"subject": ((("commonName", "a\nb\x1b[2J"),),)}, "ab[2J"),
        ({"subject": (), "serialNumber": "0A"}, "number 0A"),
        ({"subject": ((("commonName", "\n"),),), "serialNumber": "0A"}, "number 0A"),
        ({"subject": ((("commonName", "x" * 5000),),)}, "x" * 200),
    ],
)
def test_every_certificate_yields_a_name(certificate: dict[str, object], name: str) -> None:
    assert tls.name_of(certificate) == name


# -- plugins -----------------------------------------------------------------------------------------------------------


async def test_a_plugin_on_another_machine_gets_our_client_certificate(
    path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine, my_key = authority.client("daemon-1")
    for name, value in (
        (remotes.CA_VARIABLE, authority.path),
        (remotes.CERT_VARIABLE, mine),
        (remotes.KEY_VARIABLE, my_key),
    ):
        monkeypatch.setenv(name, value)
    async with Server(path, {".": Provider()}, listen=serving(authority, mutual=True)) as server:
        remote = await client.connect(Instance, "far", server.urls[0])
        assert await remote.describe_instances(tags={}) == []
        await remote.close()
        monkeypatch.setenv(remotes.CERT_VARIABLE, "")
        with pytest.raises(errors.Unreachable):
            await client.connect(Instance, "far", server.urls[0])


@pytest.mark.parametrize(
    ("text", "expected"), [("127.0.0.1:80", ("127.0.0.1", 80)), ("tcp://a:1", ("a", 1)), ("[::1]:5", ("::1", 5))]
)
def test_listen_addresses_are_parsed(text: str, expected: tuple[str, int]) -> None:
    assert listen.parse(text) == expected


@pytest.mark.parametrize("text", ["", "80", "a:", "a:x", "a:99999"])
def test_an_invalid_listen_address_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidSpec, match="is not an address to listen at"):
        listen.parse(text)
