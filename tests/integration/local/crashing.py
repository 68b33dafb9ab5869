"""A daemon for crash tests: it provisions and destroys as fast as it can, with its own write-ahead log.

Run as a program, it reads one workload per line, and forks one daemon for each, which prints its PID once it works.
Forking saves the time of starting Python hundreds of times.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

import msgspec

from infrakit.instances.local import Local
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import TAG_TOKEN, Attachment, InstanceID, InstanceSpec, LogicalID

# Every script first checks whether another process uses its volume, and then writes a line there.
PREAMBLE = """
cd "$INFRAKIT_VOLUME"
if [ -s pid ]; then
    read -r other <pid
    if kill -0 "$other" 2>/dev/null && grep -qz "^INFRAKIT_VOLUME=$INFRAKIT_VOLUME" "/proc/$other/environ"; then
        echo "$INFRAKIT_INSTANCE_ID found $other" >>violations
    fi
fi
echo $$ >pid
echo "$INFRAKIT_TAG_INFRAKIT_TOKEN $INFRAKIT_INSTANCE_ID" >>journal
"""
SCRIPTS = (
    "exec sleep 1000",
    "trap '' TERM; while :; do sleep 0.02; done",
    "sleep 1000 & exec sleep 0.03",
    "exit 1",
)


class Workload(msgspec.Struct):
    """The workload of one daemon."""

    home: str
    intents: str
    slots: list[str]
    seed: int


def spec_of(slot: str, generation: int) -> InstanceSpec:
    """The spec of a slot's instance, the same for each retry."""
    return InstanceSpec(
        init=PREAMBLE + SCRIPTS[generation % len(SCRIPTS)],
        tags={TAG_TOKEN: f"{slot}-{generation}"},
        logical_id=LogicalID(slot),
        attachments=(Attachment(id=f"volume-{slot}", type="volume"),),
        properties=msgspec.Raw(b'{"GracePeriod": "20ms"}'),
    )


def generation(intents: Path, slot: str) -> int:
    """The last creation of a slot, 0 for none."""
    path = intents / slot
    return int(path.read_text()) if path.exists() else 0


def was_destroyed(intents: Path, slot: str) -> bool:
    """Whether the newest instance was destroyed, possibly before it wrote its line."""
    path = intents / f"{slot}.destroyed"
    return path.exists() and path.read_text() in ("", str(generation(intents, slot)))


async def work(workload: Workload) -> None:
    """Loop forever: in each slot, destroy the running instance, or create the next one."""
    local, rng, intents = Local(Path(workload.home)), random.Random(workload.seed), Path(workload.intents)
    print(os.getpid(), flush=True)
    async with asyncio.TaskGroup() as group:
        for slot in workload.slots:
            group.create_task(work_on(local, rng, intents, slot))


async def work_on(local: Local, rng: random.Random, intents: Path, slot: str) -> None:
    while True:
        await asyncio.sleep(rng.random() * 0.01)
        number = generation(intents, slot)
        instance: InstanceID | None = None
        if number:
            instance = await local.provision(
                spec=spec_of(slot, number)
            )  # completes a creation that a crash interrupted
        if instance is not None and await local.inspect(instance=instance) is not None:
            if rng.random() < 0.5:
                (intents / f"{slot}.destroyed").write_text(str(number))
                await local.destroy(instance=instance, context=DestroyContext())
            continue
        new = intents / f".{slot}"
        new.write_text(str(number + 1))
        new.rename(intents / slot)
        await local.provision(spec=spec_of(slot, number + 1))


def main() -> None:
    for line in sys.stdin:
        workload = msgspec.json.decode(line, type=Workload)
        if os.fork() == 0:
            asyncio.run(work(workload))
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


if __name__ == "__main__":
    main()
