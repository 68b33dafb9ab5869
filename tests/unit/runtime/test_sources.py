"""Stores and leadership sources by URL: the right one, or an error that shows how a URL is written."""

import asyncio
import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import infrakit
from infrakit.leadership.etcd import EtcdCampaign, EtcdObserved
from infrakit.leadership.file import FileObserver
from infrakit.leadership.static import Static
from infrakit.leadership.swarm import SwarmObserved
from infrakit.runtime import sources
from infrakit.runtime.sources import Place
from infrakit.spi import protocols
from infrakit.spi.errors import InvalidSpec, PluginError, Refused
from infrakit.spi.leadership import LeadershipFactory
from infrakit.spi.store import StoreFactory
from infrakit.stores.etcd import EtcdStore
from infrakit.stores.file import FileStore
from infrakit.stores.memory import MemoryStore
from infrakit.stores.s3 import S3Store
from infrakit.stores.swarm import SwarmStore

# The type checker compares these classes with the Protocols.
STORES: tuple[StoreFactory, ...] = (EtcdStore, FileStore, MemoryStore, S3Store, SwarmStore)
LEADERSHIP: tuple[LeadershipFactory, ...] = (EtcdObserved, EtcdCampaign, FileObserver, Static, SwarmObserved)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", FileStore),
        ("file:///var/lib/shared", FileStore),
        ("memory:", MemoryStore),
        ("MEMORY:", MemoryStore),
        ("etcd://10.0.0.1", EtcdStore),
        ("etcd://10.0.0.1:2379,10.0.0.2:2379/mine", EtcdStore),
        ("swarm:", SwarmStore),
        ("swarm:///var/run/docker.sock", SwarmStore),
    ],
)
async def test_a_url_selects_the_store(url: str, expected: type, tmp_path: Path) -> None:
    store = sources.store(url, tmp_path)
    try:
        assert isinstance(store, expected)
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", Static),
        ("static:", Static),
        ("file:///mnt/leader", FileObserver),
        ("etcd://127.0.0.1:2379", EtcdObserved),
        ("etcd+campaign://10.0.0.1,10.0.0.2/mine", EtcdCampaign),
        ("swarm:", SwarmObserved),
        ("swarm:///var/run/docker.sock", SwarmObserved),
    ],
)
async def test_a_url_selects_the_leadership_observer(url: str, expected: type) -> None:
    leadership = sources.leadership(url, "a")
    try:
        assert isinstance(leadership, expected)
    finally:
        await sources.close(leadership)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "file:relative",
        "file://host/path",
        "etcd:///prefix",
        "http://10.0.0.1",
        "etcd://[::1",
        "s3:///x",
        "swarm://host/sock",
    ],
)
def test_an_invalid_store_url_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"write it as .*file:///DIR, memory:, s3://BUCKET/PREFIX, or swarm:"):
        sources.store(url, tmp_path)


@pytest.mark.parametrize(
    "url", ["nonsense", "memory:", "etcd:", "file://host/path", "s3://bucket", "swarm://host/sock"]
)
def test_an_invalid_leadership_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidSpec, match=r"write it as .*file:///PATH, static:, or swarm:"):
        sources.leadership(url, "a")


def test_a_password_in_a_url_is_not_shown(tmp_path: Path) -> None:
    for call in (lambda u: sources.store(u, tmp_path), lambda u: sources.leadership(u, "a")):
        with pytest.raises(InvalidSpec) as refused:
            call("etcd://root:geheim@10.0.0.1")
        assert "geheim" not in str(refused.value)


def test_etcd_is_observed_at_the_local_member_only() -> None:
    with pytest.raises(Refused, match="name the local member only"):
        sources.leadership("etcd://10.0.0.1,10.0.0.2", "a")


def test_a_missing_client_of_the_swarm_is_reported_with_its_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiodocker", None)
    sources.check_store("swarm:")
    for call in (lambda: sources.store("swarm:", tmp_path), lambda: sources.leadership("swarm:", "a")):
        with pytest.raises(Refused, match=r"not installed; install .*\[docker\]' in the clone"):
            call()


async def test_the_swarm_is_that_of_the_local_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///somewhere/else.sock")
    for url, where in (("swarm:", "unix:///var/run/docker.sock"), ("swarm:///n/sock", "unix:///n/sock")):
        store = sources.store(url, tmp_path)
        assert isinstance(store, SwarmStore)
        assert store.where == where
        await store.close()


@pytest.mark.parametrize(
    ("query", "message"), [("?cacert=x", "known parameters are ca, cert and key"), ("?ca=/none", "cannot be used")]
)
def test_unusable_certificates_are_refused(query: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=message):
        sources.store(f"etcd://10.0.0.1/p{query}", tmp_path)


@pytest.mark.parametrize(
    ("kind", "protocol", "ours"),
    [(sources.STORES, StoreFactory, STORES), (sources.LEADERSHIP, LeadershipFactory, LEADERSHIP)],
)
def test_every_installed_scheme_has_a_factory(kind: Any, protocol: type, ours: tuple[object, ...]) -> None:
    entries = importlib.metadata.entry_points(group=kind.group)
    assert {entry.load() for entry in entries} == set(ours)
    for entry in entries:
        factory = entry.load()
        assert protocols.missing(factory, protocol) == (), entry
        assert re.match(rf"{re.escape(entry.name)}:", factory.form), entry


async def test_the_default_store_is_in_the_home_whatever_its_name(tmp_path: Path) -> None:
    home = tmp_path / "a?b#c%20 d"
    store = sources.store("", home)
    await store.replace(name="doc", body=b"x", expected=0)
    assert (home / "store" / "doc").is_dir()
    await store.close()


async def test_the_caller_sets_how_many_revisions_are_kept(tmp_path: Path) -> None:
    store = sources.store(f"file://{tmp_path}", tmp_path, keep={"doc": 2})
    for number in range(5):
        await store.replace(name="doc", body=b"", expected=number)
    assert [each.revision for each in await store.history(name="doc", limit=9)] == [5, 4]
    assert sources.KEEP == {"declaration": 1000, "ledger": 4, "vars": 200}


def test_no_store_contains_the_name_of_a_document() -> None:
    root = Path(infrakit.__file__).parent
    found = {
        f"{path.name}: {match[0]}"
        for path in (root / "stores").rglob("*.py")
        for match in re.finditer(rf"[\"']({'|'.join(sources.KEEP)}|replicas)[\"']|infrakit\.manager", path.read_text())
    }
    assert found == set()


SHELF = """
class Shelf:
    form = "shelf://ROOM"

    def __init__(self, room, given):
        self.room, self.given = room, given

    @staticmethod
    def accepts(url):
        return bool(url.netloc)

    @classmethod
    def from_url(cls, url, **given):
        if url.netloc == "cellar":
            raise ValueError("it is flooded")
        return cls(url.netloc, given)

    async def read(self, *, name): ...
    async def newest(self, *, name): ...
    async def read_with(self, *, name, head): ...
    async def replace(self, *, name, body, expected): ...
    async def history(self, *, name, limit): ...
    def watch(self, *, name): ...
    async def close(self): ...
    def observe(self): ...


class Formless:
    accepts, from_url = Shelf.accepts, Shelf.from_url


class Torn(Shelf):
    @classmethod
    def from_url(cls, url, **given):
        return object()
"""
ENTRIES = ("shelf = made_shelf:Shelf", "formless = made_shelf:Formless", "torn = made_shelf:Torn", "lost = made_lost:X")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another installed package that provides its own schemes."""
    metadata = tmp_path / "site" / "made_shelf-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Name: made-shelf\nVersion: 1\n")
    lines = ["\n".join((f"[{kind.group}]", *ENTRIES)) for kind in (sources.STORES, sources.LEADERSHIP)]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    (metadata.parent / "made_shelf.py").write_text(SHELF)
    monkeypatch.syspath_prepend(metadata.parent)
    monkeypatch.delitem(sys.modules, "made_shelf", raising=False)


@pytest.mark.usefixtures("shelf")
def test_schemes_of_another_package_are_found(tmp_path: Path) -> None:
    store: Any = sources.store("shelf://attic", tmp_path)
    assert (store.room, store.given) == ("attic", {"keep": sources.KEEP})
    leadership: Any = sources.leadership("shelf://attic", "a")
    assert (leadership.room, leadership.given) == ("attic", {"name": "a"})
    asyncio.run(sources.close(leadership))
    sources.check_store("shelf://cellar")
    for url in ("shelf:", "ftp://x"):
        with pytest.raises(InvalidSpec, match=r"lost:\.\.\. \(which cannot be loaded\), .*, shelf://ROOM, or swarm"):
            sources.check_store(url)


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("shelf://cellar", "GROUP shelf: it could not be opened: it is flooded"),
        ("formless://x", "GROUP formless: it has no form"),
        ("torn://x", "GROUP torn: it has no "),
        ("lost://x", "GROUP lost: it could not be loaded: No module named 'made_lost'"),
    ],
)
def test_a_fault_of_another_package_is_a_plugin_error(url: str, message: str, tmp_path: Path) -> None:
    for kind, call in (
        (sources.STORES, lambda: sources.store(url, tmp_path)),
        (sources.LEADERSHIP, lambda: sources.leadership(url, "a")),
    ):
        with pytest.raises(PluginError) as raised:
            call()
        assert str(raised.value).startswith(message.replace("GROUP", kind.group))


def test_a_single_replica_is_recognized() -> None:
    assert Place().is_single
    assert Place(store="etcd://10.0.0.1", leadership="static:").is_single
    assert not Place(leadership="file:///leader").is_single
    assert Place().name


def test_an_advertised_address_must_be_valid_for_other_machines() -> None:
    for text in ("https://10.0.0.1:24864", "http://[fd00::1]:1", "unix:///run/x/group", "/run/x/group"):
        assert sources.advertised(text) == text
    for text in ("10.0.0.1:24864", "run/group", "ftp://10.0.0.1"):
        with pytest.raises(InvalidSpec, match=r"is not an address.*write"):
            sources.advertised(text)
