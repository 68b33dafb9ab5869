"""Documents that name a plugin whose optional client is not installed: the field is reported, with a remedy."""

import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infrakit.cli.main import main
from infrakit.rpc import discovery
from infrakit.runtime import sources, templates
from infrakit.spi import extras
from infrakit.spi.errors import Refused

DOCUMENT = """\
- kind: group
  metadata: {{name: nodes}}
  properties:
    Allocation: {allocation}
    Instance: {{Plugin: {instance}{properties}}}
    Flavor: {{Plugin: {flavor}}}
"""
MANAGERS = "{LogicalIDs: [10.0.0.1, 10.0.0.2, 10.0.0.3]}"
CONTAINER = ", Properties: {Image: x}"


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a path short enough for sockets, and no client installed."""
    path = Path(tempfile.mkdtemp(prefix="ik", dir="/tmp"))
    monkeypatch.chdir(path)
    monkeypatch.setenv(discovery.HOME_VARIABLE, str(path / "home"))
    for name in ("INFRAKIT_PLUGINS_DIR", "INFRAKIT_HOST", "INFRAKIT_STORE", "INFRAKIT_LEADERSHIP"):
        monkeypatch.delenv(name, raising=False)
    for extra in extras.EXTRAS.values():
        monkeypatch.setitem(sys.modules, extra.module, None)
    yield path
    shutil.rmtree(path)


def write(directory: Path, *, instance: str, flavor: str, properties: str = "", allocation: str = "{Size: 1}") -> str:
    text = DOCUMENT.format(instance=instance, flavor=flavor, properties=properties, allocation=allocation)
    (directory / "f.yaml").write_text(text)
    return "f.yaml"


def assert_remedy(text: str, extra: str) -> None:
    assert extras.missing_extra(extra) in text
    assert "install infrakit" not in text
    assert "install 'infrakit[" not in text.replace("@ file://", "@").replace(f"'infrakit[{extra}] @", "")
    assert "could not" not in text


@pytest.mark.parametrize(
    ("plugins", "path"),
    [
        ({"instance": "docker", "properties": CONTAINER, "flavor": "vanilla"}, "line 5: groups[0].properties.Instance"),
        ({"instance": "local", "flavor": "swarm/worker"}, "line 6: groups[0].properties.Flavor"),
        (
            {"instance": "local", "flavor": "swarm/manager", "allocation": MANAGERS},
            "line 6: groups[0].properties.Flavor",
        ),
    ],
    ids=["docker", "worker", "manager"],
)
def test_validate_reports_the_field_and_the_remedy(
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    plugins: dict[str, str],
    path: str,
) -> None:
    file = write(directory, **plugins)
    assert main(["validate", file]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = [each for each in captured.err.splitlines() if "which is not installed here" in each]
    assert line.startswith(f"f.yaml: {path}.Plugin: ")
    assert "needs the client for Docker" in line
    assert_remedy(line, "docker")

    monkeypatch.setattr(extras, "is_installed", lambda _name: True)
    main(["validate", file])
    assert "not installed" not in capsys.readouterr().err


def test_other_problems_are_reported_at_the_same_time(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(directory, instance="docker", properties=", Properties: {Imag: x}", flavor="swarm/worker")
    assert main(["validate", file]) == 1
    captured = capsys.readouterr().err
    assert captured.count("not installed here") == 2
    assert "Instance.Properties" in captured


def test_a_rehearsal_needs_no_client(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(directory, instance="docker", properties=CONTAINER, flavor="swarm/manager", allocation=MANAGERS)
    code = main(["rehearse", file, "--kill", "1"])
    captured = capsys.readouterr()
    assert captured.err.count("f.yaml: warning: line ") == 2
    assert (code, captured.out.splitlines()[-1]) == (0, "1 exercise: every promise was kept")


def test_a_missing_client_is_a_warning_if_the_daemon_is_remote(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(directory, instance="docker", properties=CONTAINER, flavor="vanilla")
    monkeypatch.setenv("INFRAKIT_HOST", "https://10.0.0.1:24864")
    code = main(["validate", file])
    captured = capsys.readouterr()
    assert "f.yaml: warning: line 5: groups[0].properties.Instance.Plugin: " in captured.err
    assert_remedy(captured.err, "docker")
    assert (code, captured.out) == (0, "f.yaml: valid, 1 group: nodes\n")
    monkeypatch.setenv("INFRAKIT_HOST", "nonsense")
    assert main(["validate", file]) == 1


@pytest.mark.parametrize("command", ["up", "bootstrap"])
def test_a_command_that_needs_the_client_is_refused(
    directory: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    file = write(directory, instance="docker", properties=CONTAINER, flavor="vanilla")
    assert main([command, file]) == 1
    captured = capsys.readouterr().err
    assert "Instance.Plugin" in captured
    assert_remedy(captured, "docker")


@pytest.mark.parametrize(
    ("url", "extra"), [("swarm:", "docker"), ("swarm:///n/sock", "docker"), ("s3://bucket/prefix", "s3")]
)
def test_a_store_without_its_client_is_refused(
    directory: Path, capsys: pytest.CaptureFixture[str], url: str, extra: str
) -> None:
    file = write(directory, instance="local", flavor="vanilla")
    assert main(["up", file, "--store", url]) == 2
    assert_remedy(capsys.readouterr().err, extra)


def test_leadership_without_its_client_is_refused(directory: Path) -> None:
    with pytest.raises(Refused) as refused:
        sources.leadership("swarm:", "a")
    assert_remedy(str(refused.value), "docker")


def test_a_template_in_a_bucket_without_the_client_is_refused(directory: Path) -> None:
    with pytest.raises(Refused) as refused:
        templates.engine().template("s3://bucket/boot.sh")
    assert_remedy(str(refused.value), "s3")


def test_the_remedy_names_the_distribution_that_is_installed() -> None:
    name = next(each.dist.name for each in importlib.metadata.entry_points(name="infrakit") if each.dist is not None)
    for extra in extras.EXTRAS:
        assert f"'{name}[{extra}] @ file:///" in extras.missing_extra(extra)
        assert f"pip install '.[{extra}]' in the clone" in extras.missing_extra(extra)
        provided = importlib.metadata.metadata(name).get_all("Provides-Extra") or []
        assert extra in provided


def test_a_remote_plugin_needs_no_client() -> None:
    assert extras.required_by(object()) == ""
