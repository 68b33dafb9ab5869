"""The calls that change infrastructure: each has a timeout, and its result or error determines what is known next.

A call that certainly had no effect is distinguished from one that may have had one (see `spi.errors`); only the former
is dropped. Each call passes the gate when it begins, also the destruction that follows a drain.
"""

from collections.abc import Coroutine
from typing import Any

from infrakit.group.actions import Action, ChangeMembership, Destroy, Label, Provision
from infrakit.group.calls.caller import CallingGroup
from infrakit.group.calls.creation import Creations
from infrakit.group.calls.destruction import Destructions
from infrakit.group.calls.label import label
from infrakit.group.calls.membership import MembershipChanges


class Calls:
    """Performs the calls of one group, and records their outcomes in its view."""

    def __init__(self, group: CallingGroup) -> None:
        self._group = group
        self.creations = Creations(group)
        self.destructions = Destructions(group)
        self.membership = MembershipChanges(group)

    def perform(self, action: Action) -> Coroutine[Any, Any, bool]:
        """Perform one action of a plan for the current declaration. True: the provider confirmed success.

        If the declaration or the commands of the group change before a call begins, it does not begin.
        """
        want = self._group.want()
        if isinstance(action, Provision):
            return self.creations.create(action, want)
        if isinstance(action, Destroy):
            return self.destructions.destroy(action, want)
        if isinstance(action, Label):
            return label(self._group, action, want)
        if isinstance(action, ChangeMembership):
            return self.membership.change(action, want)
        raise AssertionError(action)
