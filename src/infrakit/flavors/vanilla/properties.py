"""What an operator writes under `Flavor.Properties` of a group with the flavor `vanilla`.

`Init`, `Tags` and `Attachments` are the original's, with the same meaning on the wire.
The rest is ours: what differs between pets, a check that proves health, and a command that drains.
"""

from typing import Annotated

import msgspec

from infrakit.spec import validate
from infrakit.spi.group import DurationText, Strict
from infrakit.spi.values import Attachment, LogicalID

Text = Annotated[str, msgspec.Meta(min_length=1)]
Lines = tuple[str, ...] | str
Command = Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)] | Text  # argv, or a line for the shell
Threshold = Annotated[int, msgspec.Meta(ge=1, le=1000)]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Attached(Strict, frozen=True, kw_only=True, gc=False):
    """An attachment as it is declared."""

    id: Text  # the same one follows its logical ID for ever
    type: Text  # such as volume; the provider says which it knows

    def value(self) -> Attachment:
        """As providers know it."""
        return Attachment(id=self.id, type=self.type)


class Individual(Strict, frozen=True, kw_only=True):
    """What one pet has beyond what all have."""

    init: Lines = ()  # a template, after the script of all
    tags: dict[str, str] = msgspec.field(default_factory=dict)


class Port(Strict, frozen=True, kw_only=True, gc=False):
    """A port of its own for every instance of a machine: `Base` + sequence, kept in the tag `infrakit.port`."""

    base: PortNumber  # the first instance listens one above it


class TCP(Strict, frozen=True, kw_only=True, gc=False):
    """Healthy when a connection is accepted."""

    address: Text  # host:port


class HTTP(Strict, frozen=True, kw_only=True, gc=False):
    """Healthy when GET answers with `Status`, or with any 2xx. Redirects are not followed."""

    url: Text  # http or https; placeholders such as ${LOGICAL_ID} are filled in
    status: Annotated[int, msgspec.Meta(ge=100, le=599)] | None = None  # left out: any 2xx


class Check(Strict, frozen=True, kw_only=True):
    """How health is proven: exactly one of `Command`, `TCP` and `HTTP`."""

    command: Command | None = None  # healthy when it exits with 0
    tcp: TCP | None = None  # healthy when a connection is accepted
    http: HTTP | None = None  # healthy when GET is answered as wished
    timeout: DurationText = "2s"  # of one look
    interval: DurationText = "1s"  # looks that follow each other faster count as one
    failures: Threshold = 3  # so many in a row make an instance unhealthy
    successes: Threshold = 1  # so many in a row make it healthy


class Drain(Strict, frozen=True, kw_only=True):
    """A command that moves work away: 0 done, 75 not now (nothing is destroyed), anything else failed."""

    command: Command  # a line for the shell, or a list of words
    timeout: DurationText = "60s"  # then it is killed, and counts as failed


class Properties(Strict, frozen=True, kw_only=True):
    """The whole."""

    init: Lines = ()  # the boot script, a template, in one text or line by line
    init_script_template_url: str | None = None  # where the boot script is instead: a path, or a URL
    tags: dict[str, str] = msgspec.field(default_factory=dict)  # of every instance, besides those of the group
    attachments: tuple[Attached, ...] | dict[str, tuple[Attached, ...]] | None = ()  # of all, or by logical ID
    by_logical_id: dict[str, Individual] = msgspec.field(default_factory=dict)  # what differs between pets
    quorum: bool = False  # losing more than a minority of them loses the whole
    port: Port | None = None  # a port of its own for each, from a base
    health: Check | None = None  # without one, an instance is healthy when its provider lists it
    drain: Drain | None = None  # runs before an instance is destroyed

    def attached(self, logical_id: LogicalID | None) -> tuple[Attachment, ...]:
        """What an instance with this logical ID holds."""
        if isinstance(self.attachments, dict):
            declared = self.attachments.get(logical_id, ()) if logical_id is not None else ()
        else:
            declared = self.attachments or ()
        return tuple(each.value() for each in declared)


def decode(raw: msgspec.Raw) -> Properties:
    """Raises `InvalidSpec`. Nothing at all is fine: every field has a default."""
    return validate.properties(raw, Properties)


def lines(text: Lines) -> tuple[str, ...]:
    """One string stands for itself, however many lines it has."""
    return (text,) if isinstance(text, str) else text
