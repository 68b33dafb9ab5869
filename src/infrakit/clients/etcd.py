"""etcd by its JSON gateway, `/v3` (etcd 3.5 and newer; 3.4 works): keys and values in base64, 64-bit numbers as text.

Retries depend on the kind of request: a read is retried at the next endpoint after any failure, a change only if it was
certainly not sent. Otherwise the outcome of the change is unknown.
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

from infrakit.spi import codec, errors

DEADLINE_S = 5.0
CONNECT_S = 1.0
LINE_BYTES_MAX = 16 * 1024 * 1024

FULL = "its database is full"
ROOM = (
    "delete keys of other programs or raise --quota-backend-bytes, compact and defragment it, then: "
    "etcdctl alarm disarm; until then, stop the daemons to stop every call"
)

# gRPC status codes, which the gateway returns (https://grpc.io/docs/guides/status-codes/).
_DEADLINE_EXCEEDED, _NOT_FOUND, _UNAVAILABLE = 4, 5, 14
_NOT_PROPOSED = ("no leader", "not capable", "unhealthy cluster")  # rejected before the change was proposed

Answer = Mapping[str, Any]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member of the cluster. A member that was added and has never started has no name."""

    id: int
    name: str = ""
    peer_urls: tuple[str, ...] = ()
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False


class MemberStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status that one member reports."""

    member: int
    leader: int  # 0: it has no leader
    raft_term: int
    raft_index: int
    applied_index: int
    version: str
    cluster: int = 0
    errors: tuple[str, ...] = ()  # also alarms, of any member


class Etcd:
    """A client of one cluster. It tries the endpoints, such as `http://127.0.0.1:2379`, in turn."""

    def __init__(
        self, endpoints: Sequence[str], *, tls: ssl.SSLContext | None = None, deadline_s: float = DEADLINE_S
    ) -> None:
        self.endpoints = tuple(e.rstrip("/") for e in endpoints)
        self._tls = tls
        self._deadline_s = deadline_s
        self._session: aiohttp.ClientSession | None = None
        self._first = 0  # index of the endpoint that answered last

    def at(self, endpoints: Sequence[str], *, deadline_s: float) -> "Etcd":
        """Return a client of the same cluster with other endpoints and another deadline."""
        return Etcd(endpoints, tls=self._tls, deadline_s=deadline_s)

    # -- requests --------------------------------------------------------------------------------------------------

    async def read(self, path: str, body: Mapping[str, object]) -> Answer:
        """Send a read, to each endpoint in turn until one answers. Raises `Unreachable`, or the error of etcd."""
        return await self._send(path, body, changes=False)

    async def change(self, path: str, body: Mapping[str, object]) -> Answer:
        """Send a change. Raises `Unreachable` if it was certainly not made, `OutcomeUnknown`, or the error of etcd."""
        return await self._send(path, body, changes=True)

    async def _send(self, path: str, body: Mapping[str, object], *, changes: bool) -> Answer:
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
            remedy="restore a majority of them",
        )

    async def _post(self, endpoint: str, path: str, body: Mapping[str, object], *, changes: bool) -> Answer:
        """Send one request. A read divides the deadline among the endpoints; a change goes to one endpoint only."""
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
            answer: Answer = codec.decode(content, dict[str, Any])
        except msgspec.MsgspecError:
            raise errors.PluginError(
                f"it does not speak etcd's JSON gateway: status {response.status} for /v3/{path}", where=endpoint
            ) from None
        if response.status != 200:
            raise _failure(answer, endpoint)
        return answer

    async def health(self) -> bool:
        """Return the `/health` of a member: true if it has a responsive leader and no alarm. For one endpoint only.

        Raises `Unreachable` if nothing listens there, `OutcomeUnknown` without a response, `PluginError` for an invalid
        one.
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
            return codec.decode(content, dict[str, Any]).get("health") == "true"
        except msgspec.MsgspecError:
            what = f"this is not etcd: status {response.status} for /health"
            raise errors.PluginError(what, where=endpoint) from None

    async def stream(
        self, path: str, body: Mapping[str, object], *, silent_s: float | None = None
    ) -> AsyncIterator[Answer]:
        """Yield the messages of a streaming call. Raises `Unreachable` when it breaks, or is silent for `silent_s`.

        A member that stops without closing its connections sends nothing, as one without news does. So the caller
        reads what it follows after each break. That read finds a member that answers, and the next stream begins there.
        """
        endpoint = self.endpoints[self._first]
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silent_s)
        has_answered = False
        try:
            async with self._open().post(
                f"{endpoint}/v3/{path}", data=msgspec.json.encode(body), read_bufsize=LINE_BYTES_MAX, timeout=timeout
            ) as response:
                async for line in response.content:
                    has_answered = True
                    message = codec.decode(line, dict[str, Any])
                    if "error" in message:
                        failure = message["error"]
                        raise _failure(failure if isinstance(failure, dict) else message, endpoint)
                    yield message.get("result", {})
        except aiohttp.SocketTimeoutError:
            if not has_answered:
                self._leave(endpoint)
            raise errors.Unreachable(f"the stream of {path} is silent", where=endpoint) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._leave(endpoint)
            raise errors.Unreachable(f"the stream of {path} broke: {error}", where=endpoint) from None
        self._leave(endpoint)
        raise errors.Unreachable(f"the stream of {path} has ended", where=endpoint)

    def _leave(self, endpoint: str) -> None:
        """Try another endpoint first, unless another request has already chosen one."""
        if self.endpoints[self._first] == endpoint:
            self._first = (self._first + 1) % len(self.endpoints)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
            connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # -- members ---------------------------------------------------------------------------------------------------

    async def members(self, *, local: bool = False) -> tuple[Member, ...]:
        """Return the cluster's member list: linearizable, or `local`, the state of the member that answers.

        etcd 3.4 always answers with the local state. Newer releases answer a linearizable read only while there is a
        leader with a quorum.
        """
        answer = await self.read("cluster/member/list", {"linearizable": not local})
        return tuple(_member(each) for each in answer.get("members", ()))

    async def status(self) -> MemberStatus:
        """Return the status of the member that answers. For one endpoint only."""
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
        """Add a member, which may then start. It counts for the quorum from now on."""
        return _member((await self.change("cluster/member/add", {"peerURLs": [peer_url]}))["member"])

    async def remove_member(self, member: int) -> None:
        """Remove a member. Raises `NotFound`."""
        await self.change("cluster/member/remove", {"ID": str(member)})

    async def move_leader(self, to: int) -> None:
        """Transfer leadership to another member; only the leader accepts this."""
        await self.change("maintenance/transfer-leadership", {"targetID": str(to)})


def _reason(error: OSError | aiohttp.ConnectionTimeoutError) -> str:
    """Return the operating system's error text, without the address, which the message already contains."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"not within {CONNECT_S:g} s"
    if error.errno and error.errno > 0:  # failed name resolution has its own, negative numbers
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
    """Translate an error response by what the caller may conclude from it."""
    code, what = answer.get("code", answer.get("grpc_code")), str(answer.get("message") or answer.get("error"))
    what = what.removeprefix("etcdserver: ")
    if "space exceeded" in what:
        return errors.Refused(FULL, where=endpoint, remedy=ROOM)
    if "too many requests" in what:
        return errors.Throttled(what, after_s=1.0, where=endpoint)
    if code == _NOT_FOUND:
        return errors.NotFound(what, where=endpoint)
    if code in {_UNAVAILABLE, _DEADLINE_EXCEEDED}:
        not_proposed = any(each in what for each in _NOT_PROPOSED)
        return (errors.Unreachable if not_proposed else errors.OutcomeUnknown)(what, where=endpoint)
    return errors.Refused(what, where=endpoint)


def encode(data: str | bytes) -> str:
    """Encode a key or a value for the gateway."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def decode(text: str) -> bytes:
    """Decode a key or a value from the gateway."""
    return base64.b64decode(text)


def after(prefix: str) -> str:
    """Return the first key after all keys with the prefix: the end of its range."""
    data = prefix.encode()
    return encode(data[:-1] + bytes([data[-1] + 1]))
