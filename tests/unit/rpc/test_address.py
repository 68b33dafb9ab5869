"""Every form of an address, including the forms of the original."""

from pathlib import Path

import pytest

from infrakit.rpc import address
from infrakit.spi.errors import InvalidSpec, Refused


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/run/p", Path("/run/p")),
        ("plugins/p", Path("plugins/p")),
        ("unix:///run/p", Path("/run/p")),
        ("unix://run/p", Path("run/p")),
        ("file:///run/a%20b", Path("/run/a b")),
        ("tcp://10.0.0.1:24864", "http://10.0.0.1:24864"),
        ("tcp://[::1]:1", "http://[::1]:1"),
        ("http://h:1/prefix/", "http://h:1/prefix/"),
        ("https://h/prefix", "https://h/prefix"),
    ],
)
def test_every_form_is_parsed(text: str, place: Path | str) -> None:
    assert address.parse(text) == place


def test_a_file_may_contain_an_address(tmp_path: Path) -> None:
    file = tmp_path / "cloud.listen"
    file.write_text("tcp://10.0.0.1:24864\n")
    assert address.parse(str(file)) == "http://10.0.0.1:24864"
    for content in (str(file), "", "ftp://h:1"):  # a reference to itself would never end
        file.write_text(content)
        with pytest.raises(InvalidSpec, match="is not an address"):
            address.parse(str(file))
    with pytest.raises(Refused, match=r"none\.listen: the address in it cannot be read"):
        address.parse(str(tmp_path / "none.listen"))


@pytest.mark.parametrize(
    "text", ["ftp://h:1", "tcp://h", "http://", "tcp://h:99999", "tcp://h:x", "https://h:1?a", "unix://"]
)
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(
        InvalidSpec, match=r"is not an address \(write a path, unix:///PATH, tcp://HOST:PORT, or https://HOST:PORT"
    ):
        address.parse(text)


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(InvalidSpec, match=r"'https://\.\.\.@h:1' is not an address") as refused:
        address.parse("https://ann:secret@h:1")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_loopback_hosts_are_recognized(host: str, loopback: bool) -> None:
    assert address.is_loopback(host) is loopback
