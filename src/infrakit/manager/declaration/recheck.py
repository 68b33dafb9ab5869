"""Changes that were validated against the other declared groups: they apply only while those are the same.

Validation asks plugins, so it takes place before the compare-and-swap. A concurrent change may declare what the
validated one declares, too, such as the same volume.
"""

from collections.abc import Iterable, Mapping

from infrakit.manager.declaration.record import DeclarationRecord, RecordChange
from infrakit.spi import errors
from infrakit.spi.group import Group
from infrakit.spi.values import GroupID

ATTEMPTS_MAX = 5


class OthersChanged(errors.Conflict):
    """The other groups are not those that the change was validated against: it must be validated again."""


def while_unchanged(change: RecordChange, groups: Iterable[Group], others: Mapping[GroupID, Group]) -> RecordChange:
    """Return the change of these groups, which raises `OthersChanged` if the `others` have changed."""
    own = {group.name for group in groups}

    def apply(record: DeclarationRecord) -> DeclarationRecord:
        if _rest(record.groups, own) != _rest(others, own):
            raise OthersChanged("other groups keep changing", remedy="retry")
        return change(record)

    return apply


def _rest(groups: Mapping[GroupID, Group], own: set[GroupID]) -> dict[GroupID, Group]:
    return {name: group for name, group in groups.items() if name not in own}
