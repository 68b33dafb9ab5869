"""The schema of `Flavor.Properties` for groups with the flavor `vanilla`.

`Init`, `Tags` and `Attachments` have the same meaning on the wire as in the original InfraKit.
All other properties are additions: differences between pets, a health check, and a drain command.
"""

from typing import Annotated

import msgspec

from infrakit.spec import validate
from infrakit.spi.group import DurationText, Strict
from infrakit.spi.values import Attachment, LogicalID

Text = Annotated[str, msgspec.Meta(min_length=1)]
Lines = tuple[str, ...] | str
Command = Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)] | Text  # argv, or a shell command line
Threshold = Annotated[int, msgspec.Meta(ge=1, le=1000)]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Attached(Strict, frozen=True, kw_only=True, gc=False):
    """An attachment, as declared."""

    id: Text  # stays with its logical ID across replacements
    type: Text  # such as volume; the provider defines the types that it supports

    def value(self) -> Attachment:
        """Convert to the form that providers use."""
        return Attachment(id=self.id, type=self.type)


class Individual(Strict, frozen=True, kw_only=True):
    """Properties of one pet, in addition to those of all."""

    init: Lines = ()  # a template, appended to the script of all
    tags: dict[str, str] = msgspec.field(default_factory=dict)


class Port(Strict, frozen=True, kw_only=True, gc=False):
    """A separate port for every instance of a machine: `Base` + sequence, stored in the tag `infrakit.port`."""

    base: PortNumber  # the first instance gets the port above it


class TCP(Strict, frozen=True, kw_only=True, gc=False):
    """Healthy when a connection is accepted."""

    address: Text  # host:port


class HTTP(Strict, frozen=True, kw_only=True, gc=False):
    """Healthy when GET answers with `Status`, or with any 2xx. Redirects are not followed."""

    url: Text  # http or https; placeholders such as ${LOGICAL_ID} are filled in
    status: Annotated[int, msgspec.Meta(ge=100, le=599)] | None = None  # default: any 2xx


class Check(Strict, frozen=True, kw_only=True):
    """How health is checked: exactly one of `Command`, `TCP` and `HTTP`."""

    command: Command | None = None  # healthy when it exits with 0
    tcp: TCP | None = None  # healthy when a connection is accepted
    http: HTTP | None = None  # healthy when GET returns the expected status
    timeout: DurationText = "2s"  # of one probe
    interval: DurationText = "1s"  # probes at shorter intervals count as one
    failures: Threshold = 3  # number of consecutive failures after which an instance is unhealthy
    successes: Threshold = 1  # number of consecutive successes after which it is healthy


class Drain(Strict, frozen=True, kw_only=True):
    """A command that moves work away. Exit code 0: done, 75: not now (nothing is destroyed), any other: failed."""

    command: Command  # a shell command line, or a list of words
    timeout: DurationText = "60s"  # after this time the command is killed, which counts as a failure


class Properties(Strict, frozen=True, kw_only=True):
    """Properties of `vanilla`. All are optional: every field has a default."""

    init: Lines = ()  # the boot script, a template, as one text or a list of lines
    init_script_template_url: str | None = None  # the path or URL of the boot script, instead of Init
    # tags of every instance, in addition to those of the group
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    # for all instances, or by logical ID
    attachments: tuple[Attached, ...] | dict[str, tuple[Attached, ...]] | None = ()
    by_logical_id: dict[str, Individual] = msgspec.field(default_factory=dict)  # differences between pets
    quorum: bool = False  # the group needs a majority of its members
    port: Port | None = None  # a separate port for each instance, counted from a base
    health: Check | None = None  # default: an instance is healthy when its provider lists it
    drain: Drain | None = None  # runs before an instance is destroyed

    def attached(self, logical_id: LogicalID | None) -> tuple[Attachment, ...]:
        """Return the attachments of an instance with this logical ID."""
        if isinstance(self.attachments, dict):
            declared = self.attachments.get(logical_id, ()) if logical_id is not None else ()
        else:
            declared = self.attachments or ()
        return tuple(each.value() for each in declared)


def decode(raw: msgspec.Raw) -> Properties:
    """Decode declared properties. Raises `InvalidSpec`."""
    return validate.properties(raw, Properties)


def lines(text: Lines) -> tuple[str, ...]:
    """Return the list of texts; a single string is one text, with any number of lines."""
    return (text,) if isinstance(text, str) else text
