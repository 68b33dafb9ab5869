"""Answers of the daemon as lines for people. Every sentence in them was made where the decision was made."""

from collections.abc import Iterable, Iterator, Sequence

from infrakit.cli import differences, tables
from infrakit.cli.tables import Cell
from infrakit.spi.event import Event, Kind
from infrakit.spi.manager import Committed, GroupStatus, Halt, MemberStatus, Reasoned, Status, Verdict

HEALTH_COLOURS = {Verdict.HEALTHY: "green", Verdict.UNHEALTHY: "red", Verdict.UNKNOWN: "yellow"}
_BAD = {Kind.CREATE_FAILED, Kind.DRAIN_FAILED, Kind.DESTROY_FAILED, Kind.UNHEALTHY, Kind.ERROR, Kind.OBSERVE_FAILED}
_GOOD = {Kind.HEALTHY, Kind.CONVERGED, Kind.CREATED}
_DOUBTFUL = {Kind.WAITING, Kind.REFUSED, Kind.MISSING, Kind.CREATE_UNKNOWN, Kind.THROTTLED, Kind.DIVERGED}
KIND_COLOURS = dict.fromkeys(_BAD, "red") | dict.fromkeys(_GOOD, "green") | dict.fromkeys(_DOUBTFUL, "yellow")


def status(value: Status) -> Iterator[str]:
    """The replica, the halts, a table of groups, and what is done or waited for."""
    yield (
        f"{tables.clean(value.replica)} (pid {value.pid}) {_role(value)}, epoch {value.epoch}, "
        f"declaration {value.version}, up {tables.between(value.started, value.now)}"
    )
    if value.note:
        yield from tables.paragraph(f"not active: {value.note}")
    for each in value.halts:
        yield from halt(each)
    yield ""
    if not value.groups:
        if value.note:
            return
        yield "No groups are declared; `infrakit commit FILE` declares some."
        return
    yield from groups(value.groups)
    for group in value.groups:
        yield from group_reasons(group)


def _role(value: Status) -> str:
    if value.leader:
        return "leads"
    if value.leading:
        return f"follows {tables.clean(value.leading)}"
    return tables.paint("does not lead", "yellow")


def halt(value: Halt) -> Iterator[str]:
    """An operator's stop, as a line that nobody overlooks."""
    for line in tables.paragraph(halt_sentence(value), hanging=" " * 4):
        yield tables.paint(line, "red", bold=True)


def halt_sentence(value: Halt) -> str:
    """What is stopped, by whom, when and why."""
    scope = f"group {value.group}" if value.group else "everything"
    return tables.clean(f"HALTED: {scope}, by {value.who} at {tables.moment(value.when)}: {value.why}")


def groups(values: Iterable[GroupStatus]) -> Iterator[str]:
    """One row a group."""
    header = ("GROUP", "KIND", "WANT", "LIVE", "HEALTHY", "CURRENT", "SEEN", "PHASE")
    return tables.table(header, [_group_row(group) for group in values])


def _group_row(group: GroupStatus) -> list[str | Cell]:
    halted = " (halted)" if group.halt and group.phase != "halted" else ""
    return [
        group.name,
        group.kind,
        str(group.want),
        str(group.live),
        Cell(str(group.healthy), "" if group.healthy >= group.want else "yellow"),
        str(group.up_to_date),
        "never" if group.observed_age_s is None else tables.age(group.observed_age_s),
        Cell(group.phase + halted, phase_colour(group)),
    ]


def phase_colour(group: GroupStatus) -> str:
    """Green only when converged; red when somebody has to act."""
    if group.converged:
        return "green"
    return "red" if group.phase in {"halted", "paused", "unknown"} or group.halt else "yellow"


def group_reasons(group: GroupStatus) -> Iterator[str]:
    """What is being done with a group and what it waits for; nothing when there is nothing to say."""
    if group.doing or group.waiting:
        yield ""
        yield tables.paint(f"{group.name}:", bold=True)
        yield from reasons(group.doing)
        yield from reasons(group.waiting, mark="=")


def reasons(values: Sequence[Reasoned], *, mark: str = "") -> Iterator[str]:
    """One sentence each, with its rule and what would change it."""
    for value in values:
        rule = f" [{value.rule}]" if value.rule else ""
        remedy = f"; {value.remedy}" if value.remedy else ""
        look = f"; looked at again by {tables.moment(value.next_look)}" if value.next_look else ""
        sentence = f"{value.verb} {value.subject}: {value.reason}{remedy}{look}{rule}"
        yield from tables.paragraph(sentence, indent=f"  {mark or '>'} ", hanging="    ")


def members(values: Iterable[MemberStatus]) -> Iterator[str]:
    """One row an instance, also for those that are being created.

    On a terminal too narrow for the notes they are cut; those of instances that are not healthy follow in full.
    """
    listed = list(values)
    header = ("INSTANCE", "GROUP", "SLOT", "STATE", "AGE", "VERSION", "HEALTH", "NOTE")
    lines = list(tables.table(header, [_member_row(member) for member in listed], gives=("NOTE", "VERSION")))
    yield from lines
    for member in listed:
        note = tables.clean(member_note(member))
        if member.health is not Verdict.HEALTHY and not any(note in line for line in lines):
            name = member.id or member.logical_id or member.slot or "-"
            yield from tables.paragraph(f"{name}: {member.health.value}: {note}", hanging=" " * 4)


def _member_row(member: MemberStatus) -> list[str | Cell]:
    version = "current" if member.up_to_date else member.hash[:8] or "-"
    return [
        member.id or "-",
        member.group,
        str(member.logical_id or member.slot or "-"),
        member.state,
        tables.age(member.age_s),
        version,
        Cell(member.health.value, HEALTH_COLOURS[member.health]),
        member_note(member),
    ]


def member_note(member: MemberStatus) -> str:
    """The fact its health rests on, and before it what every operator must know before destroying it."""
    return " ".join(filter(None, ("(this controller runs here)" if member.is_self else "", member.note)))


def committed(value: Committed, done: str) -> Iterator[str]:
    """The result of a command that changes the declaration: `done` names it."""
    if value.unchanged:
        yield f"Nothing to change: declaration {value.version} says so already."
        return
    yield f"{done}: declaration {value.version}."
    yield from differences.lines(value.changes)
    for note in value.notes:
        yield from (tables.paint(line, "yellow", bold=True) for line in tables.paragraph(note))


def event(value: Event) -> str:
    """One line of the journal, with its date; wrapped on a terminal."""
    return _event(value, tables.moment(value.timestamp))


def event_now(value: Event) -> str:
    """One line of what happens now: the time is enough; wrapped on a terminal."""
    return _event(value, tables.moment(value.timestamp)[-9:])


def _event(value: Event, when: str) -> str:
    kind = f"{value.type.value:<14}"
    lines = "\n".join(tables.paragraph(f"{when} {kind} {event_sentence(value)}", hanging="    "))
    return lines.replace(kind, tables.paint(kind, KIND_COLOURS.get(value.type, "")), 1)


def event_sentence(value: Event, *, with_instance: bool = True) -> str:
    """About whom, what and why."""
    subject = "/".join(str(part) for part in (value.group, value.slot) if part)
    about = " ".join(part for part in (subject, value.instance if with_instance else "") if part)
    cause = f" [{value.cause}]" if value.cause else ""
    return tables.clean(f"{about}: {value.message}{cause}" if about else f"{value.message}{cause}")
