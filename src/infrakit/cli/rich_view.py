"""The live picture: groups, instances, what is done and why, and the last events. Needs the extra `pretty`."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from infrakit.cli import reports, tables
from infrakit.spi.event import Event
from infrakit.spi.manager import GroupStatus, MemberStatus, Reasoned, Status, Verdict

_EVENTS_MAX = 8
_REASONS_MAX = 6  # a group
_REFRESHES_PER_S = 8


class RichView:
    """Draws whatever it was told last; rich does so a few times a second, in a thread of its own."""

    def __init__(self, source: str, ctrl_c: str, console: Console | None = None) -> None:
        self._title = f"infrakit up {source}"
        self._ctrl_c = ctrl_c
        self._events: deque[Event] = deque(maxlen=_EVENTS_MAX)
        self._members: Sequence[MemberStatus] = ()
        self.last: Status | None = None
        self._console = console or Console()
        self._live = Live(
            get_renderable=self._picture, console=self._console, refresh_per_second=_REFRESHES_PER_S, transient=False
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def status(self, status: Status, members: Sequence[MemberStatus] = ()) -> None:
        self.last, self._members = status, members

    def event(self, event: Event) -> None:
        self._events.append(event)

    def _picture(self) -> RenderableType:
        parts: list[RenderableType] = [Text(self._title, style="bold")]
        if self.last is None:
            parts.append(Text("starting"))
        else:
            rows_max = max(4, self._console.height - 16 - 2 * len(self.last.groups))
            parts.extend(picture(self.last, self._members, rows_max))
        if self._events:
            parts.append(Text())
            parts.extend(_event_line(event) for event in tuple(self._events))
        parts.append(Text(self._ctrl_c, style="dim"))
        return Group(*parts)


def watch(ask: Callable[[], Status], *, every_s: float) -> NoReturn:
    """Draw the answer again and again, until Ctrl-C."""
    with Live(Group(*picture(ask(), (), 0)), auto_refresh=False) as live:
        while True:
            live.update(Group(*picture(ask(), (), 0)), refresh=True)
            time.sleep(every_s)


def picture(status: Status, members: Sequence[MemberStatus], rows_max: int) -> Iterator[RenderableType]:
    """A status: halts, groups, as many instances as there is room for, and the reasons."""
    age = tables.between(status.started, status.now)
    yield Text(f"declaration {status.version}, epoch {status.epoch}, pid {status.pid}, up {age}", style="dim")
    for halt in status.halts:
        yield Text(reports.halt_sentence(halt), style="bold red")
    yield _groups(status.groups)
    if members and rows_max:
        yield Text()
        yield _members(members, rows_max)
    for group in status.groups:
        yield from _reasons(group)


def _groups(groups: Sequence[GroupStatus]) -> Table:
    table = _table("GROUP", "KIND", "WANT", "LIVE", "HEALTHY", "CURRENT", "PHASE")
    for group in groups:
        numbers = (str(n) for n in (group.want, group.live, group.healthy, group.up_to_date))
        table.add_row(group.name, group.kind, *numbers, Text(group.phase, style=reports.phase_colour(group)))
    return table


def _members(members: Sequence[MemberStatus], rows_max: int) -> Table:
    """Those that need attention first; the rest is counted."""
    table = _table("INSTANCE", "GROUP", "SLOT", "STATE", "AGE", "HEALTH")
    ordered = sorted(members, key=lambda m: m.health is Verdict.HEALTHY and m.up_to_date and m.state == "running")
    shown = ordered[:rows_max]
    for member in sorted(shown, key=lambda m: (m.group, len(m.slot or ""), m.slot or "")):
        health = Text(tables.clean(f"{member.health.value} {member.note}"), style=reports.HEALTH_COLOURS[member.health])
        health.truncate(60, overflow="ellipsis")
        slot = member.logical_id or member.slot or "-"
        table.add_row(member.id or "-", member.group, slot, member.state, tables.age(member.age_s), health)
    if len(members) > len(shown):
        table.add_row(f"and {len(members) - len(shown)} more", "", "", "", "", "")
    return table


def _reasons(group: GroupStatus) -> Iterator[Text]:
    reasons: list[tuple[str, Reasoned]] = [(">", each) for each in group.doing] + [
        ("=", each) for each in group.waiting
    ]
    for mark, each in reasons[:_REASONS_MAX]:
        yield Text(
            tables.clean(f"{mark} {group.name}: {each.verb} {each.subject}: {each.reason}"),
            overflow="ellipsis",
            no_wrap=True,
        )
    if len(reasons) > _REASONS_MAX:
        yield Text(f"  {group.name}: and {len(reasons) - _REASONS_MAX} more", style="dim")


def _event_line(event: Event) -> Text:
    when = tables.moment(event.timestamp)[-9:]
    sentence = f"{when} {event.type.value:<14} {reports.event_sentence(event)}"
    return Text(sentence, style=reports.KIND_COLOURS.get(event.type, ""), overflow="ellipsis", no_wrap=True)


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    return table
