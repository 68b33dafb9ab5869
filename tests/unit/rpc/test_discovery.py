"""The directories of sockets."""

from pathlib import Path

import pytest

from infrakit.rpc import discovery
from infrakit.spi.errors import Refused


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INFRAKIT_HOME", raising=False)
    monkeypatch.delenv("INFRAKIT_PLUGINS_DIR", raising=False)
    monkeypatch.setenv("HOME", "/home/ann")


@pytest.mark.parametrize(
    ("variables", "plugins"),
    [
        ({}, "/home/ann/.infrakit/plugins"),
        ({"INFRAKIT_HOME": "/srv/ik"}, "/srv/ik/plugins"),
        ({"INFRAKIT_HOME": "~/ik"}, "/home/ann/ik/plugins"),
        ({"INFRAKIT_PLUGINS_DIR": "/run/plugins"}, "/run/plugins"),
        ({"INFRAKIT_HOME": "/srv/ik", "INFRAKIT_PLUGINS_DIR": "~/plugins"}, "/home/ann/plugins"),
        ({"INFRAKIT_HOME": "", "INFRAKIT_PLUGINS_DIR": ""}, "/home/ann/.infrakit/plugins"),
    ],
)
def test_variables_select_the_directory(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], plugins: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert discovery.plugins_directory() == Path(plugins)
    assert discovery.manager_socket() == Path(plugins) / "group"


def test_a_path_too_long_for_the_kernel_is_refused_with_a_remedy() -> None:
    discovery.check_length(Path("/" + "a" * 106))
    with pytest.raises(Refused, match="too long for a unix socket: at most 107 bytes; set INFRAKIT_HOME"):
        discovery.check_length(Path("/" + "a" * 107))


def test_the_limit_counts_bytes_and_not_characters() -> None:
    with pytest.raises(Refused):
        discovery.check_length(Path("/" + "ä" * 54))
