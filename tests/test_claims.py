"""Numbers and lists that pages state about the code: each is compared with the code."""

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from infrakit.cli import confinement, main, reports
from infrakit.events import journal
from infrakit.gate import creations, gate, voters
from infrakit.group import account, census
from infrakit.group.actions import GroupPhase
from infrakit.group.plan import rollout
from infrakit.group.state import member
from infrakit.leadership import etcd as etcd_leadership
from infrakit.leadership import file as file_leadership
from infrakit.manager.declaration import consent, record
from infrakit.manager.lead import fence, ledger, replica
from infrakit.manager.monitoring import endpoints
from infrakit.metadata import vars as variables
from infrakit.metadata.vars import edits
from infrakit.rpc import acceptor, authentication, client, discovery, server, turns
from infrakit.runtime import restarts, watchdog
from infrakit.runtime.tree import branches, root
from infrakit.simulation.rehearsal import exercises, promises, providers
from infrakit.spi import flavor, instance, metadata
from infrakit.stores import etcd, s3, swarm
from infrakit.stores.swarm import revisions
from infrakit.template import loaders
from infrakit.template.limits import Limits
from tests.docs.pages import PAGES, ROOT, prose

SOURCE = ROOT / "src/infrakit"
MIB = 1024 * 1024
IN_WORDS: dict[float, str] = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 8: "eight"}


def figures() -> Iterator[tuple[str, str]]:
    """A page, and a statement that it must contain, with the number of the code."""
    kept = record.KEEP
    others = {min(store.KEEP_MAX, kept) for store in (etcd, s3, swarm)}
    assert len(others) == 1
    assert min(others) >= variables.KEEP
    operations, guide, templates = "docs/operations.md", "docs/guide.md", "docs/templates.md"
    yield operations, f"the newest {kept} are kept"
    yield operations, f"the newest {ledger.KEEP} revisions are kept"
    yield operations, f"at most {IN_WORDS[journal.SEGMENTS_MAX]} files of {journal.SEGMENT_BYTES_MAX // MIB} MB"
    yield operations, f"at most {discovery.SOCKET_PATH_BYTES_MAX} bytes"
    yield operations, f"({instance.Capabilities().listing_lag_s:g} s unless it promises less)"
    yield "docs/operations/recovery.md", f"({kept} in files, {others.pop()} in other stores)"
    yield "docs/flavor-swarm.md", f"{swarm.KEEP_MAX} of the declaration and of [vars](metadata.md)"
    yield "docs/flavor-swarm.md", f"fewer if they exceed {revisions.KEPT_BYTES_MAX // 10**6} MB together"
    yield "docs/flavor-swarm.md", f"at most {revisions.BODY_BYTES_MAX // MIB} MB"
    yield "docs/flavor-swarm.md", f"at most {revisions.PACKED_BYTES_MAX // 10**6} MB compressed"
    yield "docs/rehearsal.md", f"for {exercises.ZONE_CLOSED_S / 60:g} minutes, they cannot be created again"
    yield "docs/rehearsal.md", f"for {exercises.SLOW_FOR_S / 60:g} minutes, every call to the provider takes"
    yield "docs/rehearsal.md", f"A call takes at most {providers.ORDINARY.provision.high:g} s"
    yield "docs/metadata.md", f"The newest {variables.KEEP} versions are kept"
    yield "docs/metadata.md", f"a limit of {edits.BYTES_MAX // 1024} KiB"
    yield "docs/metadata.md", f"does not answer within {root.DEADLINE_S:g} s"
    yield "docs/plugins.md", f"The timeout is {root.DEADLINE_S:g} s, and the size limit {branches.BYTES_MAX // MIB} MiB"
    yield "docs/plugins.md", f"{gate.CALL_DEADLINE_S:g} s for calls that change something"
    yield "docs/plugins.md", f"{account.DESCRIBE_DEADLINE_S:g} s for a listing"
    yield guide, f"verdict older than {member.VERDICT_AGE_S_MAX:g} s is unknown"
    yield guide, f"its slot fails {IN_WORDS[rollout.FAILURES_MAX]} times"
    yield guide, f"caches an answer for {IN_WORDS[loaders.FRESH_S]} seconds"
    yield "docs/guarantee.md", f"`bound_s` ({fence.BOUND_S:g} s)"
    yield "docs/guarantee.md", f"at most {fence.BOUND_S_MAX:g} s"
    yield "docs/guarantee.md", f"carries out a call within {gate.CALL_DEADLINE_S:g} s"
    yield "docs/guarantee.md", f"version of the declaration every {replica.POLL_S:g} s"
    yield "docs/guarantee.md", f"a follower every {replica.FOLLOWER_POLL_S:g} s"
    yield "docs/guarantee.md", f"A watch of etcd that is silent for {etcd.SILENT_S:g} s"
    yield "docs/guarantee.md", f"a poll every {ledger.POLL_S:g} s"
    yield "docs/guarantee.md", f"or older than {voters.AGE_S_MAX:g} s, no voter is destroyed"
    yield "docs/guarantee.md", f"more than {consent.ALLOWED} and {consent.ALLOWED_PERCENT} % of a group's members"
    yield guide, f"more than {consent.ALLOWED} and more than {consent.ALLOWED_PERCENT} % of a group's members"
    yield guide, f"at most twice the largest size that was declared in it and at least {creations.CREATIONS_MIN}"
    yield guide, f"groups of more than {census.NAMED_MAX} cattle"
    yield guide, f"| `{client.ANSWER_S:g}s` |"
    yield guide, f"calls that change something have the controller's own, {gate.CALL_DEADLINE_S:g} s"
    yield "docs/architecture.md", f"Above {census.NAMED_MAX} cattle the census has ranges of slots"
    yield "docs/architecture.md", f"share {turns.SHARED} connections"
    yield "docs/architecture.md", f"their number doubles every {turns.CHECK_S * 1000:g} ms"
    yield operations, f"that time starts {gate.CALL_DEADLINE_S:g} s after its call began"
    yield "docs/operations/systemd.md", f"has not begun a cycle for {watchdog.STALLED_S:g} s"
    yield "docs/operations/monitoring.md", f"reads the store within {endpoints.STORE_TIMEOUT_S:g} s"
    yield "docs/operations/replicas.md", f"a reserve of {etcd.RESERVE_BYTES // MIB} MiB"
    yield "docs/operations/replicas.md", f"reports no progress for {restarts.WATCHDOG_S:g} s"
    yield "docs/operations/replicas.md", f"with a lease of {etcd_leadership.TTL_S} s"
    yield "docs/operations/replicas.md", f"{etcd_leadership.INTERVAL_S:g} s after etcd"
    yield "docs/operations/replicas.md", f"by renaming a new one over it | {file_leadership.INTERVAL_S:g} s |"
    valid = sorted({file_leadership.VALID_S, etcd_leadership.VALID_S})
    yield "docs/operations/replicas.md", f"valid for {' or '.join(IN_WORDS[each] for each in valid)} seconds"
    yield templates, f"a maximum depth of {Limits().depth_max}"
    yield templates, f"limits it to {confinement.CPU_S_MAX} seconds of CPU"
    yield templates, f"and {confinement.MEMORY_BYTES_MAX // MIB} MB of memory"
    yield "docs/remote.md", f"A handshake times out after {acceptor.HANDSHAKE_S:g} seconds"
    yield "docs/remote.md", f"the first request of a connection after {server.READ_S:g}"
    yield "docs/remote.md", f"at most {acceptor.CONNECTIONS_MAX:,} connections"
    yield "docs/remote.md", f"all these files every {IN_WORDS[authentication.RELOAD_S]} seconds"


@pytest.mark.parametrize(("page", "statement"), list(figures()), ids=lambda text: text[:60])
def test_a_page_states_the_number_of_the_code(page: str, statement: str) -> None:
    assert statement in " ".join(prose(ROOT / page).split())


def section(page: str, heading: str) -> str:
    """The text below a heading, up to the next one of its level."""
    level = heading.partition(" ")[0]
    below = (ROOT / page).read_text().partition(f"\n{heading}\n")[2]
    assert below, f"{page} has no {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", below, maxsplit=1, flags=re.MULTILINE)[0]


def methods(protocol: type) -> set[str]:
    return {name for name, value in vars(protocol).items() if inspect.isfunction(value) and not name.startswith("_")}


@pytest.mark.parametrize(
    ("heading", "protocol"),
    [
        ("## An instance plugin", instance.Instance),
        ("## A flavor plugin", flavor.Flavor),
        ("## A metadata plugin", metadata.Metadata),
    ],
)
def test_the_guide_for_authors_lists_every_method(heading: str, protocol: type) -> None:
    text = section("docs/plugins.md", heading)
    assert set(re.findall(r"^\| `([a-z_]+)` \| [^`]", text, re.MULTILINE)) == methods(protocol)


@pytest.mark.parametrize(
    ("heading", "module", "main"),
    [("## An instance plugin", instance, "Instance"), ("## A flavor plugin", flavor, "Flavor")],
)
def test_the_guide_for_authors_lists_every_optional_protocol(heading: str, module: ModuleType, main: str) -> None:
    rows = re.findall(r"^\| `([A-Z]\w+)` \| ((?:`\w+`(?:, )?)+) \|", section("docs/plugins.md", heading), re.MULTILINE)
    listed = {name: set(re.findall(r"\w+", cell)) for name, cell in rows}
    protocols = {name: value for name, value in vars(module).items() if getattr(value, "_is_protocol", False)}
    assert listed == {name: methods(value) for name, value in protocols.items() if name not in {main, "Protocol"}}


@pytest.mark.parametrize("kind", ["instances", "flavors", "metadata"])
def test_the_architecture_names_every_plugin(kind: str) -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][f"infrakit.{kind}"]
    (row,) = re.findall(rf"^\| `{kind}` \|(.*)\|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    named = {name for name in re.findall(r"`([\w/.]+)`", row) if "." not in name}
    assert named == {name.partition("/")[0] for name in points}


def test_the_architecture_shows_the_layers_of_the_linter() -> None:
    shown = re.search(r"^```text\n(cli.*?)^```$", (ROOT / "docs/architecture.md").read_text(), re.DOTALL | re.MULTILINE)
    contract = re.search(r"^layers =\n((?: +.*\n)+)", (ROOT / ".importlinter").read_text(), re.MULTILINE)
    assert shown
    assert contract
    packages = {path.parent.name for path in (ROOT / "src/infrakit").glob("*/__init__.py")}
    rows = ([name.strip(" ()") for name in row.split("|")] for row in contract[1].splitlines())
    expected = [" | ".join(name for name in row if name in packages) for row in rows]
    assert shown[1].splitlines() == [row for row in expected if row]


def commands(command: click.Command, *words: str) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield " ".join(words)
        return
    for name in command.list_commands(click.Context(command)):
        found = command.get_command(click.Context(command), name)
        assert found is not None
        yield from commands(found, *words, name)


def test_every_command_is_on_a_page_beside_the_reference() -> None:
    text = " ".join(page.read_text() for page in PAGES if page.name != "reference.md")
    every = list(commands(main.commands, main.PROGRAM))
    assert len(every) > 40
    assert [each for each in every if not re.search(rf"\b{each}\b", text)] == []


def test_every_exercise_and_every_promise_of_a_rehearsal_is_explained() -> None:
    page, command = "docs/rehearsal.md", main.commands.get_command(click.Context(main.commands), "rehearse")
    assert command is not None
    options = {each.opts[0]: each for each in command.params if isinstance(each, click.Option)}
    listed = re.findall(r"^\| `(--[\w-]+)` \|", section(page, "## Exercises"), re.MULTILINE)
    shared = {"--var", "--vars", "--env", "--trust", "--template", "--output", "--within", "--boot", "--seed", "-o"}
    assert set(listed) == options.keys() - shared
    promised = re.findall(r"^\| `([\w-]+)` \|", section(page, "## Promises"), re.MULTILINE)
    assert promised == list(promises.PROMISES)


def test_every_phase_and_column_of_a_group_is_explained() -> None:
    text = section("docs/operations.md", "## The columns of `status`")
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert {name for name in listed if name.islower()} == set(GroupPhase)
    columns = next(reports.groups([])).split()
    assert [name for name in listed if name.isupper()] == [name for name in columns if name not in {"GROUP", "KIND"}]


def test_every_term_of_the_glossary_links_to_its_page() -> None:
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    terms = [term for term, _ in rows]
    assert len(terms) > 40
    assert terms == sorted(terms)
    assert not [term for term, meaning in rows if "](" not in meaning]


FOREIGN = {  # messages of other programs, which pages explain too
    "Address already in use",
    "port is already allocated",
    "Pool overlaps with other one",
    "the Swarm does not have a leader",
}


def quoted(page: Path) -> Iterator[str]:
    """The messages in the first column of a page's tables, in parts without what differs from case to case."""
    for row in re.findall(r"^\| (`[^|]*`)[^|`]*\|", page.read_text(), re.MULTILINE):
        for message in re.findall(r"`([^`]+)`", row):
            if message in FOREIGN or message.startswith(("infrakit", "make", "-", "{")):
                continue
            for part in re.split(
                r"\.\.\.|\([A-Z]+\)|\b(?:[A-Z]{2,}|infrakit-node|a)\b|\d+|\b(?:by|and)\b|; see .*", message
            ):
                if len(part.split()) >= 4:
                    yield part.strip(" ,;")


def test_messages_that_pages_explain_are_printed_by_the_code() -> None:
    code = " ".join(path.read_text() for path in sorted(SOURCE.rglob("*")) if path.suffix in {".py", ".j2"})
    joined = re.sub(r'"\s*(?:\\\n\s*)?f?"', "", code)
    spaced = re.sub(r"\{[^{}\n]*\}|\$\([^)]*\)|\$\w+", " ", joined)
    pages = [page for page in PAGES if page.name != "reference.md"]
    found = [(page.name, part) for page in pages for part in quoted(page)]
    assert len(found) > 15
    printed = " ".join(spaced.split())
    assert [each for each in found if each[1] not in printed] == []
