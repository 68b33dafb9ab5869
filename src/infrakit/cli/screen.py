"""The frame of the live view, as lines of text: a pure function of the state and the size of the terminal.

The parts share the rows of the screen. Each gets a minimum first; the remaining rows go to the groups, the instances
that need attention, the reasons, the other instances and the events, in this order. Omitted rows are counted. In a row
of a table the note is shortened first; identity, slot, state, age and health are shown in full.
"""

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from infrakit.cli import layout, reports, tables
from infrakit.spi.event import Event, to_the_second
from infrakit.spi.manager import GroupStatus, MemberStatus, Status, Verdict

EVENTS_MAX = 8
_HALTS_MAX = 2
_INSTANCES_BEFORE_EVENTS = 12  # rows for instances that take precedence over more than the minimum of events
_KIND_WIDTH = 14
_NARROW = 80  # on a narrower terminal, kinds of events are not aligned


class Span(NamedTuple):
    """Text in one style, in rich's notation: `bold`, `dim`, a colour."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


class Scene(NamedTuple):
    """The input of a frame."""

    title: str
    ctrl_c: str
    status: Status | None = None  # None: not observed yet
    members: Sequence[MemberStatus] = ()
    events: Sequence[Event] = ()


class _Part(NamedTuple):
    """One part of the screen: the fewest and the most rows it can use, and a function that draws it."""

    least: int
    full: int
    draw: Callable[[int], list[Line]]


def frame(scene: Scene, width: int, height: int) -> list[Line]:
    """Draw the frame of a scene: at most `height` lines of at most `width` characters."""
    head = [(Span(scene.title, "bold"),), *_state(scene.status, width)]
    foot = (Span(scene.ctrl_c, "dim"),)
    events = _events(scene.events, width)
    if scene.status is None:
        lines = [*head, *events.draw(max(0, height - len(head) - 1))]
    else:
        groups = _groups(scene.status.groups, width)
        instances = _instances(scene.members, width)
        reasons = _reasons(scene.status.groups, width)
        parts = (groups, instances, reasons, events)
        attention = 2 + sum(_rank(member) > 0 for member in scene.members)
        requests = (
            *((part, part.least) for part in parts),
            (groups, groups.full),
            (instances, attention),
            (reasons, reasons.full),
            (instances, 2 + _INSTANCES_BEFORE_EVENTS),
            (events, events.full),
            (instances, instances.full),
        )
        allocated = _allocate(requests, height - len(head) - 1)
        lines = [*head, *(line for part in parts for line in part.draw(allocated[id(part)]))]
    return [_cut(line, width) for line in [*lines[: max(0, height - 1)], foot]]


def text(lines: Iterable[Line]) -> str:
    """Return the lines without their styles."""
    return "\n".join("".join(span.text for span in line).rstrip() for line in lines)


def _allocate(requests: Sequence[tuple[_Part, int]], room: int) -> dict[int, int]:
    """Allocate rows to each part: the requests are granted in turn, as far as rows remain."""
    allocated: dict[int, int] = {id(part): 0 for part, _ in requests}
    left = max(0, room)
    for part, request in requests:
        more = min(left, max(0, min(request, part.full) - allocated[id(part)]))
        allocated[id(part)] += more
        left -= more
    return allocated


def _state(status: Status | None, width: int) -> list[Line]:
    """Draw the replica and the halts."""
    if status is None:
        return [(Span("starting"),)]
    role = "leads" if status.leader else f"follows {status.leading}" if status.leading else "does not lead"
    age = tables.between(status.started, status.now)
    facts = f"declaration {status.version}, epoch {status.epoch}, {status.replica} (pid {status.pid}) {role}, up {age}"
    lines: list[Line] = [(Span(tables.clean(facts), "dim"),)]
    if status.note:
        lines.extend(_sentence(f"not active: {status.note}", "yellow", width)[:2])
    for halt in status.halts[:_HALTS_MAX]:
        lines.extend(_sentence(reports.halt_sentence(halt), "bold red", width)[:2])
    if len(status.halts) > _HALTS_MAX:
        lines.append((Span(f"and {len(status.halts) - _HALTS_MAX} more halts", "bold red"),))
    return lines


def _sentence(sentence: str, style: str, width: int) -> list[Line]:
    wrapped = textwrap.wrap(tables.clean(sentence), max(width, 20), subsequent_indent="    ", break_on_hyphens=False)
    return [(Span(line, style),) for line in wrapped]


# -- groups ----------------------------------------------------------------------------------------------------------


def _groups(groups: Sequence[GroupStatus], width: int) -> _Part:
    """Draw one row per group; if there are too many, converged groups are omitted first."""

    def draw(room: int) -> list[Line]:
        if not groups or room < 2:
            return []
        shown = list(groups)
        if len(groups) > room - 1:
            shown = sorted(groups, key=lambda group: group.converged)[: room - 2]
        lines = _table(_GROUP_TITLES, [_group_row(group) for group in shown], width, shrink=("KIND", "CURRENT"))
        if hidden := len(groups) - len(shown):
            converged = sum(group.converged for group in groups) - sum(group.converged for group in shown)
            lines.append((Span(f"and {tables.count(hidden, 'more group')}: {converged} converged", "dim"),))
        return lines

    full = len(groups) + 1 if groups else 0
    return _Part(min(4, full), full, draw)


_GROUP_TITLES = ("GROUP", "KIND", "WANT", "LIVE", "HEALTHY", "CURRENT", "PHASE")


def _group_row(group: GroupStatus) -> list[Span]:
    numbers = (group.want, group.live, group.healthy, group.up_to_date)
    phase = Span(tables.clean(group.phase), reports.phase_colour(group))
    return [Span(tables.clean(group.name)), Span(group.kind), *(Span(str(number)) for number in numbers), phase]


# -- instances -------------------------------------------------------------------------------------------------------


def _rank(member: MemberStatus) -> int:
    """Rank how much attention an instance needs; 0: none."""
    if member.health is Verdict.UNHEALTHY:
        return 3
    if member.health is not Verdict.HEALTHY or member.state not in {"running", "finished"}:
        return 2
    return 0 if member.up_to_date else 1


def _instances(members: Sequence[MemberStatus], width: int) -> _Part:
    """Draw one row per instance; if there are too many, those that need attention come first."""
    by_place = sorted(members, key=lambda member: (member.group, len(member.slot or ""), member.slot or ""))

    def draw(room: int) -> list[Line]:
        if not members or room < 3:
            return []
        lines, shown = _rows(by_place, room - 2, width)
        if shown < len(members):
            ordered = sorted(by_place, key=_rank, reverse=True)
            lines, shown = _rows(ordered, room - 3, width)
            hidden = Counter(member.health.value for member in ordered[shown:])
            healths = ", ".join(f"{number} {health}" for health, number in hidden.most_common())
            lines.append((Span(f"and {len(members) - shown} more: {healths}", "dim"),))
        return [(), *lines]

    headings = len({member.group for member in members})
    full = 2 + len(members) + headings if members else 0
    if members and not _needs_headings(members, width):
        full -= headings
    return _Part(min(5, full), full, draw)


_MEMBER_TITLES = ("INSTANCE", "GROUP", "SLOT", "STATE", "AGE", "HEALTH", "NOTE")


def _needs_headings(members: Sequence[MemberStatus], width: int) -> bool:
    """Whether the rows fit only without the column of groups."""
    rows = [[span.text for span in _member_row(member)] for member in members]
    return layout.fit(_MEMBER_TITLES, rows, width, shrink=("NOTE",)).width > width


def _rows(members: Sequence[MemberStatus], room: int, width: int) -> tuple[list[Line], int]:
    """Draw the header and as many members as fit in `room` rows, and return the number of these members.

    If the terminal is too narrow for the column of groups, the name of a group is a row above its members.
    """
    shown = list(members[: max(0, room)])
    rows = [_member_row(member) for member in shown]
    if not shown or not _needs_headings(shown, width):
        return _table(_MEMBER_TITLES, rows, width, shrink=("NOTE",)), len(shown)
    without_group = [[span for column, span in enumerate(row) if column != 1] for row in rows]
    header, *body = _table(
        tuple(title for title in _MEMBER_TITLES if title != "GROUP"), without_group, width, shrink=("NOTE",)
    )
    lines, above, count = [header], None, 0
    for member, line in zip(shown, body, strict=True):
        heading: list[Line] = [(Span(f"{tables.clean(member.group)}:"),)] if member.group != above else []
        if len(lines) + len(heading) > room:
            break
        lines += [*heading, line]
        above, count = member.group, count + 1
    return lines, count


def _member_row(member: MemberStatus) -> list[Span]:
    slot = member.logical_id or member.slot or "-"
    colour = reports.HEALTH_COLOURS[member.health]
    words = (member.id or "-", member.group, slot, member.state, tables.age(member.age_s))
    spans = [Span(tables.clean(str(word))) for word in words]
    return [*spans, Span(member.health.value, colour), Span(tables.clean(reports.member_note(member)), colour)]


def _table(titles: Sequence[str], rows: Sequence[Sequence[Span]], width: int, *, shrink: Sequence[str]) -> list[Line]:
    fitted = layout.fit(titles, [[span.text for span in row] for row in rows], width, shrink=shrink)
    styled = [[Span(title, "bold") for title in titles], *rows]
    gap = " " * fitted.gap
    return [
        tuple(
            Span(layout.shorten(row[column].text, size).ljust(size) + gap, row[column].style)
            for column, size in zip(fitted.columns, fitted.widths, strict=True)
        )
        for row in styled
    ]


# -- reasons and events ----------------------------------------------------------------------------------------------


def _reasons(groups: Sequence[GroupStatus], width: int) -> _Part:
    """Draw the reasons for current (>) and blocked (=) actions: the first in full, while rows remain."""
    sentences = [
        tables.clean(f"{mark} {group.name}: {each.verb} {each.subject}: {each.reason}{_remedy(each.remedy)}")
        for group in groups
        for mark, some in ((">", group.doing), ("=", group.waiting))
        for each in some
    ]
    whole = [_sentence(sentence, "", width) for sentence in sentences]
    full = sum(map(len, whole))

    def draw(room: int) -> list[Line]:
        if full <= room:
            return [line for lines in whole for line in lines]
        left = room - 1  # the last line names the command that shows the rest
        shown: list[Line] = []
        for number, lines in enumerate(whole[: max(0, left)]):
            others = min(len(whole), left) - number - 1  # each needs one line
            if len(lines) <= left - len(shown) - others:
                shown.extend(lines)
            else:
                shown.append((Span(sentences[number]),))
        more = len(sentences) - max(0, left)
        rest = f"and {more} more; see" if more > 0 else "in full"
        return [*shown, (Span(f"{rest}: infrakit why GROUP", "dim"),)][: max(0, room)]

    return _Part(min(2, full), full, draw)


def _remedy(remedy: str) -> str:
    return f"; {remedy}" if remedy else ""


def _events(events: Sequence[Event], width: int) -> _Part:
    """Draw the latest events, in chronological order."""
    newest = list(events)[-EVENTS_MAX:]

    def draw(room: int) -> list[Line]:
        return [(), *(_event(event, width) for event in newest[-(room - 1) :])] if newest and room > 1 else []

    full = len(newest) + 1 if newest else 0
    return _Part(min(4, full), full, draw)


def _event(event: Event, width: int) -> Line:
    """Draw one line; if it is too long, the instance's ID is omitted, because the slot identifies the instance, too."""
    kind = event.type.value.ljust(_KIND_WIDTH if width >= _NARROW else 0)
    start = f"{to_the_second(event.timestamp)[-9:]} {kind} "
    sentence = reports.event_sentence(event)
    if len(start) + len(sentence) > width and event.slot:
        sentence = reports.event_sentence(event, with_instance=False)
    return (Span(start + sentence, reports.KIND_COLOURS.get(event.type, "")),)


def _cut(line: Line, width: int) -> Line:
    """Cut the line at the edge of the terminal."""
    spans, left = [], width
    if sum(len(span.text) for span in line) > width:
        whole = "".join(span.text for span in line).rstrip()
        left = len(layout.shorten(whole, width)) - (len(layout.CUT) if len(whole) > width > len(layout.CUT) else 0)
        for span in line:
            spans.append(span._replace(text=span.text[: max(0, left)]))
            left -= len(span.text)
        if len(whole) > width > len(layout.CUT):
            spans.append(Span(layout.CUT, line[-1].style))
        return tuple(spans)
    return line
