"""Templates from elsewhere: what is asked again and what is not, and who may name what."""

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from infrakit.spi.errors import InfraKitError, InvalidSpec, NotFound, Refused, Unreachable
from infrakit.template import addresses
from infrakit.template.addresses import Reach
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
def test_a_relative_address_starts_from_what_names_it(base: str, address: str, absolute: str) -> None:
    assert resolve(address, base) == absolute


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("127.0.0.1", Reach.MACHINE), ("127.9.9.9", Reach.MACHINE), ("0.0.0.0", Reach.MACHINE), ("::1", Reach.MACHINE),
        ("::", Reach.MACHINE), ("::ffff:127.0.0.1", Reach.MACHINE), ("64:ff9b::7f00:1", Reach.MACHINE),
        ("localhost", Reach.MACHINE), ("LOCALHOST.", Reach.MACHINE), ("x.localhost", Reach.MACHINE),
        ("10.1.2.3", Reach.PRIVATE), ("192.168.0.1", Reach.PRIVATE), ("172.16.0.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE), ("fd00::1", Reach.PRIVATE), ("::ffff:10.0.0.1", Reach.PRIVATE),
        ("8.8.8.8", Reach.WORLD), ("2606:4700::1111", Reach.WORLD), ("example.com", Reach.WORLD),
        ("169.254.169.254", None), ("::ffff:169.254.169.254", None), ("fe80::1", None), ("fd00:ec2::254", None),
        ("100.100.100.200", None), ("metadata.google.internal", None), ("2002:a9fe:a9fe::1", None),
        ("64:ff9b::a9fe:a9fe", None), ("fe80::1%eth0", None),
    ],
)  # fmt: skip
def test_how_far_inside_a_host_is(host: str, reach: Reach | None) -> None:
    assert addresses.named_reach(host) == reach


# -- asking ------------------------------------------------------------------------------------------------------------


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


def test_nothing_is_asked_for_a_while_and_then_only_whether_it_has_changed(web: tuple[str, Site]) -> None:
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
    file.write_text("ten")  # within the same tick of the file system's time, it seems
    os.utime(file, ns=(same, same))
    assert loader.fetch(str(file)).text == "ten"
    file.unlink()
    with pytest.raises(NotFound):
        loader.fetch(str(file))


def test_a_busy_server_is_asked_again_and_one_that_says_no_is_not(web: tuple[str, Site]) -> None:
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


def test_limits_and_deadlines(web: tuple[str, Site]) -> None:
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


def test_credentials_are_for_the_server_they_are_written_for(web: tuple[str, Site]) -> None:
    url, site = web
    with serving("127.0.0.2") as (other, elsewhere):
        elsewhere.page("/a", "{{ include('b') }}")
        site.pages["/a"] = Answer(code=302, headers={"Location": f"{other}/a"})
        elsewhere.page("/b", "b")
        site.page("/b", "b")
        assert Loader().fetch(url.replace("//", "//ann:hush@") + "/a").text == "{{ include('b') }}"
        assert site.authorized == ["Basic YW5uOmh1c2g="]
        assert elsewhere.authorized == [None]


def test_the_certificate_of_a_server_is_verified_and_http_is_no_way_out() -> None:
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
        assert "may not name one over http://" in refusal(f"{url}/names", Loader(tls=client))
        assert len(other.asked) == 0


# -- who may name what -------------------------------------------------------------------------------------------------


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
def test_a_template_from_the_network_reaches_nothing_of_this_machine(named: str, web: tuple[str, Site]) -> None:
    url, site = web
    site.page("/a", f"{{{{ {named} }}}}")
    loader = Loader(fetchers={"s3": lambda _address, _timeout_s: b"never"}, attempts=1)
    with pytest.raises((Refused, NotFound)) as caught:
        print(render(f"{url}/a", loader, Scope(env=frozenset(("PATH",)))))
    assert "root:" not in str(caught.value)


def test_a_macro_of_the_network_stays_one_wherever_it_is_called(tmp_path: Path, web: tuple[str, Site]) -> None:
    url, site = web
    site.page("/lib", "{% macro steal(f) %}{{ f('/etc/hostname') }}{{ file('/etc/hostname') }}{% endmacro %}")
    (tmp_path / "a").write_text(f"{{{{ source('{url}/lib') }}}}{{{{ steal(file) }}}}")
    assert "may not read files" in refusal(str(tmp_path / "a"))
    assert render(str(tmp_path / "a"), Loader(trusts_network=True)) == Path("/etc/hostname").read_text() * 2


def test_what_is_allowed_is_allowed(tmp_path: Path, web: tuple[str, Site]) -> None:
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


def test_a_template_of_a_plugin_asks_that_plugin_only(tmp_path: Path) -> None:
    with serving_socket(tmp_path / "a.sock") as ours, serving_socket(tmp_path / "b.sock") as theirs:
        theirs.page("/x", "x")
        ours.page("/x", "x")
        ours.page("/away", f"{{{{ include('unix://{tmp_path}/b.sock:/x') }}}}")
        ours.page("/here", f"{{{{ include('x') }}}}{{{{ include('unix://{tmp_path}/a.sock:/x') }}}}")
        ours.page("/file", "{{ file('/etc/hostname') }}")
        assert render(f"unix://{tmp_path}/a.sock:/here") == "xx"
        assert "may not ask this socket" in refusal(f"unix://{tmp_path}/a.sock:/away")
        assert "may not read files" in refusal(f"unix://{tmp_path}/a.sock:/file")
        assert not theirs.asked


def test_standard_input_is_no_include(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("{{ include('-') }}")
    assert "standard input is for the command line only" in refusal(str(tmp_path / "a"))


def test_a_template_of_the_world_reaches_no_private_network(web: tuple[str, Site]) -> None:
    url, site = web
    site.page("/a", "inside")
    loader = Loader(attempts=1)
    for reach in (Reach.WORLD, Reach.PRIVATE):
        with pytest.raises(Refused, match="is a service of this machine, which a template from outside"):
            loader.fetch(f"{url}/a", namer=Source("http://world.example/x", "", reach))
        with pytest.raises(Refused, match="is a service of this machine"):
            loader.fetch(
                url.replace("127.0.0.1", "localhost") + "/a", namer=Source("http://world.example/x", "", reach)
            )
    assert not site.asked
    assert loader.fetch(f"{url}/a", namer=Source("http://10.0.0.1/x", "", Reach.MACHINE)).text == "inside"
    with pytest.raises(Refused):  # also not from what is kept
        loader.fetch(f"{url}/a", namer=Source("http://world.example/x", "", Reach.WORLD))
    assert loader.fetch(f"{url}/a", namer=Source(f"{url}/inline", "")).text == "inside"


def test_a_template_asks_no_crowd_of_servers(web: tuple[str, Site]) -> None:
    url, site = web
    for number in range(4):
        site.page(f"/{number}", "x")
    engine = Engine(Loader(), Limits(fetches_max=3))

    def answered(count: int) -> str:
        text = f"{{% for n in range({count}) %}}{{{{ fetch('{url}/' ~ n) }}}}{{% endfor %}}"
        return engine.render(engine.inline(text * 2, name="t"), Scope()).text

    assert answered(3) == "x" * 6
    with pytest.raises(InvalidSpec, match="templates ask for more than 3 addresses"):
        answered(4)


def test_a_redirect_does_not_reach_further(web: tuple[str, Site]) -> None:
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
    outside = Source("http://world.example/x", "", Reach.WORLD)
    assert loader.fetch("http://world.example/a", namer=outside).text == "by proxy"
    for host in ("169.254.169.254", "metadata.google.internal", "127.0.0.1", "10.0.0.1", "localhost"):
        with pytest.raises(Refused):
            loader.fetch(f"http://{host}/a", namer=outside)
    assert len(site.asked) == 1


def test_addresses_show_no_secret(web: tuple[str, Site]) -> None:
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
