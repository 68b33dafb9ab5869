"""Leadership as etcd knows it: that of the cluster itself, seen from the local member, or one campaigned for in it.

Both are observations: neither proves a quorum. A leader that has lost it reports itself leader for up to its election
timeout, and a lease may be believed a moment longer than it lasts; the epoch in the store is what fences both off.
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

INTERVAL_S = 0.05  # between two looks at the local member
VALID_S = 2.0
TTL_S = 5  # of the lease of a campaign: whole seconds
RETRY_S = 0.5


def _now() -> float:
    return asyncio.get_running_loop().time()


class EtcdObserved:
    """Leads when the local member leads the cluster; `client` knows that one endpoint only."""

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
        """A look every `INTERVAL_S`."""
        while True:
            yield await self._look()
            await asyncio.sleep(INTERVAL_S)

    async def _look(self) -> Observation:
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
        """Names seldom change; one that cannot be read now is read at the next observation.

        The local list is enough for names, and it is there during an election, too.
        """
        if member not in self._names:
            with contextlib.suppress(errors.InfraKitError, TimeoutError):
                async with asyncio.timeout(VALID_S / 4):
                    self._names = {each.id: each.name for each in await self._client.members(local=True)}
        return self._names.get(member, f"{member:x}")

    async def resign(self) -> None:
        """Move the leadership to another member that answers."""
        status = await self._client.status()
        if status.leader != status.member:
            return
        for member in await self._client.members():
            if member.id == status.member or not member.client_urls or member.is_learner:
                continue
            other = Etcd(member.client_urls, deadline_s=VALID_S / 2)
            try:
                await other.status()
                await self._client.move_leader(member.id)
            except errors.InfraKitError:
                continue
            finally:
                await other.close()
            return
        raise errors.Refused("no other member of etcd answers: nobody could lead", where="etcd")

    async def close(self) -> None:
        """Let go of its connections."""
        await self._client.close()


class EtcdCampaign:
    """Leads while it holds a key by a lease: InfraKit's leadership in etcd, apart from etcd's own."""

    form = "etcd+campaign://HOST:PORT[,HOST:PORT]/PREFIX"

    def __init__(self, client: Etcd, key: str, name: str, *, ttl_s: int = TTL_S) -> None:
        self._client = client
        self._key = key
        self._name = name
        self._ttl_s = ttl_s
        self._held = False
        self._waives = asyncio.Event()
        self._waived = asyncio.Event()

    @staticmethod
    def accepts(url: SplitResult) -> bool:
        return bool(url.netloc)

    @classmethod
    def from_url(cls, url: SplitResult, *, name: str) -> Self:
        return cls(urls.etcd(url), f"{urls.etcd_prefix(url)}/leader", name)

    async def observe(self) -> AsyncIterator[Observation]:
        """Campaign for ever: a look at each third of the lease, and whenever the key changes hands."""
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
        """One attempt: until the key was held and is lost, or a while after somebody else was seen to hold it."""
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
                await _wait(self._waives, self._ttl_s / 3)
                begun_at = _now()
                if self._waives.is_set() or not await self._holds(lease):
                    break
        finally:
            self._held = False
            if self._waives.is_set():
                await self._waive(lease)
        yield self._following("", begun_at)
        if self._waives.is_set():
            await self._let_others()

    # -- the key ---------------------------------------------------------------------------------------------------

    async def _claim(self) -> str | None:
        """A lease that holds the key, if nobody else held it."""
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
        """Who holds the key, and the revision of etcd at which that was so."""
        answer = await self._client.read("kv/range", {"key": encode(self._key)})
        held = answer.get("kvs", ())
        return decode(held[0].get("value", "")).decode() if held else "", int(answer["header"]["revision"])

    async def _holds(self, lease: str) -> bool:
        """Renew the lease, and see that the key still hangs on it."""
        async with asyncio.timeout(self._ttl_s / 3):
            async for message in self._client.stream("lease/keepalive", {"ID": lease}):
                if int(message.get("TTL", 0)) <= 0:
                    return False
                break
            answer = await self._client.read("kv/range", {"key": encode(self._key)})
        return any(str(kv.get("lease", "")) == lease for kv in answer.get("kvs", ()))

    async def _until_changed(self, since: int) -> None:
        """Until somebody touches the key, but not for long: a watch may miss what it never saw."""
        request = {"key": encode(self._key), "start_revision": str(since + 1)}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._ttl_s / 3):
                async for message in self._client.stream("watch", {"create_request": request}):
                    if message.get("events") or message.get("canceled"):
                        break

    async def close(self) -> None:
        """Let go of its connections; the lease, if one is held, runs out."""
        await self._client.close()

    # -- resigning -------------------------------------------------------------------------------------------------

    async def resign(self) -> None:
        """Give the key up, and stand again only once another holds it, or nobody took it for as long as a lease."""
        if not self._held:
            return
        self._waived.clear()
        self._waives.set()
        async with asyncio.timeout(self._ttl_s):
            await self._waived.wait()

    async def _waive(self, lease: str) -> None:
        await self._client.change("lease/revoke", {"ID": lease})
        self._waived.set()

    async def _let_others(self) -> None:
        self._waives.clear()
        end = _now() + self._ttl_s
        while _now() < end:
            holder, revision = await self._holder()
            if holder:
                break
            await self._until_changed(revision)

    # -- what is seen ----------------------------------------------------------------------------------------------

    def _leading(self, begun_at: float) -> Observation:
        note = f"{self._name} holds {self._key}"
        return Observation(leader=True, begun_at=begun_at, valid_s=self._ttl_s, who=self._name, note=note)

    def _following(self, holder: str, begun_at: float) -> Observation:
        note = f"{holder} holds {self._key}" if holder else f"nobody holds {self._key}"
        return Observation(leader=False, begun_at=begun_at, valid_s=self._ttl_s, who=holder, note=note)


async def _wait(event: asyncio.Event, for_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            await event.wait()
