"""Laws 1 and 9: who may begin a call, and that a halt stops every call.

A call begins when it leaves the process of its replica. The provider may carry it out later, even if the replica has
been killed by then. The first law allows no delay; a halt binds within the bound that the ledger contains.
"""

import json
from typing import NamedTuple

from infrakit.simulation.oracle import exceptions
from infrakit.simulation.oracle.facts import Facts
from infrakit.spi.store import Document
from infrakit.spi.values import GroupID

LEDGER = "ledger"
BOUND_S = 0.1  # until a ledger names another one
DRIFT = 1.05  # how much slower the clock of a replica may run


class Caller(NamedTuple):
    """The process that begins a call, and the epoch and leadership under which it does."""

    name: str
    epoch: int  # 0: none
    leads_until: float  # true time at which its own leadership observation expires


class Actors:
    """Which replica acts, and what is halted."""

    def __init__(self, facts: Facts) -> None:
        self.epoch = 0  # the newest epoch that was acquired
        self.terms = 0
        self.calls = 0
        self.overlaps = 0
        self.stopped: dict[GroupID | None, float] = {}  # acknowledged halts, and from when on no call may begin
        self.bound_s = BOUND_S
        self._facts = facts
        self._acting = Caller(name="none", epoch=0, leads_until=0.0)  # caller of the newest epoch

    def written(self, document: Document) -> None:
        """Check a ledger that has become durable."""
        body = json.loads(document.body)
        epoch = body.get("Epoch", 0)
        self._facts.require(epoch >= self.epoch, exceptions.ONE_ACTOR, f"epoch {epoch} was acquired after {self.epoch}")
        if epoch > self.epoch:
            self.terms += 1
            self._facts.led_since = self._facts.now
        self.epoch = epoch
        self.bound_s = body.get("BoundS", BOUND_S)

    def restored(self) -> None:
        """The store has lost its newest documents: halts among them, and the epochs that it repeats."""
        self.stopped.clear()
        self.epoch = 0
        self._acting = Caller(name="none", epoch=0, leads_until=0.0)

    def halted(self, target: GroupID | None) -> None:
        """An operator has got the acknowledgement of a halt."""
        self.stopped[target] = self._facts.now + self.bound_s * DRIFT

    def unhalting(self, target: GroupID | None) -> None:
        """An operator is about to lift a halt: from now on it need not hold."""
        self.stopped.pop(target, None)

    def acting(self, caller: Caller, what: str, group: GroupID) -> None:
        """Check any call that changes infrastructure when it leaves the process of its caller."""
        facts, before = self._facts, self._acting
        self.calls += 1
        self._acting = max(before, caller, key=lambda each: each.epoch)
        second = caller.epoch == before.epoch and caller.name != before.name
        self.overlaps += caller.epoch < before.epoch or second
        law = exceptions.ONE_ACTOR
        facts.require(caller.epoch > 0, law, f"{what} by {caller.name}, which holds no epoch")
        facts.require(
            caller.epoch >= before.epoch and not second,
            law,
            f"{what} by {caller.name} of epoch {caller.epoch}, after {before.name} of {before.epoch}",
        )
        facts.require(
            facts.now < caller.leads_until,
            law,
            f"{what} by {caller.name}, whose observation expired {facts.now - caller.leads_until:.2f} s ago",
        )
        for target, since in self.stopped.items():
            facts.require(
                target not in (None, group) or facts.now <= since,
                exceptions.STOP,
                f"{what} in {group}, which is halted ({facts.now - since:.2f} s after the halt binds)",
            )
