"""Sheets of paper on a shelf: an instance plugin with files as machines, and a flavor that checks them for complaints.

Deleting a sheet terminates the machine. A sheet is unhealthy while the directory `Complaints` has a file of its name.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from infrakit.spec import validate
from infrakit.spi.errors import Conflict, InvalidSpec, NotFound, Problem, Refused
from infrakit.spi.group import Strict
from infrakit.spi.instance import Capabilities, DestroyContext
from infrakit.spi.values import (
    TAG_TOKEN,
    Allocation,
    Description,
    Health,
    HealthReport,
    Index,
    InstanceID,
    InstanceSpec,
    State,
)


class ShelfProperties(Strict, frozen=True, kw_only=True):
    """The fields of `Instance.Properties`. Unknown fields are errors, reported with the nearest known name."""

    places: int = 100  # `Places` in a document: the capacity of the shelf


class Shelf:
    """Implements `Instance`, `Capable` and `Inspects`. The daemon gives each plugin its own directory."""

    def __init__(self, directory: Path) -> None:
        self._sheets = directory / "sheets"
        self._destroyed = directory / "gone"  # of destroyed sheets, so that no token ever creates a second sheet

    async def capabilities(self) -> Capabilities:
        return Capabilities(listing_lag_s=0.0, tokens=True)

    async def validate(self, *, properties: msgspec.Raw) -> None:
        validate.properties(properties, ShelfProperties)

    async def provision(self, *, spec: InstanceSpec) -> InstanceID:
        token = (spec.tags or {}).get(TAG_TOKEN) or uuid.uuid4().hex
        instance = InstanceID(f"sheet-{hashlib.sha256(token.encode()).hexdigest()[:12]}")
        if (self._sheets / instance).exists() or (self._destroyed / instance).exists():
            return instance  # created by an earlier call whose response was lost
        present = self._all()
        if len(present) >= validate.properties(spec.properties, ShelfProperties).places:
            raise Refused("the shelf is full", where="shelf", remedy="raise Places, or lower the size")
        for other in present:
            if spec.logical_id is not None and other.logical_id == spec.logical_id:
                raise Conflict(f"{other.id} already has {spec.logical_id}", where="shelf")
            if set(spec.attachments or ()) & set(other.attachments or ()):
                raise Conflict(f"{other.id} holds one of its attachments", where="shelf")
        self._write(
            Description(
                id=instance,
                logical_id=spec.logical_id,
                tags=spec.tags,
                state=State.RUNNING,
                attachments=spec.attachments or (),
            )
        )
        return instance

    async def label(self, *, instance: InstanceID, labels: Mapping[str, str]) -> None:
        sheet = self._read(instance)
        if sheet is None:
            raise NotFound(f"there is no {instance}", where="shelf")
        self._write(msgspec.structs.replace(sheet, tags={**(sheet.tags or {}), **labels}))

    async def destroy(self, *, instance: InstanceID, context: DestroyContext) -> None:
        del context  # the reason makes no difference here
        self._destroyed.mkdir(parents=True, exist_ok=True)
        try:
            (self._sheets / instance).rename(self._destroyed / instance)
        except FileNotFoundError:
            raise NotFound(f"there is no {instance}", where="shelf") from None

    async def describe_instances(self, *, tags: Mapping[str, str], properties: bool = False) -> Sequence[Description]:
        found = [sheet for sheet in self._all() if tags.items() <= (sheet.tags or {}).items()]
        return [self._with_path(sheet) for sheet in found] if properties else found

    async def inspect(self, *, instance: InstanceID) -> Description | None:
        return self._read(instance)

    def _with_path(self, sheet: Description) -> Description:
        facts = msgspec.json.encode({"Path": str(self._sheets / sheet.id)})
        return msgspec.structs.replace(sheet, properties=msgspec.Raw(facts))

    def _all(self) -> list[Description]:
        self._sheets.mkdir(parents=True, exist_ok=True)
        found = (self._read(InstanceID(path.name)) for path in sorted(self._sheets.glob("sheet-*")))
        return [sheet for sheet in found if sheet is not None]

    def _read(self, instance: InstanceID) -> Description | None:
        try:
            return msgspec.json.decode((self._sheets / instance).read_bytes(), type=Description)
        except FileNotFoundError:
            return None

    def _write(self, sheet: Description) -> None:
        """Write the sheet atomically, together with its tags."""
        draft = self._sheets / f".{sheet.id}"
        draft.write_bytes(msgspec.json.encode(sheet))
        draft.replace(self._sheets / sheet.id)


class PaperProperties(Strict, frozen=True, kw_only=True):
    """The fields of `Flavor.Properties`."""

    text: str = ""
    complaints: str = "complaints"  # a directory: a file named as an instance is a complaint about it
    quorum: bool = False


class Paper:
    """Implements `Flavor` and `Quorum`."""

    async def validate(self, *, properties: msgspec.Raw, allocation: Allocation) -> None:
        asked = validate.properties(properties, PaperProperties)
        if asked.quorum and allocation.logical_ids is None:
            raise InvalidSpec([Problem(path="Quorum", message="found true, but the group has a Size, not LogicalIDs")])

    async def prepare(
        self, *, properties: msgspec.Raw, spec: InstanceSpec, allocation: Allocation, index: Index
    ) -> InstanceSpec:
        text = validate.properties(properties, PaperProperties).text
        page = f"{index.sequence} of {allocation.size or len(allocation.logical_ids or ())}"
        return msgspec.structs.replace(spec, init=text, tags={**(spec.tags or {}), "page": page})

    async def healthy(self, *, properties: msgspec.Raw, instance: Description) -> HealthReport:
        complaint = self._complaint(properties, instance)
        if complaint is None:
            return HealthReport(health=Health.HEALTHY, note="no complaints")
        return HealthReport(health=Health.UNHEALTHY, note=f"complaint: {complaint}")

    async def drain(self, *, properties: msgspec.Raw, instance: Description) -> None:
        if self._complaint(properties, instance) == "keep it":
            raise Refused("a complaint forbids its destruction", where=instance.id)

    async def is_quorum(self, *, properties: msgspec.Raw) -> bool:
        return validate.properties(properties, PaperProperties).quorum

    def _complaint(self, properties: msgspec.Raw, instance: Description) -> str | None:
        directory = Path(validate.properties(properties, PaperProperties).complaints)
        try:
            return (directory / instance.id).read_text().strip()
        except FileNotFoundError:
            return None
