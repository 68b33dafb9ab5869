"""The plugins that groups use, once they have answered: accounts, flavors, and who is a quorum.

A plugin may be a process of its own, slow or away. So it is asked when a group first needs it, and never while anybody
waits for an order to be taken over.
"""

import asyncio
import random
from typing import NamedTuple

from infrakit.group.account import Account
from infrakit.manager.declaration.validate import Plugins
from infrakit.spi.flavor import Flavor, Quorum
from infrakit.spi.group import Group
from infrakit.spi.instance import Capabilities, Capable

RESOLVE_DEADLINE_S = 15.0


class ResolvedPlugins(NamedTuple):
    """What a controller needs of the plugins of one group."""

    account: Account
    flavor: Flavor
    quorum: bool


class PluginCache:
    """All groups that name a plugin share what is known of it."""

    def __init__(self, plugins: Plugins, *, random: random.Random) -> None:
        self.accounts: dict[str, Account] = {}
        self._flavors: dict[str, Flavor] = {}
        self._quorums: dict[tuple[str, bytes], bool] = {}
        self._plugins = plugins
        self._random = random

    def is_resolved(self, group: Group) -> bool:
        """Whether nothing has to be asked."""
        properties = group.properties
        return properties.instance.plugin in self.accounts and _quorum_key(group) in self._quorums

    def resolved(self, group: Group) -> ResolvedPlugins | None:
        """None: a plugin has never answered. A group whose flavor has not yet judged its newest properties counts as
        a quorum until it has: that only forbids more."""
        account = self.accounts.get(group.properties.instance.plugin)
        flavor = self._flavors.get(group.properties.flavor.plugin)
        if account is None or flavor is None:
            return None
        return ResolvedPlugins(account, flavor, self._quorums.get(_quorum_key(group), True))

    async def resolve(self, group: Group) -> ResolvedPlugins:
        """Ask what is not known yet. Raises what the plugins raise, `TimeoutError` too."""
        instance, flavor = group.properties.instance.plugin, group.properties.flavor.plugin
        async with asyncio.timeout(RESOLVE_DEADLINE_S):
            if instance not in self.accounts:
                plugin = await self._plugins.instance(instance)
                promised = await plugin.capabilities() if isinstance(plugin, Capable) else Capabilities()
                account = Account(instance, plugin, random=self._random, capabilities=promised)
                self.accounts.setdefault(instance, account)
            if flavor not in self._flavors:
                self._flavors[flavor] = await self._plugins.flavor(flavor)
            if _quorum_key(group) not in self._quorums:
                plugin_of_flavor = self._flavors[flavor]
                answer = isinstance(plugin_of_flavor, Quorum) and await plugin_of_flavor.is_quorum(
                    properties=group.properties.flavor.properties
                )
                self._quorums[_quorum_key(group)] = answer
        return ResolvedPlugins(self.accounts[instance], self._flavors[flavor], self._quorums[_quorum_key(group)])

    async def close(self) -> None:
        """End what is under way with every account."""
        for account in self.accounts.values():
            await account.close()


def _quorum_key(group: Group) -> tuple[str, bytes]:
    flavor = group.properties.flavor
    return flavor.plugin, bytes(flavor.properties)
