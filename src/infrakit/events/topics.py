"""The journal for the original's clients: topics are paths, such as `groups/web/created` and `manager/committed`."""

import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec

from infrakit.events.journal import Journal
from infrakit.spi.event import Event, Kind, Message

GROUPS = "groups"
MANAGER = "manager"


class JournalTopics:
    """Publishes the journal as topics. Satisfies `spi.event.Topics`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def list(self, *, topic: str) -> Sequence[str]:
        path = [each for each in topic.split("/") if each not in ("", ".")]
        if not path:
            return [GROUPS, MANAGER]
        kinds = sorted(Kind)
        if path == [MANAGER] or (len(path) == 2 and path[0] == GROUPS):
            return kinds
        return sorted(self._journal.groups()) if path == [GROUPS] else []

    async def subscribe(self, *, topic: str) -> AsyncIterator[Message]:
        wanted = "/" + topic.strip("/")
        below = wanted.rstrip("/") + "/" if topic.endswith("/") or not topic.strip("./") else ""
        async with contextlib.aclosing(self._journal.follow(self._journal.newest)) as events:  # type: ignore[type-var]
            async for event in events:
                message = _message(event)
                name = "/" + message.topic
                if name == wanted or (below and name.startswith(below.lstrip("."))):
                    yield message


def _message(event: Event) -> Message:
    place = f"{GROUPS}/{event.group}" if event.group is not None else MANAGER
    return Message(
        topic=f"{place}/{event.type}",
        type=event.type,
        id=str(event.seq),
        message=event.message,
        timestamp=event.timestamp,
        data=msgspec.Raw(msgspec.json.encode(event)),
    )
