"""Leadership from etcd: that of the cluster itself, observed at the local member, or a campaign for a key with a lease.

Both are observations, and neither proves a quorum. A leader without its quorum reports itself leader for up to its
election timeout, and a lease may expire while the last observation is still valid. The epoch in the store fences off a
previous leader in both cases.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import SplitResult

from infrakit.clients import urls
from infrakit.clients.etcd import Etcd, decode, encode
from infrakit.spi import errors
from infrakit.spi.leadership import Observation

INTERVAL_S = 0.05  # from one poll of the local member to the next
VALID_S = 2.0
TTL_S = 5  # of the lease of a campaign: whole seconds
RETRY_S = 0.5


def _now() -> float:
    return asyncio.get_running_loop().time()


class EtcdObserved:
    """Leads while the local member leads the cluster; `client` has that endpoint only."""

    form = "etcd://HOST:PORT"

    def __init__(self, client: Etcd) -> None:
        self._client = client
        self._names: dict[int, str] = {}

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return bool(url.netloc)

    @classmethod
    def from_url(cls, url: SplitResult, *, name: str) -> Self:  # noqa: ARG003 - the local member has a name of its own
        client = urls.etcd(url)
        if len(client.endpoints) > 1:
            raise errors.Refused(
                "a replica observes one member of etcd: the one on its own node",
                where=f"--leadership {url.geturl()}",
                remedy="name the local member only, or campaign: etcd+campaign://...",
            )
        return cls(client)

    async def observe(self) -> AsyncIterator[Observation]:
        """Poll the local member every `INTERVAL_S`."""
        while True:
            yield await self._poll()
            await asyncio.sleep(INTERVAL_S)

    async def _poll(self) -> Observation:
        begun_at = _now()
        try:
            async with asyncio.timeout(VALID_S / 2):
                status = await self._client.status()
        except (errors.InfraKitError, TimeoutError) as error:
            why = str(error) or "the local member does not answer"
            return Observation(leader=None, begun_at=begun_at, valid_s=VALID_S, note=why)
        if not status.leader:
            return Observation(leader=False, begun_at=begun_at, valid_s=VALID_S, note="etcd has no leader")
        who = await self._name(status.leader)
        leads = status.leader == status.member
        note = "the local member of etcd leads" if leads else f"the member {who} of etcd leads"
        return Observation(leader=leads, begun_at=begun_at, valid_s=VALID_S, who=who, note=note)

    async def _name(self, member: int) -> str:
        """Return the name of a member, cached; its ID in hexadecimal if the name cannot be read now.

        The member list is read without a quorum, so it is available during an election, too.
        """
        if member not in self._names:
            with contextlib.suppress(errors.InfraKitError, TimeoutError):
                async with asyncio.timeout(VALID_S / 4):
                    self._names = {each.id: each.name for each in await self._client.members(local=True)}
        return self._names.get(member, f"{member:x}")

    async def resign(self) -> None:
        """Transfer the leadership of etcd to another member that answers."""
        status = await self._client.status()
        if status.leader != status.member:
            return
        for member in await self._client.members():
            if member.id == status.member or not member.client_urls or member.is_learner:
                continue
            other = self._client.at(member.client_urls, deadline_s=VALID_S / 2)
            try:
                await other.status()
                await self._client.move_leader(member.id)
            except errors.InfraKitError:
                continue
            finally:
                await other.close()
            return
        raise errors.Refused("no other member of etcd answers and could take the leadership", where="etcd")

    async def take_over(self, *, leader: str) -> None:
        """Ask the member that leads to transfer the leadership to the local member."""
        status = await self._client.status()
        if status.leader == status.member:
            return
        for member in await self._client.members():
            if member.id == status.leader and member.name == leader:
                other = self._client.at(member.client_urls, deadline_s=VALID_S)
                try:
                    await other.move_leader(status.member)
                finally:
                    await other.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class EtcdCampaign:
    """Leads while it holds a key with a lease: leadership of InfraKit, independent of that of etcd."""

    form = "etcd+campaign://HOST:PORT[,HOST:PORT]/PREFIX"

    def __init__(self, client: Etcd, key: str, name: str, *, ttl_s: int = TTL_S) -> None:
        self._client = client
        self._key = key
        self._name = name
        self._ttl_s = ttl_s
        self._held = False
        self._resigning = asyncio.Event()
        self._resigned = asyncio.Event()

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return bool(url.netloc)

    @classmethod
    def from_url(cls, url: SplitResult, *, name: str) -> Self:
        return cls(urls.etcd(url), f"{urls.etcd_prefix(url)}/leader", name)

    async def observe(self) -> AsyncIterator[Observation]:
        """Campaign continuously; observe after each third of the TTL, and when the holder of the key changes."""
        while True:
            begun_at = _now()
            try:
                async for observation in self._campaign():
                    yield observation
            except (errors.InfraKitError, TimeoutError) as error:
                note = str(error) or "etcd does not answer"
                yield Observation(leader=None, begun_at=begun_at, valid_s=self._ttl_s, note=note)
                await asyncio.sleep(RETRY_S)

    async def _campaign(self) -> AsyncIterator[Observation]:
        """Make one attempt: until the key is lost, or for a third of the TTL while another replica holds it."""
        begun_at = _now()
        lease = await self._claim()
        if lease is None:
            holder, revision = await self._holder()
            yield self._following(holder, begun_at)
            await self._until_changed(revision)
            return
        self._held = True
        try:
            while True:
                yield self._leading(begun_at)
                await _wait(self._resigning, self._ttl_s / 3)
                begun_at = _now()
                if self._resigning.is_set() or not await self._holds(lease):
                    break
        finally:
            self._held = False
            if self._resigning.is_set():
                await self._release(lease)
        yield self._following("", begun_at)
        if self._resigning.is_set():
            await self._wait_for_new_leader()

    # -- the key ---------------------------------------------------------------------------------------------------

    async def _claim(self) -> str | None:
        """Acquire the key with a new lease and return the lease; None if another replica holds the key."""
        if (await self._holder())[0]:
            return None
        answer = await self._client.change("lease/grant", {"TTL": str(self._ttl_s)})
        lease = str(answer["ID"])
        free = {"key": encode(self._key), "target": "VERSION", "result": "EQUAL", "version": "0"}
        put = {"key": encode(self._key), "value": encode(self._name), "lease": lease}
        claim = await self._client.change("kv/txn", {"compare": [free], "success": [{"requestPut": put}]})
        if claim.get("succeeded", False):
            return lease
        await self._client.change("lease/revoke", {"ID": lease})
        return None

    async def _holder(self) -> tuple[str, int]:
        """Return the holder of the key, and the revision of etcd at which it was read."""
        answer = await self._client.read("kv/range", {"key": encode(self._key)})
        held = answer.get("kvs", ())
        return decode(held[0].get("value", "")).decode() if held else "", int(answer["header"]["revision"])

    async def _holds(self, lease: str) -> bool:
        """Renew the lease, and return whether the key is still attached to it.

        The last observation is valid for another two thirds of the TTL: time to find a member that answers.
        """
        async with asyncio.timeout(self._ttl_s / 3 * 2):
            if not await self._renew(lease):
                return False
            answer = await self._client.read("kv/range", {"key": encode(self._key)})
        return any(str(kv.get("lease", "")) == lease for kv in answer.get("kvs", ()))

    async def _renew(self, lease: str) -> bool:
        """Renew the lease at the first member that answers. False if the lease has expired."""
        while True:
            try:
                async for message in self._client.stream("lease/keepalive", {"ID": lease}, silent_s=self._ttl_s / 6):
                    return int(message.get("TTL", 0)) > 0
            except errors.Unreachable:
                await asyncio.sleep(INTERVAL_S)

    async def _until_changed(self, since: int) -> None:
        """Wait for a change of the key, for a third of the TTL at most, in case the watch misses one."""
        request = {"key": encode(self._key), "start_revision": str(since + 1)}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._ttl_s / 3):
                async for message in self._client.stream("watch", {"create_request": request}):
                    if message.get("events") or message.get("canceled"):
                        break

    async def close(self) -> None:
        """Close the connections; a lease that is held expires."""
        await self._client.close()

    # -- resigning -------------------------------------------------------------------------------------------------

    async def resign(self) -> None:
        """Release the key, and campaign again only when another replica holds it, or after one TTL."""
        if not self._held:
            return
        self._resigned.clear()
        self._resigning.set()
        async with asyncio.timeout(self._ttl_s):
            await self._resigned.wait()

    async def _release(self, lease: str) -> None:
        await self._client.change("lease/revoke", {"ID": lease})
        self._resigned.set()

    async def _wait_for_new_leader(self) -> None:
        self._resigning.clear()
        deadline = _now() + self._ttl_s
        while _now() < deadline:
            holder, revision = await self._holder()
            if holder:
                break
            await self._until_changed(revision)

    # -- observations ----------------------------------------------------------------------------------------------

    def _leading(self, begun_at: float) -> Observation:
        note = f"{self._name} holds {self._key}"
        return Observation(leader=True, begun_at=begun_at, valid_s=self._ttl_s, who=self._name, note=note)

    def _following(self, holder: str, begun_at: float) -> Observation:
        note = f"{holder} holds {self._key}" if holder else f"no replica holds {self._key}"
        return Observation(leader=False, begun_at=begun_at, valid_s=self._ttl_s, who=holder, note=note)


async def _wait(event: asyncio.Event, for_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            await event.wait()
