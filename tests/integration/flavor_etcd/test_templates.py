"""Boot scripts of one's own in the place of the flavor's, with a real etcd."""

from pathlib import Path

import pytest

from tests.integration.etcd.members import needs_etcd
from tests.integration.flavor_etcd.machines import found, machines

pytestmark = [needs_etcd, pytest.mark.timeout(180)]

# The plainest that works: a cluster that is founded by all of its members at once.
STATIC = """\
#!/bin/sh
set -eu
test -d "$INFRAKIT_VOLUME" || { echo "there is no volume" >&2; exit 1; }
exec {{ etcd.binary | quote }} --name {{ etcd.name }} --data-dir "$INFRAKIT_VOLUME" \\
	--listen-client-urls {{ etcd.listen_client_url }} --advertise-client-urls {{ etcd.client_url }} \\
	--listen-peer-urls {{ etcd.listen_peer_url }} --initial-advertise-peer-urls {{ etcd.peer_url }} \\
	--initial-cluster {% for each in allocation.logical_ids -%}
	{{ each }}=http://{{ each }}:{{ spec.PeerPort | default(2380) }}{{ "" if loop.last else "," }}
	{%- endfor %} \\
	--initial-cluster-token {{ etcd.token | quote }} {{ etcd.extra_args | map("quote") | join(" ") }}
"""


async def test_a_template_in_its_place_founds_a_cluster(tmp_path: Path) -> None:
    template = tmp_path / "static.sh.j2"
    template.write_text(STATIC)
    async with machines(3, tmp_path) as (a, b, c):
        members = await found([a, b, c], InitScriptTemplateURL=str(template))
        assert {each.name for each in members} == {a.address, b.address, c.address}
        assert len(await a.client.members()) == 3
        await a.write("k", "kept")
        await b.kill()
        await b.boot([a, b, c], InitScriptTemplateURL=template.as_uri())
        await b.serves()
        assert await b.read("k") == "kept"


async def test_a_template_may_do_something_before_the_flavors_own_script(tmp_path: Path) -> None:
    init = "#!/bin/sh\necho formatting {{ attachments[0].id }}\n{{ default_script() }}"
    async with machines(1, tmp_path) as (a,):
        (member,) = await found([a], Init=init)
        assert member.name == a.address
        assert a.said.startswith(f"formatting {a.address}\ninfrakit: founding a cluster\n")
