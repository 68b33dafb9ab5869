"""Remote templates: caching, retries, limits, and which template may include which address."""

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from infrakit.spi.errors import InfraKitError, InvalidSpec, NotFound, Refused, Unreachable
from infrakit.template import addresses
from infrakit.template.addresses import Zone
from infrakit.template.engine import Engine
from infrakit.template.limits import Limits
from infrakit.template.loaders import Loader, Source, resolve
from infrakit.template.scope import Scope
from tests.unit.template.web import Answer, Site, serving, serving_socket


@pytest.fixture(autouse=True)
def without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def web() -> Iterator[tuple[str, Site]]:
    with serving() as (url, site):
        yield url, site


def render(address: str, loader: Loader | None = None, scope: Scope | None = None) -> str:
    engine = Engine(loader or Loader())
    return engine.render(engine.template(address), scope or Scope()).text


def refusal(address: str, loader: Loader | None = None, scope: Scope | None = None) -> str:
    with pytest.raises(InfraKitError) as caught:
        render(address, loader, scope)
    assert isinstance(caught.value, Refused), caught.value
    return str(caught.value)


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "address", "absolute"),
    [
        ("/a/b/boot.sh", "c.sh", "/a/b/c.sh"),
        ("/a/b/boot.sh", "../c/d.sh", "/a/c/d.sh"),
        ("/a/b/boot.sh", "/etc/motd", "/etc/motd"),
        ("a/boot.sh", "../../c.sh", "../c.sh"),
        ("", "c.sh", "c.sh"),
        ("-", "c.sh", "c.sh"),
        ("/a/b", "-", "-"),
        ("file:///a/b/boot.sh", "../c.sh", "file:///a/c.sh"),
        ("https://h/a/b/boot.sh?x=1", "c d.sh", "https://h/a/b/c%20d.sh"),
        ("https://h/a/b/boot.sh", "../../../../etc/passwd", "https://h/etc/passwd"),
        ("https://h/a/b/boot.sh", "/c.sh", "https://h/c.sh"),
        ("https://h/a/b/boot.sh", "c.sh?v=2", "https://h/a/b/c.sh?v=2"),
        ("s3://bucket/a/boot.sh", "../b.sh", "s3://bucket/b.sh"),
        ("s3://bucket/a/boot.sh", "../../../b.sh", "s3://bucket/b.sh"),
        ("unix:///run/x.sock:/a/boot.sh", "b.sh", "unix:///run/x.sock:/a/b.sh"),
        ("unix:///run/x.sock:/a/boot.sh", "../../../b.sh", "unix:///run/x.sock:/b.sh"),
        ("unix:///run/x.sock", "b.sh", "unix:///run/x.sock:/b.sh"),
        ("unix://plugin/a/boot.sh", "b.sh", "unix://plugin/a/b.sh"),
        ("https://h/a", "str://x", "str://x"),
    ],
)
def test_a_relative_address_is_resolved_against_the_address_of_its_template(
    base: str, address: str, absolute: str
) -> None:
    assert resolve(address, base) == absolute


@pytest.mark.parametrize(
    ("host", "zone"),
    [
        ("127.0.0.1", Zone.LOCAL), ("127.9.9.9", Zone.LOCAL), ("0.0.0.0", Zone.LOCAL), ("::1", Zone.LOCAL),
        ("::", Zone.LOCAL), ("::ffff:127.0.0.1", Zone.LOCAL), ("64:ff9b::7f00:1", Zone.LOCAL),
        ("localhost", Zone.LOCAL), ("LOCALHOST.", Zone.LOCAL), ("x.localhost", Zone.LOCAL),
        ("10.1.2.3", Zone.PRIVATE), ("192.168.0.1", Zone.PRIVATE), ("172.16.0.1", Zone.PRIVATE),
        ("100.64.0.1", Zone.PRIVATE), ("fd00::1", Zone.PRIVATE), ("::ffff:10.0.0.1", Zone.PRIVATE),
        ("8.8.8.8", Zone.PUBLIC), ("2606:4700::1111", Zone.PUBLIC), ("example.com", Zone.PUBLIC),
        ("169.254.169.254", None), ("::ffff:169.254.169.254", None), ("fe80::1", None), ("fd00:ec2::254", None),
        ("100.100.100.200", None), ("metadata.google.internal", None), ("2002:a9fe:a9fe::1", None),
        ("64:ff9b::a9fe:a9fe", None), ("fe80::1%eth0", None),
    ],
)  # fmt: skip
def test_the_zone_of_a_host(host: str, zone: Zone | None) -> None:
    assert addresses.zone_of_host(host) == zone


# -- fetching ----------------------------------------------------------------------------------------------------------


def test_a_directory_of_templates_can_be_served_from_anywhere(tmp_path: Path, web: tuple[str, Site]) -> None:
    files = {"boot.sh": "a {{ include('parts/b.sh') }}", "parts/b.sh": "b {{ include('../c.sh') }}", "c.sh": "c"}
    url, site = web
    path = tmp_path / "x.sock"
    with serving_socket(path) as plugin:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
            site.page(f"/deep/{name}", text)
            plugin.page(f"/deep/{name}", text)
        bucket = {f"s3://bucket/deep/{name}": text.encode() for name, text in files.items()}
        loader = Loader(fetchers={"s3": lambda address, _timeout_s: bucket[address]}, sockets=lambda _name: path)
        places = [str(tmp_path), f"file://{tmp_path}", f"{url}/deep", f"unix://{path}:/deep", "unix://plugin/deep"]
        for place in (*places, "s3://bucket/deep"):
            assert render(f"{place}/boot.sh", loader) == "a b c"


def test_a_fresh_document_is_cached_and_an_older_one_is_revalidated(web: tuple[str, Site]) -> None:
    url, site = web
    site.page("/a", "one", ETag='"1"')
    patient, eager = Loader(fresh_s=1000), Loader(fresh_s=0)
    assert [patient.fetch(f"{url}/a").text for _ in range(3)] == ["one"] * 3
    assert site.asked == [("/a", None)]
    site.asked.clear()
    assert [eager.fetch(f"{url}/a").text for _ in range(2)] == ["one"] * 2
    site.page("/a", "two", ETag='"2"')
    assert eager.fetch(f"{url}/a").text == "two"
    assert site.asked == [("/a", None), ("/a", '"1"'), ("/a", '"1"')]
    assert patient.fetch(f"{url}/a").text == "one"


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file, loader = tmp_path / "a", Loader()
    for text in ("one", "two", "six"):
        file.write_text(text)
        assert loader.fetch(str(file)).text == text
    same = file.stat().st_mtime_ns
    file.write_text("ten")  # with the same modification time
    os.utime(file, ns=(same, same))
    assert loader.fetch(str(file)).text == "ten"
    file.unlink()
    with pytest.raises(NotFound):
        loader.fetch(str(file))


def test_a_busy_server_is_retried_and_a_refusal_is_not(web: tuple[str, Site]) -> None:
    url, site = web
    site.pages["/busy"] = [Answer(code=503), Answer(code=502), Answer(b"there")]
    assert Loader().fetch(f"{url}/busy").text == "there"
    site.pages["/busy"] = [Answer(code=503)] * 9
    with pytest.raises(Refused, match="the server answered 503"):
        Loader(attempts=2).fetch(f"{url}/busy")
    site.asked.clear()
    site.pages["/no"] = [Answer(code=403)] * 9
    with pytest.raises(Refused, match="the server answered 403"):
        Loader().fetch(f"{url}/no")
    assert len(site.asked) == 1


def test_size_limits_and_timeouts(web: tuple[str, Site]) -> None:
    url, site = web
    site.page("/big", "x" * 101)
    site.pages["/binary"] = Answer(b"\xff")
    loader = Loader(bytes_max=100)
    with pytest.raises(Refused, match="has more than 100 bytes"):
        loader.fetch(f"{url}/big")
    with pytest.raises(InfraKitError, match="not UTF-8"):
        loader.fetch(f"{url}/binary")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unreachable, match="no complete answer in"):
        loader.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.3)
    with pytest.raises(Unreachable):
        Loader(attempts=1).fetch("unix:///no/such.sock:/a")


def test_credentials_are_not_sent_to_another_server(web: tuple[str, Site]) -> None:
    url, site = web
    with serving("127.0.0.2") as (other, elsewhere):
        elsewhere.page("/a", "{{ include('b') }}")
        site.pages["/a"] = Answer(code=302, headers={"Location": f"{other}/a"})
        elsewhere.page("/b", "b")
        site.page("/b", "b")
        assert Loader().fetch(url.replace("//", "//ann:hush@") + "/a").text == "{{ include('b') }}"
        assert site.authorized == ["Basic YW5uOmh1c2g="]
        assert elsewhere.authorized == [None]


def test_certificates_are_verified_and_https_is_not_downgraded_to_http() -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    with serving(tls=server) as (url, site), serving() as (plain, other):
        site.page("/a", "a")
        other.page("/b", "b")
        assert Loader(tls=client).fetch(f"{url}/a").text == "a"
        with pytest.raises(Unreachable, match="certificate"):
            Loader(attempts=1).fetch(f"{url}/a")
        site.pages["/moved"] = Answer(code=302, headers={"Location": f"{plain}/b"})
        with pytest.raises(Refused, match="the server answered 302"):
            Loader(tls=client).fetch(f"{url}/moved")
        site.page("/names", f"{{{{ include('{plain}/b') }}}}")
        assert "may not refer to http://" in refusal(f"{url}/names", Loader(tls=client))
        assert len(other.asked) == 0


# -- access control ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named",
    [
        "include('/etc/passwd')", "include('file:///etc/passwd')", "include('FILE:///etc/passwd')",
        "source('file:///etc/passwd')", "fetch('file://localhost/etc/passwd')", "raw('file:///etc/passwd')",
        "file('/etc/passwd')", "file('passwd')", "secret('file:/etc/passwd')", "secret('cmd:id')", "secret('env:PATH')",
        "include('-')", "include('str://{{ file(\"/etc/passwd\") }}')",
        "include('str://{{ include(\"file:///etc/passwd\") }}')",
        "include('unix:///run/docker.sock:/containers/json')", "include('s3://bucket/a')", "include('ftp://127.0.0.1/a')",
        "include('http://169.254.169.254/latest/meta-data/')", "include('http://[::ffff:169.254.169.254]/')",
        "include('http://2852039166/')", "include('http://0xa9fea9fe/')", "include('gopher://x/')",
        "include('data:text/plain,x')",
    ],
)  # fmt: skip
def test_a_template_from_the_network_cannot_access_this_machine(named: str, web: tuple[str, Site]) -> None:
    url, site = web
    site.page("/a", f"{{{{ {named} }}}}")
    loader = Loader(fetchers={"s3": lambda _address, _timeout_s: b"never"}, attempts=1)
    with pytest.raises((Refused, NotFound)) as caught:
        print(render(f"{url}/a", loader, Scope(env=frozenset(("PATH",)))))
    assert "root:" not in str(caught.value)


def test_a_macro_from_the_network_stays_restricted_wherever_it_is_called(tmp_path: Path, web: tuple[str, Site]) -> None:
    url, site = web
    site.page("/lib", "{% macro steal(f) %}{{ f('/etc/hostname') }}{{ file('/etc/hostname') }}{% endmacro %}")
    (tmp_path / "a").write_text(f"{{{{ source('{url}/lib') }}}}{{{{ steal(file) }}}}")
    assert "may not read files" in refusal(str(tmp_path / "a"))
    assert render(str(tmp_path / "a"), Loader(trusts_network=True)) == Path("/etc/hostname").read_text() * 2


def test_permitted_addresses_are_included(tmp_path: Path, web: tuple[str, Site]) -> None:
    url, site = web
    (tmp_path / "x").write_text("local")
    site.page("/a", f"{{{{ include('file://{tmp_path}/x') }}}}")
    assert render(f"{url}/a", Loader(trusts_network=True)) == "local"
    (tmp_path / "b").write_text(f"{{{{ include('{url}/c') }}}}{{{{ file('x') }}}}")
    site.page("/c", "web")
    assert render(str(tmp_path / "b")) == "weblocal"
    assert "may not read files" in refusal(str(tmp_path / "b"), scope=Scope(local_files=False))
    for named in ("include('x')", "fetch('x')", "source('x')", "secret('file:x')", "secret('cmd:id')"):
        (tmp_path / "d").write_text(f"{{{{ {named} }}}}")
        assert "may not read files" in refusal(str(tmp_path / "d"), scope=Scope(local_files=False))
    with serving("127.0.0.2") as (other, elsewhere):
        elsewhere.page("/d", "other")
        site.page("/e", f"{{{{ include('{other}/d') }}}}")
        assert render(f"{url}/e") == "other"


def test_a_template_of_a_plugin_can_include_from_that_plugin_only(tmp_path: Path) -> None:
    with serving_socket(tmp_path / "a.sock") as own, serving_socket(tmp_path / "b.sock") as other:
        other.page("/x", "x")
        own.page("/x", "x")
        own.page("/away", f"{{{{ include('unix://{tmp_path}/b.sock:/x') }}}}")
        own.page("/here", f"{{{{ include('x') }}}}{{{{ include('unix://{tmp_path}/a.sock:/x') }}}}")
        own.page("/file", "{{ file('/etc/hostname') }}")
        assert render(f"unix://{tmp_path}/a.sock:/here") == "xx"
        assert "may not connect to this socket" in refusal(f"unix://{tmp_path}/a.sock:/away")
        assert "may not read files" in refusal(f"unix://{tmp_path}/a.sock:/file")
        assert not other.asked


def test_standard_input_cannot_be_included(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("{{ include('-') }}")
    assert "standard input is for the command line only" in refusal(str(tmp_path / "a"))


def test_a_template_from_a_public_host_cannot_reach_a_private_network(web: tuple[str, Site]) -> None:
    url, site = web
    site.page("/a", "inside")
    loader = Loader(attempts=1)
    for zone in (Zone.PUBLIC, Zone.PRIVATE):
        with pytest.raises(Refused, match="is a service of this machine, which a template from outside"):
            loader.fetch(f"{url}/a", referrer=Source("http://world.example/x", "", zone))
        with pytest.raises(Refused, match="is a service of this machine"):
            loader.fetch(
                url.replace("127.0.0.1", "localhost") + "/a", referrer=Source("http://world.example/x", "", zone)
            )
    assert not site.asked
    assert loader.fetch(f"{url}/a", referrer=Source("http://10.0.0.1/x", "", Zone.LOCAL)).text == "inside"
    with pytest.raises(Refused):  # nor from the cache
        loader.fetch(f"{url}/a", referrer=Source("http://world.example/x", "", Zone.PUBLIC))
    assert loader.fetch(f"{url}/a", referrer=Source(f"{url}/inline", "")).text == "inside"


def test_the_number_of_addresses_that_a_template_fetches_is_limited(web: tuple[str, Site]) -> None:
    url, site = web
    for number in range(4):
        site.page(f"/{number}", "x")
    engine = Engine(Loader(), Limits(fetches_max=3))

    def fetched(count: int) -> str:
        text = f"{{% for n in range({count}) %}}{{{{ fetch('{url}/' ~ n) }}}}{{% endfor %}}"
        return engine.render(engine.inline(text * 2, name="t"), Scope()).text

    assert fetched(3) == "x" * 6
    with pytest.raises(InvalidSpec, match="templates fetch more than 3 addresses"):
        fetched(4)


def test_a_redirect_cannot_reach_a_forbidden_address(web: tuple[str, Site]) -> None:
    url, site = web
    site.page("/secret", "inside")
    site.pages["/a"] = Answer(code=302, headers={"Location": "http://169.254.169.254/latest"})
    with pytest.raises(Refused, match="metadata service of a cloud"):
        Loader(attempts=1).fetch(f"{url}/a")
    site.pages["/b"] = Answer(code=302, headers={"Location": "file:///etc/passwd"})
    with pytest.raises(Refused, match="the server answered 302"):
        Loader(attempts=1).fetch(f"{url}/b")
    site.pages["/loop"] = Answer(code=302, headers={"Location": "/loop"})
    with pytest.raises(Refused, match="the server answered 302"):
        Loader(attempts=1).fetch(f"{url}/loop")


def test_through_a_proxy_a_host_is_judged_by_its_name(web: tuple[str, Site], monkeypatch: pytest.MonkeyPatch) -> None:
    url, site = web
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", url)
    site.page("http://world.example/a", "by proxy")
    loader = Loader(attempts=1)
    outside = Source("http://world.example/x", "", Zone.PUBLIC)
    assert loader.fetch("http://world.example/a", referrer=outside).text == "by proxy"
    for host in ("169.254.169.254", "metadata.google.internal", "127.0.0.1", "10.0.0.1", "localhost"):
        with pytest.raises(Refused):
            loader.fetch(f"http://{host}/a", referrer=outside)
    assert len(site.asked) == 1


def test_addresses_in_messages_show_no_secret(web: tuple[str, Site]) -> None:
    url, site = web
    address = url.replace("//", "//ann:hush@")
    site.page("/a", f"{{{{ include('{address}/gone?token=hush') }}}}")
    with pytest.raises(NotFound) as caught:
        render(f"{address}/a?token=hush")
    assert "hush" not in str(caught.value)
    site.page("/b?token=hush", "{{ nothing }}")
    with pytest.raises(InfraKitError) as undefined:
        render(f"{address}/b?token=hush")
    assert "hush" not in str(undefined.value)
