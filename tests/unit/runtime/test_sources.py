"""Stores and sources of leadership by URL: the right one, or a sentence that says how to write it."""

import sys
from pathlib import Path

import pytest

from infrakit.leadership.etcd import EtcdCampaign, EtcdObserved
from infrakit.leadership.file import FileObserver
from infrakit.leadership.static import Static
from infrakit.leadership.swarm import SwarmObserved
from infrakit.runtime import sources
from infrakit.runtime.sources import Place
from infrakit.spi.errors import Refused
from infrakit.stores.etcd import EtcdStore
from infrakit.stores.file import FileStore
from infrakit.stores.memory import MemoryStore
from infrakit.stores.swarm import SwarmStore


@pytest.mark.parametrize(
    ("url", "made"),
    [
        ("", FileStore),
        ("file:///var/lib/shared", FileStore),
        ("memory:", MemoryStore),
        ("etcd://10.0.0.1", EtcdStore),
        ("etcd://10.0.0.1:2379,10.0.0.2:2379/mine", EtcdStore),
        ("swarm:", SwarmStore),
        ("swarm:///var/run/docker.sock", SwarmStore),
    ],
)
async def test_a_store_by_its_url(url: str, made: type, tmp_path: Path) -> None:
    store = sources.store(url, tmp_path)
    try:
        assert isinstance(store, made)
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("url", "made"),
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
async def test_leadership_by_its_url(url: str, made: type) -> None:
    leadership = sources.leadership(url, "a")
    try:
        assert isinstance(leadership, made)
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
def test_a_store_that_is_not_understood(url: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="write it as file:///DIR"):
        sources.store(url, tmp_path)


@pytest.mark.parametrize(
    "url", ["nonsense", "memory:", "etcd:", "file://host/path", "s3://bucket", "swarm://host/sock"]
)
def test_leadership_that_is_not_understood(url: str) -> None:
    with pytest.raises(Refused, match="write it as static:"):
        sources.leadership(url, "a")


def test_a_password_is_not_repeated(tmp_path: Path) -> None:
    for call in (lambda u: sources.store(u, tmp_path), lambda u: sources.leadership(u, "a")):
        with pytest.raises(Refused) as refused:
            call("etcd://root:geheim@10.0.0.1")
        assert "geheim" not in str(refused.value)


def test_the_cluster_is_observed_at_one_member() -> None:
    with pytest.raises(Refused, match="name the local member only"):
        sources.leadership("etcd://10.0.0.1,10.0.0.2", "a")


def test_a_swarm_without_its_client_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "aiodocker", raising=False)
    monkeypatch.setattr(sys, "path", [])
    sources.check_store("swarm:")
    for call in (lambda: sources.store("swarm:", tmp_path), lambda: sources.leadership("swarm:", "a")):
        with pytest.raises(Refused, match=r"not installed; install .*\[docker\]' in the clone"):
            call()


async def test_the_swarm_is_that_of_the_engine_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///somewhere/else.sock")
    for url, where in (("swarm:", "unix:///var/run/docker.sock"), ("swarm:///n/sock", "unix:///n/sock")):
        store = sources.store(url, tmp_path)
        assert isinstance(store, SwarmStore)
        assert store.where == where
        await store.close()


@pytest.mark.parametrize(
    ("query", "said"), [("?cacert=x", "known are ca, cert and key"), ("?ca=/none", "cannot be used")]
)
def test_certificates_that_cannot_be_used(query: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=said):
        sources.store(f"etcd://10.0.0.1/p{query}", tmp_path)


def test_who_is_alone() -> None:
    assert Place().is_alone
    assert Place(store="etcd://10.0.0.1", leadership="static:").is_alone
    assert not Place(leadership="file:///leader").is_alone
    assert Place().name


def test_where_others_reach_it_is_an_address_for_them_too() -> None:
    for text in ("https://10.0.0.1:24864", "http://[fd00::1]:1", "unix:///run/x/group", "/run/x/group"):
        assert sources.advertised(text) == text
    for text in ("10.0.0.1:24864", "run/group", "ftp://10.0.0.1"):
        with pytest.raises(Refused, match=r"is no address.* write"):
            sources.advertised(text)
