"""Custom boot scripts instead of the flavor's, with a real etcd."""

from pathlib import Path

import pytest

from tests.integration.etcd.members import needs_etcd
from tests.integration.flavor_etcd.machines import bootstrap, machines

pytestmark = [needs_etcd, pytest.mark.timeout(180)]

# The simplest working script: all members bootstrap the cluster at once.
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


async def test_a_custom_template_bootstraps_a_cluster(tmp_path: Path) -> None:
    template = tmp_path / "static.sh.j2"
    template.write_text(STATIC)
    async with machines(3, tmp_path) as (a, b, c):
        members = await bootstrap([a, b, c], InitScriptTemplateURL=str(template))
        assert {each.name for each in members} == {a.address, b.address, c.address}
        assert len(await a.client.members()) == 3
        await a.write("k", "kept")
        await b.kill()
        await b.boot([a, b, c], InitScriptTemplateURL=template.as_uri())
        await b.wait_until_healthy()
        assert await b.read("k") == "kept"


async def test_a_custom_template_can_include_the_default_script(tmp_path: Path) -> None:
    init = "#!/bin/sh\necho formatting {{ attachments[0].id }}\n{{ default_script() }}"
    async with machines(1, tmp_path) as (a,):
        (member,) = await bootstrap([a], Init=init)
        assert member.name == a.address
        assert a.output.startswith(f"formatting {a.address}\ninfrakit: founding a cluster\n")
