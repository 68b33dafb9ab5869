"""Templates as operators use them: from a web server, through a pipe, as declarations; and untrusted ones."""

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.journeys.operator import Operator, cattle

pytestmark = pytest.mark.slow

GALLERY = Path(__file__).parents[2] / "examples/templates"
CLUSTER = """\
{{/* The groups that are asked for, each from the part beside this. */}}
{% for name, size in var('groups') | dictsort %}
{{ include('parts/group.yaml.j2', name=name, size=size) }}
{%- endfor %}

"""
GROUP = """\
- kind: group
  metadata: {name: {{ name }}}
  properties:
    Allocation: {Size: {{ size }}}
    Instance: {Plugin: local}
    Flavor:
      Plugin: vanilla
      Properties: {Init: {{ source('init.j2') }}{{ init(var('site/zone', 'nowhere')) | to_json }}}
    Updating: {Settle: 100ms}
"""
INIT = """\
{% macro init(zone) %}echo in {{ zone }} {% raw %}{{ index.sequence }}{% endraw %}; exec sleep 1000{% endmacro %}
"""


class Site(NamedTuple):
    """A web server of files: its address, and the directory that it serves."""

    url: str
    root: Path


class Handler(http.server.SimpleHTTPRequestHandler):
    """A handler that logs nothing."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def site(operator: Operator) -> Iterator[Site]:
    root = operator.home / "site"
    root.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    operator.environment["no_proxy"] = "127.0.0.1"
    yield Site(f"http://127.0.0.1:{server.server_address[1]}", root)
    server.shutdown()
    server.server_close()
    thread.join()


def publish(directory: Path) -> None:
    (directory / "parts").mkdir(parents=True)
    (directory / "cluster.yaml.j2").write_text(CLUSTER)
    (directory / "parts/group.yaml.j2").write_text(GROUP)
    (directory / "parts/init.j2").write_text(INIT)


def test_a_directory_of_templates_can_be_moved(operator: Operator, site: Site) -> None:
    variables = ("--vars", str(GALLERY / "vars.yaml"))
    name = "cloud-init-debian.yaml.j2"
    here = operator("template", str(GALLERY / name), *variables)
    shutil.copytree(GALLERY, site.root / "templates")
    assert operator("template", f"{site.url}/templates/{name}", *variables) == here
    (site.root / "templates").rename(site.root / "moved")
    assert operator("template", f"{site.url}/moved/{name}?token=hush", *variables) == here
    error = operator("template", f"{site.url}/templates/{name}?token=hush", *variables, exits=1)
    assert f"{site.url}/templates/{name}: the server answered 404" in error
    (site.root / "moved/parts/boot.yaml.j2").unlink()
    error = operator("template", f"{site.url}/moved/{name}?token=hush", *variables, exits=1)
    assert f"{site.url}/moved/parts/boot.yaml.j2: the server answered 404" in error
    assert f"named in line 30 of {site.url}/moved/{name}" in error
    assert "hush" not in error


def test_a_declaration_may_be_a_template_on_a_web_server(operator: Operator, site: Site) -> None:
    publish(site.root / "v1")
    address = f"{site.url}/v1/cluster.yaml.j2"
    operator.up(cattle("web", 1))
    operator("metadata", "set", "vars/site/zone", "north")
    given = ("--var", "groups/web=2", "--var", "groups/db=1", "--var", "site/zone=south")
    shown = operator("plan", address, *given, "--rendered")
    assert shown.startswith("- kind: group\n  metadata: {name: db}\n")
    assert "echo in south {{ index.sequence }}" in shown  # the flavor renders this for each instance
    operator("commit", address, *given, "-m", "from the site", "--wait=120s")
    assert operator.group("web")["Want"] == 2
    assert operator.group("db")["Live"] == 1
    stored = operator("history", "--show", "2")
    assert "var(" not in stored
    for slot, member in operator.members("web").items():
        assert operator("instance", "logs", member["ID"]).endswith(f"in south {slot}\n")
    (site.root / "v1/parts/group.yaml.j2").write_text(GROUP.replace("Settle", "Setle"))
    wrong = operator("commit", address, *given, exits=1)
    where = f"{site.url}/v1/parts/group.yaml.j2: line 9: groups[0].properties.Updating.Setle: unknown field"
    assert where in wrong
    assert 'did you mean "Settle"?; line 9 of the rendered text' in wrong
    operator("commit", address, "--var", "groups=none", exits=1)
    assert operator.group("web")["Want"] == 2


def test_a_template_in_a_pipe_reads_metadata_of_the_running_daemon(operator: Operator) -> None:
    operator.up(cattle("web", 1))
    operator("metadata", "set", "vars/site/zone", "north")
    text = "echo {{ metadata('vars/site/zone') | quote }} {{ metadata('manager/groups/web/want') }}\n"
    script = operator("template", "-", stdin=text)
    ran = subprocess.run(["sh"], input=script, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "north 1\n"
    assert "metadata  vars/site/zone" in operator("template", "-", "--explain", stdin=text)
    wrong = operator("template", "-", stdin="{{ metadata('vars/site/zones') }}", exits=1)
    assert wrong == "stdin: line 1: there is no metadata at 'vars/site/zones' (did you mean 'zone'?)\n"


def test_a_failed_check_leaves_the_output_file_unchanged(operator: Operator) -> None:
    (operator.home / "boot.sh").write_text("old")
    (operator.home / "boot.sh.j2").write_text("#!/bin/sh\n{% if var('x', true) %}\nif true; then\n{% endif %}\necho\n")
    output = operator("template", "boot.sh.j2", "--check", "-o", "boot.sh", exits=1)
    assert output.startswith("boot.sh.j2: line 5: sh: ")
    assert (operator.home / "boot.sh").read_text() == "old"
    operator("template", "boot.sh.j2", "--check", "-o", "boot.sh", "--var=x=false")
    assert (operator.home / "boot.sh").read_text() == "#!/bin/sh\necho\n"


BOMBS = {
    "loop": "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
    "doubling": "{% set n = namespace(x='x') %}{% for i in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "lists": "{% set n = namespace(x=[1]) %}{% for i in range(64) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "padding": "{{ '%099999999999d' | format(1) }}",
    "includes": "{{ include('includes?a') }}{{ include('includes?b') }}",
    "macros": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "document": "x" * 2_000_000 + "{{ 1 }}",
}
# Runs between this process and the command, because a child process starts with the memory use of its parent.
MEASURED = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, used.ru_maxrss, used.ru_utime + used.ru_stime]))
"""
UNTRUSTED = {
    "file": "{{ file('/etc/passwd') }}",
    "include": "{{ include('file:///etc/passwd') }}",
    "secret": "{{ secret('cmd:touch ran') }}",
    "socket": "{{ fetch('unix://group/') }}",
    "cloud": "{{ fetch('http://169.254.169.254/latest/meta-data/') }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_resource_bomb_from_the_network_is_refused_in_bounded_time_and_memory(
    operator: Operator, site: Site, name: str
) -> None:
    (site.root / name).write_text(BOMBS[name])
    command = [sys.executable, "-c", MEASURED, sys.executable, "-m", "infrakit", "template", f"{site.url}/{name}"]
    done = subprocess.run(command, env=operator.environment, capture_output=True, text=True, timeout=60, check=False)
    code, memory_kb, cpu_s = json.loads(done.stdout)
    assert code == 1, done.stderr
    assert f"{site.url}/{name}: " in done.stderr
    assert done.stderr.count("\n") == 1
    assert memory_kb < 400_000
    assert cpu_s < 12  # the limit of the confinement


@pytest.mark.parametrize("name", UNTRUSTED)
def test_an_untrusted_template_cannot_access_this_machine(operator: Operator, site: Site, name: str) -> None:
    (site.root / name).write_text(UNTRUSTED[name])
    output = operator("template", f"{site.url}/{name}", exits=1)
    assert "may not" in output or "credentials" in output, output
    assert "root:" not in output
    assert not (operator.home / "ran").exists()


def test_trust_is_granted_by_an_option_of_the_command(operator: Operator, site: Site) -> None:
    (operator.home / "motd").write_text("welcome")
    (site.root / "a").write_text(f"{{{{ file('{operator.home}/motd') }}}}")
    operator("template", f"{site.url}/a", exits=1)
    assert operator("template", f"{site.url}/a", "--trust") == "welcome"
