"""The Swarm, as the Engine of one node shows it and changes it. How that is spoken to: `clients/dockerd.py`.

Every manager answers for the whole Swarm, but what it answers comes from the memory of who leads: a leader that has
lost its quorum goes on showing what it knew for about ten seconds, itself as leader, while changes already wait in
vain. A change that was acknowledged is in the log of the majority. Every change names the version that it was made
from, and is refused if somebody else was first. While there is no leader, calls block: so every method has a deadline.

An answer that is a failure of the Swarm behind the Engine (no leader, no quorum, a deadline of its own) lets no more be
concluded than silence: `Unreachable` for what only looks, `OutcomeUnknown` for what changes.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from infrakit.clients.dockerd import Conversation, Filters
from infrakit.clients.swarm_values import Cluster, Config, Info, Node, Task
from infrakit.spi import errors

READ_S = 5.0
CHANGE_S = 10.0
CONFIG_BYTES_MAX = 400_000  # of one config's data; the Swarm refuses 512,000, newer ones 1,024,000
REQUEST_BYTES_MAX = 1_000_000  # its log takes entries of up to 1.5 MB

_STALE: Final = "update out of sequence"
_NO_MANAGER = ("worker nodes can't be used", 'use "docker swarm init"', "node is not part of a swarm")
_LOCKED: Final = "swarm is encrypted"
_TOO_LARGE: Final = "raft message is too large"


class Swarm(Conversation):
    """A client of the Swarm by one Engine. Each method is one request, but `update_node`.

    All may raise `Unreachable`, and `Refused` where the Engine is no manager; those that change something
    `OutcomeUnknown`, and `Conflict` when the version is not the newest any more.
    """

    elsewhere = "name the socket of another one: swarm:///PATH"

    # -- this node -------------------------------------------------------------------------------------------------

    async def info(self, *, deadline_s: float = READ_S) -> Info:
        """What the Engine knows of itself, manager or not. On a manager it waits, too, while there is no leader."""
        return Info.of(await self._get("info", deadline_s=deadline_s))

    # -- nodes -----------------------------------------------------------------------------------------------------

    async def nodes(self, filters: Filters | None = None, *, deadline_s: float = READ_S) -> list[Node]:
        """All that are on the list and match, dead ones too."""
        params = {"filters": json.dumps(filters or {})}
        return [Node.of(each) for each in await self._get("nodes", params, deadline_s=deadline_s)]

    async def node(self, node: str, *, deadline_s: float = READ_S) -> Node:
        """By ID; that of the Engine itself is in `info`. Raises `NotFound`."""
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
        """Change what is given, keep the rest. Raises `NotFound`, `Conflict`, `Refused` (it would lose the quorum)."""
        path = f"nodes/{quote(node, safe='')}"
        found = await self._get(path, deadline_s=deadline_s)
        spec = dict(found["Spec"])
        changed = {"Role": role, "Availability": availability, "Labels": None if labels is None else dict(labels)}
        spec |= {name: value for name, value in changed.items() if value is not None}
        await self._post(f"{path}/update", "updating a node", {"version": version}, spec, deadline_s=deadline_s)

    async def remove_node(self, node: str, *, force: bool = False, deadline_s: float = CHANGE_S) -> None:
        """Take it off the list. Raises `NotFound`; `Refused` for a manager, and without `force` unless it is down."""
        path = f"nodes/{quote(node, safe='')}"
        await self._send(path, "DELETE", "removing a node", {"force": force}, None, deadline_s=deadline_s)

    # -- the cluster -----------------------------------------------------------------------------------------------

    async def cluster(self, *, deadline_s: float = READ_S) -> Cluster:
        """What is true for the Swarm as a whole, its join tokens included."""
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
        """`spec` as a whole takes the place of the old one; join tokens are drawn anew if asked. Raises `Conflict`."""
        params = {"version": version, "rotateWorkerToken": rotate_worker, "rotateManagerToken": rotate_manager}
        await self._post("swarm/update", "updating the Swarm", params, spec, deadline_s=deadline_s)

    # -- configs ---------------------------------------------------------------------------------------------------

    async def configs(self, filters: Filters, *, deadline_s: float = READ_S) -> list[Config]:
        """All that match, of one moment, with their data."""
        params = {"filters": json.dumps(filters)}
        return [Config.of(each) for each in await self._get("configs", params, deadline_s=deadline_s)]

    async def config(self, config: str, *, deadline_s: float = READ_S) -> Config:
        """By ID. Raises `NotFound`."""
        return Config.of(await self._get(f"configs/{quote(config, safe='')}", deadline_s=deadline_s))

    async def create_config(
        self, name: str, *, labels: Mapping[str, str], data: bytes, deadline_s: float = CHANGE_S
    ) -> str:
        """Its ID. Data never changes, labels may. Raises `Conflict` if the name is taken, `Refused` if too large."""
        spec = {"Name": name, "Labels": dict(labels), "Data": base64.b64encode(data).decode()}
        made = await self._post("configs/create", "creating a config", {}, spec, deadline_s=deadline_s)
        return str(made["ID"])

    async def update_config_labels(
        self, config: Config, labels: Mapping[str, str], *, deadline_s: float = CHANGE_S
    ) -> None:
        """In the place of those of that version. Raises `NotFound`, `Conflict`."""
        path, spec = f"configs/{quote(config.id, safe='')}/update", {"Name": config.name, "Labels": dict(labels)}
        await self._post(path, "updating a config", {"version": config.version}, spec, deadline_s=deadline_s)

    async def remove_config(self, config: str, *, deadline_s: float = CHANGE_S) -> None:
        """Raises `NotFound`, `Refused` while a service uses it."""
        path = f"configs/{quote(config, safe='')}"
        await self._send(path, "DELETE", "removing a config", {}, None, deadline_s=deadline_s)

    # -- what runs on it -------------------------------------------------------------------------------------------

    async def tasks(self, filters: Filters, *, deadline_s: float = READ_S) -> list[Task]:
        """All that match, ended ones too, for a while."""
        params = {"filters": json.dumps(filters)}
        return [Task.of(each) for each in await self._get("tasks", params, deadline_s=deadline_s)]

    async def services(self, *, deadline_s: float = READ_S) -> int:
        """How many there are."""
        return len(await self._get("services", deadline_s=deadline_s))

    # -- asking ----------------------------------------------------------------------------------------------------

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
            what = f"{doing}: {len(data)} bytes are too large for the log of a Swarm, at most are {REQUEST_BYTES_MAX}"
            raise errors.Refused(what, where=self.where)

        async def send(client: Any) -> Any:
            async with client._query(path, method, params=dict(params), data=data) as response:  # noqa: SLF001
                return msgspec.json.decode(await response.read() or b"null")

        return await self._change(doing, send, deadline_s=deadline_s)

    def _answered(self, status: int, message: str, doing: str, *, changes: bool) -> errors.InfraKitError:
        """An error answer. The Engine's numbers are not exact: a stale version is 500, no quorum too."""
        low = message.lower()
        if any(each in low for each in _NO_MANAGER):
            remedy = "name the Engine of a manager, or make this one a manager: docker swarm init, docker swarm join"
            return errors.Refused("this node is no manager of a Swarm", where=self.where, remedy=remedy)
        if _LOCKED in low:
            return errors.Refused("its Swarm is locked", where=self.where, remedy="docker swarm unlock")
        kind: type[errors.InfraKitError] = errors.OutcomeUnknown if changes else errors.Unreachable
        if _STALE in low or status == 409:
            kind = errors.Conflict
        elif status == 404:
            kind = errors.NotFound
        elif 400 <= status < 500 or _TOO_LARGE in low:
            kind = errors.Refused
        return kind(f"{doing}: {message}", where=self.where)
