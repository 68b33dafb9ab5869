"""Makes room in an etcd whose database has reached its quota, and which refuses every write for that reason.

etcd keeps what was overwritten and deleted until it is compacted, a file does not shrink until it is defragmented, and
the alarm remains until it is disarmed. A full etcd still accepts all three, and deletions.
"""

import contextlib

from infrakit.clients.etcd import Etcd
from infrakit.spi import errors

ROOM_S = 60.0  # for each step, at each member


async def make_room(client: Etcd, reserve: str) -> None:
    """Delete the key `reserve`, compact all history, defragment each member, and disarm the alarm.

    A member that does not answer is skipped. Raises what etcd raises, `Refused` if it forbids one of these.
    """
    patient = client.at(client.endpoints, deadline_s=ROOM_S)
    try:
        deleted = await patient.change("kv/deleterange", {"key": reserve})
        with contextlib.suppress(errors.Refused):  # another replica has compacted it
            await patient.change("kv/compaction", {"revision": deleted["header"]["revision"], "physical": True})
        for urls in await _members(patient):
            await _defragment(client.at(urls, deadline_s=ROOM_S))
        await _disarm(patient)
    finally:
        await patient.close()


async def _members(client: Etcd) -> list[tuple[str, ...]]:
    """Return the client URLs of each member, those of the leader last: it does not answer meanwhile."""
    leader = (await client.status()).leader
    members = [each for each in await client.members() if each.client_urls]
    return [each.client_urls for each in sorted(members, key=lambda each: each.id == leader)]


async def _defragment(member: Etcd) -> None:
    try:
        with contextlib.suppress(errors.Unreachable, errors.OutcomeUnknown):
            await member.change("maintenance/defragment", {})
    finally:
        await member.close()


async def _disarm(client: Etcd) -> None:
    """Disarm the alarm of each member that has raised one. etcd ignores a request that names none."""
    for alarm in (await client.read("maintenance/alarm", {"action": "GET"})).get("alarms", ()):
        if alarm.get("alarm") == "NOSPACE":
            request = {"action": "DEACTIVATE", "memberID": alarm.get("memberID", "0"), "alarm": "NOSPACE"}
            await client.change("maintenance/alarm", request)
