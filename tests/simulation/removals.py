"""What takes the place of a rule that is taken out, for the worlds in which that must show."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from infrakit.group import plan
from infrakit.group.account import Account
from infrakit.group.plan import classification
from infrakit.group.state import matching
from infrakit.group.state.creation import Creation
from infrakit.group.state.member import Member
from infrakit.group.state.tags import TagEvidence
from infrakit.group.state.view import GroupView
from infrakit.manager.declaration import record as records
from infrakit.manager.declaration.record import DeclarationRecord
from infrakit.manager.declaration.store import Declaration
from infrakit.manager.lead.fence import Fence
from infrakit.manager.lead.ledger import EpochLedger
from infrakit.spi import codec, errors
from infrakit.spi.instance import Watches
from infrakit.spi.store import Document
from infrakit.spi.values import Description, InstanceID, LogicalID, State


def nothing(*_: object, **__: object) -> Any:
    """Replaces a check, and finds nothing."""
    return ()


def no_reason(*_: object, **__: object) -> str:
    """Replaces a limit, and permits everything."""
    return ""


def certainly_nothing(creation: Creation, why: str, now: float, *, retry_at: float, **_: object) -> None:
    """Take a lost answer for the proof that nothing was created."""
    creation.not_created(why, now, retry_at=retry_at)


def at_once(pending: object, members: object, *, listed_until: float, can_inspect: bool) -> Any:
    """Do not wait for the lag that the provider promises."""
    return OVERDUE(pending, members, listed_until=listed_until + 1e6, can_inspect=can_inspect)  # type: ignore[arg-type]


OVERDUE = matching.overdue


def unhalted(want: plan.DesiredState, *seen: Any) -> Any:
    """Plan as if nothing were halted."""
    return DECIDE(msgspec.structs.replace(want, orders=msgspec.structs.replace(want.orders, halt=None)), *seen)


DECIDE = plan.decide


async def trusting(provider: Any, instances: Sequence[InstanceID], found: Any) -> None:
    """Take an error of an inspection for the proof of a termination."""
    for instance in instances:
        try:
            description = await provider.inspect(instance=instance)
        except errors.InfraKitError:
            description = None
        found(instance, description)


def any_format(body: bytes, document: type[Any], _what: str) -> Any:
    """Read a document of any format as if it had that of this release."""
    return codec.decode(body, document) if body else document()


def as_listed(listed: str | None, *_: object) -> tuple[LogicalID | None, str]:
    """Believe the listing alone."""
    return (LogicalID(listed), "") if listed else (None, "")


def as_tagged(member: Member, description: Description, **declared: Any) -> None:
    """Let a member be of the version that its tag shows now, whatever was known of it."""
    READ(member, description, **declared)
    member.hash = member.listed_hash or ""


READ = Member.read


def no_evidence(_view: GroupView) -> TagEvidence:
    """Never find a tag that is not as it was set."""
    return TagEvidence()


def outdated(classified: classification.Classification, *about: Any) -> None:
    """Take a member without the tag of its version for one of another version."""
    CLASSIFY(classified, *about)
    classified.outdated += classified.unversioned
    classified.unversioned = []


CLASSIFY = classification._classify_version


def finished(view: GroupView, listed: Description, begun_at: float, wall: float) -> Member | None:
    """Take what is listed as terminated for a machine that exited on purpose."""
    if listed.state is State.TERMINATED:
        listed = msgspec.structs.replace(listed, state=State.FINISHED)
    return LISTED(view, listed, begun_at, wall)


def ended_for_ever(view: GroupView, listed: Description, begun_at: float, wall: float) -> Member | None:
    """Ignore an instance whose termination was confirmed, even if it runs again."""
    if listed.id in view.ended._terminations and listed.id not in view.members:
        return None
    return LISTED(view, listed, begun_at, wall)


LISTED = GroupView._listed


async def while_watched(account: Account, group: str, *, not_before: float) -> tuple[Sequence[Description], float]:
    """Do not list again while a watch reports nothing."""
    latest = account._latest
    if latest is not None and group in latest.by_group and isinstance(account.instance, Watches):
        return latest.by_group[group], not_before
    return await LIST(account, group, not_before=not_before)  # type: ignore[arg-type]


LIST = Account.listing


def list_again(account: Account, _hint: str) -> None:
    """Drop the newest listing, because the watch has reported a change."""
    account._latest = None


def grace_by_wall_clock(member: Member, grace_s: float) -> float:
    """Count the boot grace from the creation, as wall clocks have it."""
    return -math.inf if member.is_proven else member.created_at + grace_s


def proven_once(fence: Fence) -> bool:
    """Whether the epoch was ever proven."""
    return fence._proven_at > -math.inf and not fence.lost


def adopt_any(ledger: EpochLedger, document: Document, _known: int, began: float) -> None:
    """Take an older revision of the own ledger for a proof."""
    contents = ledger._decode(document)
    if not ledger._is_mine(contents):
        ledger._lose("another replica holds the epoch")
    if document.revision > ledger._revision:
        ledger._revision, ledger._contents = document.revision, contents
    ledger._fence.proven(began)


async def load_any(declaration: Declaration) -> DeclarationRecord:
    """Adopt whichever version the store shows."""
    document = await declaration._store.read(name=records.NAME)
    declaration.record, declaration.version = records.decode(document.body), document.revision
    return declaration.record
