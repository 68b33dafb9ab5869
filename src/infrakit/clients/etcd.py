"""etcd by its JSON gateway, `/v3` (etcd 3.5 and newer; 3.4 works): keys and values in base64, 64-bit numbers as text.

What may be repeated is told apart from what may not: a read goes on to the next endpoint whatever happened, a change
only while it surely was not sent. After that its outcome is unknown.
"""

import asyncio
import base64
import io
import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec

from infrakit.spi import errors

DEADLINE_S = 5.0
CONNECT_S = 1.0
LINE_BYTES_MAX = 16 * 1024 * 1024

# Codes of gRPC as the gateway passes them on (https://grpc.io/docs/guides/status-codes/).
_DEADLINE_EXCEEDED, _NOT_FOUND, _UNAVAILABLE = 4, 5, 14
_NOTHING_DONE = ("no leader", "not capable", "unhealthy cluster")  # refused before it was proposed

Answer = Mapping[str, Any]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member of the cluster. One that was added and has never started has no name."""

    id: int
    name: str = ""
    peer_urls: tuple[str, ...] = ()
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False


class MemberStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one member says of itself."""

    member: int
    leader: int  # 0: it knows none
    raft_term: int
    raft_index: int
    applied_index: int
    version: str
    cluster: int = 0
    errors: tuple[str, ...] = ()  # alarms too, of whichever member they are


class Etcd:
    """A client of some members of one cluster, `http://127.0.0.1:2379` and so on, asked in turn."""

    def __init__(
        self, endpoints: Sequence[str], *, tls: ssl.SSLContext | None = None, deadline_s: float = DEADLINE_S
    ) -> None:
        self.endpoints = tuple(e.rstrip("/") for e in endpoints)
        self._tls = tls
        self._deadline_s = deadline_s
        self._session: aiohttp.ClientSession | None = None
        self._first = 0  # of the endpoints: the one that answered last

    # -- asking ----------------------------------------------------------------------------------------------------

    async def read(self, path: str, body: Mapping[str, object]) -> Answer:
        """Ask something that changes nothing, of every endpoint in turn. Raises `Unreachable`, or what etcd says."""
        return await self._ask(path, body, changes=False)

    async def change(self, path: str, body: Mapping[str, object]) -> Answer:
        """Ask for a change. Raises `Unreachable` if it surely was not made, `OutcomeUnknown`, or what etcd says."""
        return await self._ask(path, body, changes=True)

    async def _ask(self, path: str, body: Mapping[str, object], *, changes: bool) -> Answer:
        failures: list[errors.InfraKitError] = []
        for _turn in self.endpoints:
            try:
                return await self._post(self.endpoints[self._first], path, body, changes=changes)
            except (errors.Unreachable, errors.OutcomeUnknown) as failure:
                failures.append(failure)
            self._first = (self._first + 1) % len(self.endpoints)
            if changes and isinstance(failures[-1], errors.OutcomeUnknown):
                raise failures[-1]
        if len(failures) == 1:
            raise errors.Unreachable(failures[0].what, where=failures[0].where)
        raise errors.Unreachable(
            f"none of its {len(failures)} members could answer: {'; '.join(map(str, failures))}",
            where="etcd",
            remedy="it needs a majority of them",
        )

    async def _post(self, endpoint: str, path: str, body: Mapping[str, object], *, changes: bool) -> Answer:
        """Of the deadline, each endpoint gets its share of a read; a change is asked of one only."""
        share_s = self._deadline_s / (1 if changes else len(self.endpoints))
        data = io.BytesIO(msgspec.json.encode(body))
        try:
            async with (
                asyncio.timeout(share_s),
                self._open().post(f"{endpoint}/v3/{path}", data=data) as response,
            ):
                content = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise errors.Unreachable(f"cannot connect: {_reason(error)}", where=endpoint) from None
        except TimeoutError:
            raise errors.OutcomeUnknown(f"no answer to {path} within {share_s:.2g} s", where=endpoint) from None
        except (aiohttp.ClientError, OSError) as error:
            raise errors.OutcomeUnknown(f"{path} was interrupted: {error}", where=endpoint) from None
        try:
            answer: Answer = msgspec.json.decode(content, type=dict[str, Any])
        except msgspec.MsgspecError:
            raise errors.PluginError(
                f"it does not speak etcd's JSON gateway: status {response.status} for /v3/{path}", where=endpoint
            ) from None
        if response.status != 200:
            raise _failure(answer, endpoint)
        return answer

    async def health(self) -> bool:
        """What one member says at `/health`: it has a leader that answers, and no alarm. For a client of one endpoint.

        Raises `Unreachable` if nothing listens there, `OutcomeUnknown` if no answer came, `PluginError` for an odd one.
        """
        endpoint = self.endpoints[0]
        try:
            async with asyncio.timeout(self._deadline_s), self._open().get(f"{endpoint}/health") as response:
                content = await response.read()
        except aiohttp.ClientConnectorError as error:
            raise errors.Unreachable(f"cannot connect: {_reason(error)}", where=endpoint) from None
        except TimeoutError:
            raise errors.OutcomeUnknown(f"no answer within {self._deadline_s:g} s", where=endpoint) from None
        except (aiohttp.ClientError, OSError) as error:
            raise errors.OutcomeUnknown(f"the answer was interrupted: {error}", where=endpoint) from None
        try:
            return msgspec.json.decode(content, type=dict[str, Any]).get("health") == "true"
        except msgspec.MsgspecError:
            what = f"it is no etcd: status {response.status} for /health"
            raise errors.PluginError(what, where=endpoint) from None

    async def stream(self, path: str, body: Mapping[str, object]) -> AsyncIterator[Answer]:
        """The messages of a streaming call, until it breaks: then `Unreachable`. The caller bounds the wait."""
        endpoint = self.endpoints[self._first]
        try:
            async with self._open().post(
                f"{endpoint}/v3/{path}", data=msgspec.json.encode(body), read_bufsize=LINE_BYTES_MAX
            ) as response:
                async for line in response.content:
                    message = msgspec.json.decode(line, type=dict[str, Any])
                    if "error" in message:
                        failure = message["error"]
                        raise _failure(failure if isinstance(failure, dict) else message, endpoint)
                    yield message.get("result", {})
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._first = (self._first + 1) % len(self.endpoints)
            raise errors.Unreachable(f"the stream of {path} broke: {error}", where=endpoint) from None
        self._first = (self._first + 1) % len(self.endpoints)
        raise errors.Unreachable(f"the stream of {path} has ended", where=endpoint)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
            connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        return self._session

    async def close(self) -> None:
        """End every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # -- members ---------------------------------------------------------------------------------------------------

    async def members(self, *, local: bool = False) -> tuple[Member, ...]:
        """The cluster's member list, as the quorum knows it; `local`: as the member that answers has it.

        etcd 3.4 knows no such difference and always answers `local`; newer ones answer the other without delay only
        while there is a leader that the quorum follows.
        """
        answer = await self.read("cluster/member/list", {"linearizable": not local})
        return tuple(_member(each) for each in answer.get("members", ()))

    async def status(self) -> MemberStatus:
        """Of the member that answers; meant for a client of one endpoint."""
        answer = await self.read("maintenance/status", {})
        return MemberStatus(
            member=int(answer["header"].get("member_id", 0)),
            leader=int(answer.get("leader", 0)),
            raft_term=int(answer.get("raftTerm", 0)),
            raft_index=int(answer.get("raftIndex", 0)),
            applied_index=int(answer.get("raftAppliedIndex", answer.get("raftIndex", 0))),
            version=str(answer.get("version", "")),
            cluster=int(answer["header"].get("cluster_id", 0)),
            errors=tuple(answer.get("errors", ())),
        )

    async def add_member(self, peer_url: str) -> Member:
        """A member that may start now; the quorum counts it from this moment."""
        return _member((await self.change("cluster/member/add", {"peerURLs": [peer_url]}))["member"])

    async def remove_member(self, member: int) -> None:
        """Raises `NotFound`."""
        await self.change("cluster/member/remove", {"ID": str(member)})

    async def move_leader(self, to: int) -> None:
        """Let another member lead; asked of the leader itself."""
        await self.change("maintenance/transfer-leadership", {"targetID": str(to)})


def _reason(error: OSError | aiohttp.ConnectionTimeoutError) -> str:
    """In the words of the system, without the address, which stands before it."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"not within {CONNECT_S:g} s"
    if error.errno and error.errno > 0:  # a name that cannot be resolved has numbers of its own
        return os.strerror(error.errno)
    return error.strerror or str(error)


def _member(answer: Answer) -> Member:
    return Member(
        id=int(answer["ID"]),
        name=answer.get("name", ""),
        peer_urls=tuple(answer.get("peerURLs", ())),
        client_urls=tuple(answer.get("clientURLs", ())),
        is_learner=bool(answer.get("isLearner", False)),
    )


def _failure(answer: Answer, endpoint: str) -> errors.InfraKitError:
    """An error answer, as what it lets the caller conclude."""
    code, what = answer.get("code", answer.get("grpc_code")), str(answer.get("message") or answer.get("error"))
    what = what.removeprefix("etcdserver: ")
    if "space exceeded" in what:
        return errors.Refused(
            "its database is full", where=endpoint, remedy="compact and defragment it, then: etcdctl alarm disarm"
        )
    if "too many requests" in what:
        return errors.Throttled(what, after_s=1.0, where=endpoint)
    if code == _NOT_FOUND:
        return errors.NotFound(what, where=endpoint)
    if code in {_UNAVAILABLE, _DEADLINE_EXCEEDED}:
        nothing_done = any(each in what for each in _NOTHING_DONE)
        return (errors.Unreachable if nothing_done else errors.OutcomeUnknown)(what, where=endpoint)
    return errors.Refused(what, where=endpoint)


def encode(data: str | bytes) -> str:
    """A key or a value as the gateway wants it."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def decode(text: str) -> bytes:
    """A key or a value as the gateway gives it."""
    return base64.b64decode(text)


def after(prefix: str) -> str:
    """The first key that does not begin with the prefix: the end of its range."""
    data = prefix.encode()
    return encode(data[:-1] + bytes([data[-1] + 1]))
