"""A cache of the plugins that groups use: accounts, flavors, and which groups are a quorum.

A plugin may be a process of its own, slow or unavailable. So it is resolved when a group first needs it, never while a
command waits for its change to be adopted.
"""

import asyncio
import random
from collections.abc import Callable
from typing import NamedTuple

from infrakit.group.account import Account
from infrakit.group.versions import MemberVersions, member_versions
from infrakit.manager.declaration.validate import Plugins
from infrakit.spi.flavor import Flavor, MadeFrom, Quorum
from infrakit.spi.group import Group
from infrakit.spi.instance import Capabilities, Capable, Identified

RESOLVE_DEADLINE_S = 15.0
IDENTITY_DEADLINE_S = 5.0  # shorter than the deadline of a forwarded command, which reports that it was not checked
VERSIONS_MAX = 1000  # versions of groups whose member versions are cached


class ResolvedPlugins(NamedTuple):
    """The plugins of one group, resolved, and whether the group is a quorum."""

    account: Account
    flavor: Flavor
    quorum: bool
    versions: Callable[[Group], MemberVersions] = lambda _group: MemberVersions()  # of a version with this flavor


class PluginCache:
    """Resolves plugins once; all groups that name a plugin share it."""

    def __init__(self, plugins: Plugins, *, random: random.Random) -> None:
        self.accounts: dict[str, Account] = {}
        self._flavors: dict[str, Flavor] = {}
        self._quorums: dict[tuple[str, bytes], bool] = {}
        self._made_from: dict[str, MadeFrom] = {}  # the flavors that know what their members are made from
        self._versions: dict[str, MemberVersions] = {}  # by the hash of the group's version, the newest last
        self._plugins = plugins
        self._random = random

    def is_resolved(self, group: Group) -> bool:
        """Whether the plugins of a group are resolved, so that no call is needed."""
        properties = group.properties
        return properties.instance.plugin in self.accounts and _quorum_key(group) in self._quorums

    def resolved(self, group: Group) -> ResolvedPlugins | None:
        """The cached plugins of a group; None if one has never answered.

        A group counts as a quorum until its flavor has classified the newest properties: that only forbids more.
        """
        account = self.accounts.get(group.properties.instance.plugin)
        flavor = self._flavors.get(group.properties.flavor.plugin)
        if account is None or flavor is None:
            return None
        return ResolvedPlugins(account, flavor, self._quorums.get(_quorum_key(group), True), self._versions_of)

    async def resolve(self, group: Group) -> ResolvedPlugins:
        """Resolve what is not cached yet. Raises what the plugins raise, and `TimeoutError`."""
        instance, flavor = group.properties.instance.plugin, group.properties.flavor.plugin
        async with asyncio.timeout(RESOLVE_DEADLINE_S):
            if instance not in self.accounts:
                plugin = await self._plugins.instance(instance)
                capabilities = await plugin.capabilities() if isinstance(plugin, Capable) else Capabilities()
                account = Account(instance, plugin, random=self._random, capabilities=capabilities)
                self.accounts.setdefault(instance, account)
            if flavor not in self._flavors:
                found = self._flavors[flavor] = await self._plugins.flavor(flavor)
                if isinstance(found, MadeFrom):
                    self._made_from[flavor] = found
            if _quorum_key(group) not in self._quorums:
                plugin_of_flavor = self._flavors[flavor]
                is_quorum = isinstance(plugin_of_flavor, Quorum) and await plugin_of_flavor.is_quorum(
                    properties=group.properties.flavor.properties
                )
                self._quorums[_quorum_key(group)] = is_quorum
        is_quorum = self._quorums[_quorum_key(group)]
        return ResolvedPlugins(self.accounts[instance], self._flavors[flavor], is_quorum, self._versions_of)

    async def identity(self, plugin: str) -> str | None:
        """Return the identity that the account of an instance plugin shows now; None if it has no accounts.

        Raises what the plugin raises, and `TimeoutError`.
        """
        async with asyncio.timeout(IDENTITY_DEADLINE_S):
            instance = await self._plugins.instance(plugin)
            return await instance.identity() if isinstance(instance, Identified) else None

    def _versions_of(self, group: Group) -> MemberVersions:
        """Return the member versions of a declared group; unknown if its flavor does not know them."""
        flavor = self._made_from.get(group.properties.flavor.plugin)
        if flavor is None:
            return MemberVersions()
        found = self._versions.pop(group.hash, None) or member_versions(group, flavor)
        self._versions[group.hash] = found
        if len(self._versions) > VERSIONS_MAX:
            del self._versions[next(iter(self._versions))]
        return found

    async def close(self) -> None:
        """Close every account, and cancel its calls in flight."""
        for account in self.accounts.values():
            await account.close()


def _quorum_key(group: Group) -> tuple[str, bytes]:
    flavor = group.properties.flavor
    return flavor.plugin, bytes(flavor.properties)
