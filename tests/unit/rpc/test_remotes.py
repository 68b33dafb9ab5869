"""Remote daemons, by name or by address."""

from pathlib import Path

import pytest

from infrakit.rpc import discovery, remotes
from infrakit.rpc.remotes import Remote, Remotes
from infrakit.spi.errors import InvalidSpec, Refused


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(discovery.HOME_VARIABLE, str(tmp_path))
    for name in (remotes.HOST_VARIABLE, remotes.CA_VARIABLE, remotes.CERT_VARIABLE, remotes.TOKEN_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_unix_socket_is_addressed_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remotes.HOST_VARIABLE, "unix:///run/x/a%20b/group")
    assert remotes.current() == Path("/run/x/a b/group")
    remotes.save(Remotes(known={"node": Remote(url=remotes.check_url("unix:///run/x/group"))}))
    monkeypatch.setenv(remotes.HOST_VARIABLE, "node")
    assert remotes.current() == Path("/run/x/group")
    monkeypatch.delenv(remotes.HOST_VARIABLE)
    assert remotes.current() is None


def test_the_stored_credentials_of_a_url_are_used_for_it(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    known = Remote(url="https://10.0.0.1:24864", ca=str(home / "ca.pem"))
    remotes.save(Remotes(known={"prod": known}))
    assert remotes.plugin("https://10.0.0.1:24864") == known
    monkeypatch.setenv(remotes.HOST_VARIABLE, "https://10.0.0.1:24864")
    assert remotes.current() == known
    monkeypatch.setenv(remotes.CA_VARIABLE, "/other.pem")
    assert remotes.plugin("https://10.0.0.2:24864").ca == "/other.pem"


@pytest.mark.parametrize("url", ["unix://group", "unix:", "https://10.0.0.1", "10.0.0.1", "ftp://10.0.0.1:1"])
def test_an_invalid_address_of_a_daemon_is_refused(url: str) -> None:
    with pytest.raises(InvalidSpec, match="is not an address"):
        remotes.check_url(url)


def test_credentials_for_a_unix_socket_are_refused() -> None:
    with pytest.raises(Refused, match="a unix socket needs no credentials"):
        remotes.check(Remote(url="unix:///run/x/group", token_file="/token"))
    remotes.check(Remote(url="unix:///run/x/group"))
