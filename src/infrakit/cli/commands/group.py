"""`infrakit group`: shows and operates single groups."""

from collections.abc import Iterator, Sequence

import click

from infrakit.cli import arguments, changes, daemon, numbers, options, output, reports, tables, words
from infrakit.spi import names
from infrakit.spi.errors import NotFound
from infrakit.spi.manager import GroupStatus, Manager, MemberStatus
from infrakit.spi.values import GroupID


@click.group(cls=words.Commands)
def group() -> None:
    """List, scale, pause, roll back, free or destroy groups.

    \b
    Example:
      infrakit group scale workers 5 -m "launch day"
    """


@group.command
@options.output
def ls(output_format: str) -> None:
    """List the groups.

    \b
    Example:
      infrakit group ls -o json
    """
    groups = daemon.groups(daemon.status())
    output.show(groups, output_format, lambda values: output.lines(list(reports.groups(values))))


@group.command
@arguments.group
@options.output
def describe(group: str, output_format: str) -> None:
    """Show one group with its instances and its actions.

    \b
    Example:
      infrakit group describe workers
    """
    groups = {each.name: each for each in daemon.groups(daemon.status())}
    found = groups.get(GroupID(group))
    if found is None:
        raise NotFound(f"there is no group {group!r}", remedy=names.remedy(group, groups, listed="declared groups"))
    members = daemon.ask(Manager.members, group=found.name)
    answer = {"Group": found, "Members": members}
    output.show(answer, output_format, lambda _: output.lines(list(_description(found, members))))


def _description(found: GroupStatus, members: Sequence[MemberStatus]) -> Iterator[str]:
    yield from reports.groups([found])
    yield ""
    if found.halt:
        yield from reports.halt(found.halt)
    yield from reports.members(members)
    yield from reports.group_reasons(found)


@group.command
@arguments.group
@arguments.required("size", type=numbers.whole(0))
@options.message()
@options.expect
@options.wait
@options.output
def scale(
    *, group: str, size: int, why: str | None, expect: int | None, wait: float | None, output_format: str
) -> None:
    """Change the size of a group of cattle.

    \b
    Example:
      infrakit group scale workers 5 -m "launch day" --wait=1m
    """
    why = why or f"scale {group} to {size}"
    committed = daemon.change(Manager.scale, group=GroupID(group), size=size, why=why, expected=expect)
    changes.declared(committed, output_format, f"Scaled {group} to {size}", wait_s=wait)


@group.command
@arguments.group
@options.message()
@options.output
def pause(group: str, why: str | None, output_format: str) -> None:
    """Pause the rolling update of a group; healing continues.

    \b
    Example:
      infrakit group pause workers -m "checking the first one"
    """
    committed = daemon.change(Manager.pause, group=GroupID(group), why=why or f"pause {group}")
    changes.done(committed, output_format, f"Paused the rolling update of {group}")


@group.command
@arguments.group
@click.option("--despite-unhealthy", is_flag=True, help="Replace unhealthy members although they exceed MaxUnhealthy.")
@options.message()
@options.output
def resume(group: str, despite_unhealthy: bool, why: str | None, output_format: str) -> None:
    """Resume a paused or aborted rolling update.

    Actions in back-off are retried at once, and the guard permits creations again. Creations with an unknown outcome
    that no listing shows are given up, and members that have vanished are created again: check at the provider first
    that they do not exist. --despite-unhealthy overrides MaxUnhealthy for the members that are unhealthy now.

    \b
    Example:
      infrakit group resume workers --despite-unhealthy -m "they have failed"
    """
    why = why or f"resume {group}"
    committed = daemon.change(Manager.resume, group=GroupID(group), why=why, despite_unhealthy=despite_unhealthy)
    changes.done(committed, output_format, f"Resumed {group}")


@group.command
@arguments.group
@options.message()
@options.output
def abort(group: str, why: str | None, output_format: str) -> None:
    """Abort the rolling update of a group.

    Updated and old instances remain as they are. Until the next commit, an instance that fails is recreated in the
    group's previous version.

    \b
    Example:
      infrakit group abort workers -m "enough for today"
    """
    committed = daemon.change(Manager.abort, group=GroupID(group), why=why or f"abort {group}")
    changes.done(committed, output_format, f"Aborted the rolling update of {group}")


@group.command
@arguments.group
@options.message()
@options.wait
@options.output
def rollback(group: str, why: str | None, wait: float | None, output_format: str) -> None:
    """Commit the group's previous version again.

    \b
    Example:
      infrakit group rollback workers -m "the new version leaks"
    """
    committed = daemon.change(Manager.rollback, group=GroupID(group), why=why or f"rollback {group}")
    changes.declared(committed, output_format, f"Rolled {group} back", wait_s=wait)


@group.command
@arguments.group
@options.message()
@options.output
def free(group: str, why: str | None, output_format: str) -> None:
    """Stop managing a group; its instances are not touched.

    \b
    Example:
      infrakit group free workers -m "managed by hand from now on"
    """
    committed = daemon.change(Manager.free, group=GroupID(group), why=why or f"free {group}")
    changes.done(committed, output_format, f"Freed {group}")
    if output_format == "table":
        kept = f"instances of {group} keep running, unmanaged; commit it again to adopt them"
        output.lines(list(tables.paragraph(kept)))


@group.command
@arguments.group
@click.option("--volumes", is_flag=True, help="Also delete its attachments, with the data on them.")
@options.yes
@options.message()
@options.output
def destroy(group: str, volumes: bool, yes: bool, why: str | None, output_format: str) -> None:
    """Destroy all instances of a group.

    Volumes are kept unless --volumes is given.

    \b
    Example:
      infrakit group destroy workers --yes -m "retired"
    """
    if not yes:
        daemon.ask(Manager.members, group=GroupID(group))  # an unknown group is refused before the confirmation
    data = "with its volumes and the data on them" if volumes else "keeping its volumes"
    changes.confirm(f"Destroy every instance of {group}, {data}?", yes=yes)
    why = why or f"destroy {group}"
    committed = daemon.change(Manager.destroy, group=GroupID(group), why=why, volumes=volumes)
    changes.done(committed, output_format, f"Destroying {group}")
