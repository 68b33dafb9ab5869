"""The Docker Swarm, read and changed through the Engine of one node. The transport is in `clients/dockerd.py`.

Every manager answers for the whole Swarm, but from the leader's memory: a leader that has lost its quorum continues to
return its last state for about ten seconds, with itself as leader, while changes already block. An acknowledged change
is in the log of the majority. Every change states the version it is based on, and is refused if another change came
first (optimistic locking). Without a leader, calls block, so every method has a timeout.

A failure of the Swarm behind the Engine (no leader, no quorum, a timeout of its own) proves no more than a missing
response: it is `Unreachable` for a read, `OutcomeUnknown` for a change.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from infrakit.clients.dockerd import EngineClient, Filters
from infrakit.clients.swarm_values import Cluster, Config, Info, Node, Task
from infrakit.spi import errors

READ_S = 5.0
CHANGE_S = 10.0
CONFIG_BYTES_MAX = 400_000  # of one config's data; the Swarm refuses 512,000, newer releases 1,024,000
REQUEST_BYTES_MAX = 1_000_000  # the Raft log accepts entries of up to 1.5 MB

_STALE: Final = "update out of sequence"
_NO_MANAGER = ("worker nodes can't be used", 'use "docker swarm init"', "node is not part of a swarm")
_LOCKED: Final = "swarm is encrypted"
_TOO_LARGE: Final = "raft message is too large"


class Swarm(EngineClient):
    """A client of the Swarm through one Engine. Each method is one request, except `update_node`.

    All may raise `Unreachable`, and `Refused` if the Engine is not a manager; changes also `OutcomeUnknown`, and
    `Conflict` if the version is outdated.
    """

    alternative = "name the socket of another one: swarm:///PATH"

    # -- this node -------------------------------------------------------------------------------------------------

    async def info(self, *, deadline_s: float = READ_S) -> Info:
        """Return the Engine's own state, manager or not. On a manager, the call blocks while there is no leader."""
        return Info.of(await self._get("info", deadline_s=deadline_s))

    # -- nodes -----------------------------------------------------------------------------------------------------

    async def nodes(self, filters: Filters | None = None, *, deadline_s: float = READ_S) -> list[Node]:
        """Return all listed nodes that match, also those that are down."""
        params = {"filters": json.dumps(filters or {})}
        return [Node.of(each) for each in await self._get("nodes", params, deadline_s=deadline_s)]

    async def node(self, node: str, *, deadline_s: float = READ_S) -> Node:
        """Return the node with this ID; the Engine's own ID is in `info`. Raises `NotFound`."""
        return Node.of(await self._get(f"nodes/{quote(node, safe='')}", deadline_s=deadline_s))

    async def update_node(
        self,
        node: str,
        version: int,
        *,
        role: str | None = None,
        availability: str | None = None,
        labels: Mapping[str, str] | None = None,
        deadline_s: float = CHANGE_S,
    ) -> None:
        """Change the given fields only. Raises `NotFound`, `Conflict`, `Refused` (the quorum would be lost)."""
        path = f"nodes/{quote(node, safe='')}"
        found = await self._get(path, deadline_s=deadline_s)
        spec = dict(found["Spec"])
        changed = {"Role": role, "Availability": availability, "Labels": None if labels is None else dict(labels)}
        spec |= {name: value for name, value in changed.items() if value is not None}
        await self._post(f"{path}/update", "updating a node", {"version": version}, spec, deadline_s=deadline_s)

    async def remove_node(self, node: str, *, force: bool = False, deadline_s: float = CHANGE_S) -> None:
        """Remove a node. Raises `NotFound`; `Refused` for a manager, and without `force` unless the node is down."""
        path = f"nodes/{quote(node, safe='')}"
        await self._send(path, "DELETE", "removing a node", {"force": force}, None, deadline_s=deadline_s)

    # -- the cluster -----------------------------------------------------------------------------------------------

    async def cluster(self, *, deadline_s: float = READ_S) -> Cluster:
        """Return the configuration of the whole Swarm, including its join tokens."""
        return Cluster.of(await self._get("swarm", deadline_s=deadline_s))

    async def update_cluster(
        self,
        version: int,
        spec: Mapping[str, Any],
        *,
        rotate_worker: bool = False,
        rotate_manager: bool = False,
        deadline_s: float = CHANGE_S,
    ) -> None:
        """Replace the whole spec, and rotate join tokens if requested. Raises `Conflict`."""
        params = {"version": version, "rotateWorkerToken": rotate_worker, "rotateManagerToken": rotate_manager}
        await self._post("swarm/update", "updating the Swarm", params, spec, deadline_s=deadline_s)

    # -- configs ---------------------------------------------------------------------------------------------------

    async def configs(self, filters: Filters, *, deadline_s: float = READ_S) -> list[Config]:
        """Return all configs that match, with their data, as a consistent snapshot."""
        params = {"filters": json.dumps(filters)}
        return [Config.of(each) for each in await self._get("configs", params, deadline_s=deadline_s)]

    async def config(self, config: str, *, deadline_s: float = READ_S) -> Config:
        """Return the config with this ID. Raises `NotFound`."""
        return Config.of(await self._get(f"configs/{quote(config, safe='')}", deadline_s=deadline_s))

    async def create_config(
        self, name: str, *, labels: Mapping[str, str], data: bytes, deadline_s: float = CHANGE_S
    ) -> str:
        """Create a config and return its ID. Its data is immutable, its labels are not.

        Raises `Conflict` if the name is taken, `Refused` if the data is too large.
        """
        spec = {"Name": name, "Labels": dict(labels), "Data": base64.b64encode(data).decode()}
        created = await self._post("configs/create", "creating a config", {}, spec, deadline_s=deadline_s)
        return str(created["ID"])

    async def update_config_labels(
        self, config: Config, labels: Mapping[str, str], *, deadline_s: float = CHANGE_S
    ) -> None:
        """Replace the labels of a config. Raises `NotFound`, and `Conflict` if its version is outdated."""
        path, spec = f"configs/{quote(config.id, safe='')}/update", {"Name": config.name, "Labels": dict(labels)}
        await self._post(path, "updating a config", {"version": config.version}, spec, deadline_s=deadline_s)

    async def remove_config(self, config: str, *, deadline_s: float = CHANGE_S) -> None:
        """Remove a config. Raises `NotFound`, and `Refused` while a service uses it."""
        path = f"configs/{quote(config, safe='')}"
        await self._send(path, "DELETE", "removing a config", {}, None, deadline_s=deadline_s)

    # -- services and tasks ----------------------------------------------------------------------------------------

    async def tasks(self, filters: Filters, *, deadline_s: float = READ_S) -> list[Task]:
        """Return all tasks that match, including recently finished ones."""
        params = {"filters": json.dumps(filters)}
        return [Task.of(each) for each in await self._get("tasks", params, deadline_s=deadline_s)]

    async def services(self, *, deadline_s: float = READ_S) -> int:
        """Return the number of services."""
        return len(await self._get("services", deadline_s=deadline_s))

    # -- requests --------------------------------------------------------------------------------------------------

    async def _get(self, path: str, params: Mapping[str, Any] | None = None, *, deadline_s: float) -> Any:
        query = dict(params or {})
        return await self._read(lambda d: d._query_json(path, params=query), deadline_s=deadline_s)  # noqa: SLF001

    async def _post(
        self, path: str, doing: str, params: Mapping[str, Any], body: Mapping[str, Any], *, deadline_s: float
    ) -> Any:
        return await self._send(path, "POST", doing, params, body, deadline_s=deadline_s)

    async def _send(
        self,
        path: str,
        method: str,
        doing: str,
        params: Mapping[str, Any],
        body: Mapping[str, Any] | None,
        *,
        deadline_s: float,
    ) -> Any:
        data = None if body is None else msgspec.json.encode(body)
        if data is not None and len(data) > REQUEST_BYTES_MAX:
            what = f"{doing}: {len(data)} bytes are too large for a Swarm; the maximum is {REQUEST_BYTES_MAX}"
            raise errors.Refused(what, where=self.where)

        async def send(client: Any) -> Any:
            async with client._query(path, method, params=dict(params), data=data) as response:  # noqa: SLF001
                return msgspec.json.decode(await response.read() or b"null")

        return await self._change(doing, send, deadline_s=deadline_s)

    def _response_error(self, status: int, message: str, doing: str, *, changes: bool) -> errors.InfraKitError:
        """Translate an error response. The Engine's status codes are inexact: a stale version and no quorum are 500."""
        lower = message.lower()
        if any(each in lower for each in _NO_MANAGER):
            remedy = "use the Engine of a manager, or make this node a manager: docker swarm init, docker swarm join"
            return errors.Refused("this node is not a manager of a Swarm", where=self.where, remedy=remedy)
        if _LOCKED in lower:
            return errors.Refused("its Swarm is locked", where=self.where, remedy="docker swarm unlock")
        kind: type[errors.InfraKitError] = errors.OutcomeUnknown if changes else errors.Unreachable
        if _STALE in lower or status == 409:
            kind = errors.Conflict
        elif status == 404:
            kind = errors.NotFound
        elif 400 <= status < 500 or _TOO_LARGE in lower:
            kind = errors.Refused
        return kind(f"{doing}: {message}", where=self.where)
