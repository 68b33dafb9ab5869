"""Boot scripts: prepare 10,000 instances, each with its own script, with and without a template."""

import asyncio
import time

import msgspec

from infrakit.flavors.etcd import EtcdFlavor
from infrakit.flavors.vanilla import Vanilla
from infrakit.spi.flavor import Flavor
from infrakit.spi.values import Allocation, GroupID, Index, InstanceSpec, LogicalID

SIZE = 10_000
AT_ONCE = 100

TEMPLATE = """\
#!/bin/sh
set -eu
name={{ ("web-" ~ index.sequence) | quote }}
group={{ index.group | quote }}
{% for disk in ["a", "b", "c"] %}
mkdir -p /data/{{ disk }}-{{ index.sequence }}
{% endfor %}
{% if tags.tier == "front" %}
ulimit -n 65536
{% endif %}
exec server --name "$name" --tier {{ spec.Tags.tier | quote }} --port {{ 8000 + index.sequence % 1000 }}
"""
WEB = {"Tags": {"tier": "front"}}


def main() -> None:
    print(f"{SIZE:,} instances of a group prepared, CPU in all threads")
    cattle, pets = Allocation(size=SIZE), Allocation(logical_ids=tuple(map(LogicalID, ("10.0.0.1", "10.0.0.2"))))
    for name, flavor, properties, allocation in (
        ("vanilla, no template", Vanilla(), {**WEB, "Init": "exec server"}, cattle),
        ("vanilla, a template", Vanilla(), {**WEB, "Init": TEMPLATE}, cattle),
        ("etcd, its own script", EtcdFlavor(), {}, pets),
    ):
        wall_s, cpu_s = asyncio.run(_prepared(flavor, msgspec.Raw(msgspec.json.encode(properties)), allocation))
        print(f"  {name:21} {cpu_s:5.2f} s of CPU, {wall_s:5.2f} s in all, {cpu_s / SIZE * 1e6:4.0f} us each")


async def _prepared(flavor: Flavor, properties: msgspec.Raw, allocation: Allocation) -> tuple[float, float]:
    """Return the wall and CPU seconds for all instances, prepared in batches of `AT_ONCE`."""
    began, cpu = time.perf_counter(), time.process_time()
    for first in range(0, SIZE, AT_ONCE):
        await asyncio.gather(*(_one(flavor, properties, allocation, first + n + 1) for n in range(AT_ONCE)))
    return time.perf_counter() - began, time.process_time() - cpu


async def _one(flavor: Flavor, properties: msgspec.Raw, allocation: Allocation, number: int) -> None:
    logical_id = allocation.logical_ids[number % 2] if allocation.logical_ids else None
    tags = {"infrakit.group": "web", "infrakit.token": f"c/web/{number}/1", "infrakit.slot": str(number)}
    prepared = await flavor.prepare(
        properties=properties,
        spec=InstanceSpec(tags=tags, logical_id=logical_id),
        allocation=allocation,
        index=Index(group=GroupID("web"), sequence=number),
    )
    assert prepared.init


if __name__ == "__main__":
    main()
