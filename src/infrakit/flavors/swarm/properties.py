"""The schema of `Flavor.Properties` for groups with these flavors, and its validation."""

from collections.abc import Iterator
from typing import Annotated, TypeVar

import msgspec

from infrakit.clients.dockerd import DEFAULT
from infrakit.ensemble import members
from infrakit.ensemble.boot import script_problems
from infrakit.ensemble.members import PLACEHOLDER
from infrakit.flavors.swarm.link import OWN_LABELS
from infrakit.spec import validate
from infrakit.spi.errors import Problem
from infrakit.spi.group import DurationText, Strict
from infrakit.spi.values import Allocation, Attachment, LogicalID

PORT = 2377  # the port at which managers communicate and nodes join

# Options of `docker swarm init` and of the Engine that the boot script sets, or that keep a member from returning.
RESERVED = {"advertise-addr", "listen-addr", "force-new-cluster", "autolock"}
RESERVED_OF_ENGINE = {"data-root", "g"}

Text = Annotated[str, msgspec.Meta(min_length=1)]
T = TypeVar("T", bound="Properties")


class Docker(Strict, frozen=True, kw_only=True):
    """How the Engine of a node is reached."""

    # the socket, on every node and where InfraKit runs
    host: Annotated[str, msgspec.Meta(pattern="^unix:///.")] = DEFAULT


class Properties(Strict, frozen=True, kw_only=True):
    """The properties that managers and workers have in common."""

    engine: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)] = ("dockerd",)  # the command, and its options
    # further labels of the Engine, for constraints of services
    engine_labels: dict[Text, str] = msgspec.field(default_factory=dict)
    docker: Docker = Docker()
    run: str = ""  # a shell command line that runs beside the Engine and is restarted when it exits
    remove_after: DurationText = "30s"  # how long a node must be down without an instance before it is removed
    init: tuple[Text, ...] | Text = ()  # a boot script (a template) that replaces the built-in one
    init_script_template_url: str = ""  # the path or URL of such a boot script, instead of Init

    def attachments(self, logical_id: LogicalID) -> tuple[Attachment, ...]:  # noqa: ARG002
        """Return the volumes that follow one member across replacements."""
        return ()


class Manager(Properties, frozen=True, kw_only=True):
    """Properties of `swarm/manager`. All are optional: every field has a default."""

    volume: str = PLACEHOLDER  # ID of each member's volume, from its logical ID; empty: the data stays on the machine
    replica: str = ""  # the address of the InfraKit replica that `Run` starts, such as https://{LogicalID}:24864
    swarm_init: tuple[Text, ...] = ()  # further options of docker swarm init, such as --default-addr-pool=10.20.0.0/16

    def attachments(self, logical_id: LogicalID) -> tuple[Attachment, ...]:
        return members.attachments(self.volume, logical_id)


class Worker(Properties, frozen=True, kw_only=True):
    """Properties of `swarm/worker`. All are optional: every field has a default."""

    advertise: str = ""  # its address or interface; default: its logical ID if that is an address, or automatic


def decode(raw: msgspec.Raw, type_: type[T]) -> T:
    """Decode declared properties. Raises `InvalidSpec`."""
    return validate.properties(raw, type_)


def problems(declared: Properties, allocation: Allocation) -> Iterator[Problem]:
    """Yield all problems that the types do not catch, in the order of the properties."""
    if isinstance(declared, Manager):
        yield from members.address_problems(allocation, members="managers of a Swarm")
    yield from _options("Engine", declared.engine, RESERVED_OF_ENGINE)
    for label in declared.engine_labels:
        if label in OWN_LABELS:
            yield Problem(path=f"EngineLabels.{label}", message="it is set by the boot script", hint="remove it")
    yield from script_problems(declared.init, declared.init_script_template_url)
    if isinstance(declared, Manager):
        yield from members.volume_problems(declared.volume, allocation, example="swarm")
        yield from members.placeholder_problems("Replica", declared.replica)
        if declared.replica and not declared.replica.startswith(("unix:///", "http://", "https://")):
            message = f"{declared.replica!r} is no address of a replica"
            yield Problem(path="Replica", message=message, hint="write unix:///PATH or https://HOST:PORT")
        yield from _options("SwarmInit", declared.swarm_init, RESERVED)


def _options(path: str, words: tuple[str, ...], reserved: set[str]) -> Iterator[Problem]:
    for position, word in enumerate(words):
        name = word.lstrip("-").partition("=")[0]
        if word.startswith("-") and name in reserved:
            message = f"--{name} is set by the boot script"
            if name == "autolock":
                message = "a manager of a locked Swarm cannot return by itself"
            yield Problem(path=f"{path}[{position}]", message=message, hint="remove it")
