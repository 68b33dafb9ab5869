"""Formats responses of the daemon as lines for people. The daemon writes the reasons where it makes the decisions."""

from collections.abc import Iterable, Iterator, Sequence

from infrakit.cli import differences, tables
from infrakit.cli.tables import Cell
from infrakit.spi.event import Event, Kind, to_the_second
from infrakit.spi.manager import Committed, GroupStatus, Halt, MemberStatus, Reasoned, Status, Verdict

HEALTH_COLOURS = {Verdict.HEALTHY: "green", Verdict.UNHEALTHY: "red", Verdict.UNKNOWN: "yellow"}
_BAD = {Kind.CREATE_FAILED, Kind.DRAIN_FAILED, Kind.DESTROY_FAILED, Kind.UNHEALTHY, Kind.ERROR, Kind.OBSERVE_FAILED}
_GOOD = {Kind.HEALTHY, Kind.CONVERGED, Kind.CREATED}
_UNCERTAIN = {Kind.WAITING, Kind.REFUSED, Kind.MISSING, Kind.CREATE_UNKNOWN, Kind.THROTTLED, Kind.DIVERGED}
KIND_COLOURS = dict.fromkeys(_BAD, "red") | dict.fromkeys(_GOOD, "green") | dict.fromkeys(_UNCERTAIN, "yellow")


def status(value: Status) -> Iterator[str]:
    """Yield the replica, the halts, a table of groups, and the reasons for current and blocked actions."""
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
    """Yield a halt, highlighted."""
    for line in tables.paragraph(halt_sentence(value), hanging=" " * 4):
        yield tables.paint(line, "red", bold=True)


def halt_sentence(value: Halt) -> str:
    """Describe a halt: its scope, who set it, when and why."""
    scope = f"group {value.group}" if value.group else "everything"
    return tables.clean(f"HALTED: {scope}, by {value.who} at {to_the_second(value.when)}: {value.why}")


def groups(values: Iterable[GroupStatus]) -> Iterator[str]:
    """Yield a table with one row per group."""
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
    """Choose a colour: green only when converged; red when an operator has to act."""
    if group.converged:
        return "green"
    return "red" if group.phase in {"halted", "paused", "unknown"} or group.halt else "yellow"


def group_reasons(group: GroupStatus) -> Iterator[str]:
    """Yield what a quorum can lose, and the current and blocked actions of a group; no lines if there are none."""
    unproven = group.proven not in ("", group.hash)
    if group.doing or group.waiting or group.quorum or unproven:
        yield ""
        yield tables.paint(f"{group.name}:", bold=True)
        if group.quorum:
            yield from tables.paragraph(group.quorum, indent="  ", hanging="    ")
        if unproven:
            yield tables.clean(f"  version {group.hash[:8]} is declared, the last proven one is {group.proven[:8]}")
        yield from reasons(group.doing)
        yield from reasons(group.waiting, mark="=")


def reasons(values: Sequence[Reasoned], *, mark: str = "") -> Iterator[str]:
    """Yield one sentence per reason, with its rule, its remedy and the time of the next check."""
    for value in values:
        rule = f" [{value.rule}]" if value.rule else ""
        remedy = f"; {value.remedy}" if value.remedy else ""
        check = f"; next check at {to_the_second(value.next_look)}" if value.next_look else ""
        sentence = f"{value.verb} {value.subject}: {value.reason}{remedy}{check}{rule}"
        yield from tables.paragraph(sentence, indent=f"  {mark or '>'} ", hanging="    ")


def members(values: Iterable[MemberStatus]) -> Iterator[str]:
    """Yield a table with one row per instance, including those that are being created.

    A terminal too narrow for the notes shows them shortened; those of instances that are not healthy follow in full.
    """
    listed = list(values)
    header = ("INSTANCE", "GROUP", "SLOT", "STATE", "AGE", "VERSION", "HEALTH", "NOTE")
    lines = list(tables.table(header, [_member_row(member) for member in listed], shrink=("NOTE", "VERSION")))
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
    """Return the fact that its health is based on, after a warning if this controller runs on the instance."""
    return " ".join(filter(None, ("(this controller runs here)" if member.is_self else "", member.note)))


def committed(value: Committed, done: str) -> Iterator[str]:
    """Yield the result of a command that changes the declaration; `done` describes the change."""
    if value.unchanged:
        yield f"No changes: declaration {value.version} already matches."
        return
    yield f"{done}: declaration {value.version}."
    yield from differences.brief(value.changes)
    for note in value.notes:
        yield from (tables.paint(line, "yellow", bold=True) for line in tables.paragraph(note))


def event(value: Event) -> str:
    """Format one line of the journal, with its date; wrapped on a terminal."""
    return _event(value, to_the_second(value.timestamp))


def event_now(value: Event) -> str:
    """Format one line for an event of today, with its time only; wrapped on a terminal."""
    return _event(value, to_the_second(value.timestamp)[-9:])


def _event(value: Event, when: str) -> str:
    kind = f"{value.type.value:<14}"
    if tables.width() is None:
        return tables.clean(f"{when} {kind} {event_sentence(value)}")
    lines = "\n".join(tables.paragraph(f"{when} {kind} {event_sentence(value)}", hanging="    "))
    return lines.replace(kind, tables.paint(kind, KIND_COLOURS.get(value.type, "")), 1)


def event_sentence(value: Event, *, with_instance: bool = True) -> str:
    """Format the subject of an event, its message and its cause."""
    subject = "/".join(str(part) for part in (value.group, value.slot) if part)
    about = " ".join(part for part in (subject, value.instance if with_instance else "") if part)
    cause = f" [{value.cause}]" if value.cause else ""
    return tables.clean(f"{about}: {value.message}{cause}" if about else f"{value.message}{cause}")
