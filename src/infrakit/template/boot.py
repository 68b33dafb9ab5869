"""Boot scripts of flavors: a template, inline or at an address, rendered for each instance when it is prepared.

A flavor defines the templates of its script and its additional functions. The rest is common to all flavors:

    scripts = BootScripts(facts, engine)                # in its constructor
    await scripts.problems({template: examples, ...})   # in `validate`
    init = await scripts.render(templates, instance)    # in `prepare`

Text without `{{` and `{%` is used unchanged, at no cost. Everything else is rendered in a thread, with the facts of the
instance (see `Instance.functions`), the current metadata, and the current template at its address. At commit, each
script is fetched, compiled, and rendered for example instances, and every mistake that this detects is reported.
Missing metadata that may appear later is not a mistake: an instance is prepared once it exists.
"""

import asyncio
import functools
import importlib.resources
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import msgspec

from infrakit.spi import errors, values
from infrakit.spi.errors import Problem
from infrakit.spi.metadata import Facts, Snapshots
from infrakit.spi.values import Allocation, GroupID, Index, InstanceSpec
from infrakit.template import trial
from infrakit.template.engine import Engine
from infrakit.template.loaders import STDIN, Loader
from infrakit.template.scope import Scope
from infrakit.template.values import Template

P = ParamSpec("P")
T = TypeVar("T")

EXAMPLES_MAX = 16  # pets for which a script is rendered at commit
_THREADS = 4  # rendering is CPU-bound; few threads wait for metadata
_PROPERTIES_CACHE_MAX = 128


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One template of a boot script: its text, or the address of it."""

    path: str  # of the property that declares it
    name: str = ""  # of inline text, for messages; default: the path
    text: str = ""
    address: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether the text contains nothing to render."""
        return not self.address and "{{" not in self.text and "{%" not in self.text

    @property
    def reads_properties(self) -> bool:
        """Whether its text may read any declared property, through the function `spec`."""
        return not self.is_plain and re.search(r"\bspec\b", self.text, re.IGNORECASE) is not None


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of an instance that its boot script can use; `more` are the functions of its flavor."""

    properties: msgspec.Raw
    spec: InstanceSpec
    allocation: Allocation
    index: Index
    more: Mapping[str, object] = {}

    def functions(self) -> dict[str, object]:
        """Return the facts by their names in templates. Names in capitals are the original's, with its fields."""
        spec, allocation, index = self.spec, self.allocation, self.index
        declared, logical_id = _plain(bytes(self.properties)), spec.logical_id or ""
        logical_ids = list(allocation.logical_ids or ())
        return {
            "spec": declared,
            "logical_id": logical_id,
            "index": {"group": index.group, "sequence": index.sequence},
            "allocation": {"size": allocation.size or len(logical_ids), "logical_ids": logical_ids},
            "tags": spec.tags or {},
            "attachments": [{"id": each.id, "type": each.type} for each in spec.attachments or ()],
            "SPEC": declared,
            "INSTANCE_LOGICAL_ID": logical_id,
            "INDEX": {"Group": index.group, "Sequence": index.sequence},
            "ALLOCATIONS": {"Size": allocation.size or 0, "LogicalIDs": logical_ids},
            **self.more,
        }


class BootScripts:
    """Renders the boot scripts of one flavor. `facts` takes a snapshot of the metadata; None: no metadata."""

    def __init__(self, facts: Snapshots | None = None, engine: Engine | None = None) -> None:
        self._facts = facts
        self._engine = engine or Engine(Loader())
        self._threads: ThreadPoolExecutor | None = None

    async def render(self, scripts: Sequence[Script], instance: Instance) -> tuple[str, ...]:
        """Return the rendered text of each script, all or nothing.

        Raises `InvalidSpec` for a mistake in a template, with its name and line; `NotFound`, `Unreachable` and
        `Refused` for a document or a fact that is not available now.
        """
        if all(each.is_plain for each in scripts):
            return tuple(each.text for each in scripts)
        facts = await self._facts() if self._facts is not None else None
        return await self._in_thread(self._render_all, scripts, instance, facts)

    async def problems(self, scripts: Mapping[Script, Sequence[Instance]]) -> list[Problem]:
        """Render each script for its examples and return the distinct problems, with the declaring property as path."""
        rendered = {script: examples for script, examples in scripts.items() if not script.is_plain}
        if not rendered:
            return []
        facts = await self._facts() if self._facts is not None else None
        return await self._in_thread(self._trial_problems, rendered, facts)

    def default(self, script: Script, instance: Instance) -> Callable[[], str]:
        """Return the template function `default_script`: the script that a custom template replaces, rendered."""
        return lambda: self._engine.render(self._template(script), Scope(functions=instance.functions())).text

    def close(self) -> None:
        """Stop the threads. The next call starts new ones."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    # -- in threads ------------------------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        """Run `work` in a thread of a separate pool, because waiting for metadata must not exhaust the default pool."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="boot-scripts")
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, functools.partial(work, *arguments, **more)
        )

    def _template(self, script: Script) -> Template:
        if script.address == STDIN:
            raise errors.Refused("a boot script cannot come from standard input", remedy="name a path or a URL")
        if script.address:
            return self._engine.template(script.address)
        return self._engine.inline(script.text, name=script.name or script.path)

    def _trial_problems(self, scripts: Mapping[Script, Sequence[Instance]], facts: Facts | None) -> list[Problem]:
        found: dict[Problem, None] = {}
        for script, examples in scripts.items():
            try:
                template = self._template(script)
                problems = [trial.problems(self._engine, template, each.functions(), facts) for each in examples]
            except errors.InfraKitError as error:
                problems = [trial.problems_of(error)]
            for each in itertools.chain.from_iterable(problems):
                found[_at_property(each, script)] = None
        return list(found)

    def _render_all(self, scripts: Sequence[Script], instance: Instance, facts: Facts | None) -> tuple[str, ...]:
        scope = Scope(functions=instance.functions(), facts=facts)
        return tuple(self._engine.render(self._template(each), scope).text for each in scripts)


def examples(properties: msgspec.Raw, allocation: Allocation) -> list[Instance]:
    """Return example instances of an allocation, without flavor functions: the first pets, or one of cattle."""
    names = (allocation.logical_ids or ())[:EXAMPLES_MAX]
    group = GroupID("example")
    instances = []
    for number, logical_id in enumerate(names or (None,), start=1):
        tags = {
            values.TAG_GROUP: group,
            values.TAG_HASH: "example",
            values.TAG_TOKEN: f"example/{number}",
            values.TAG_CREATED: "2000-01-01T00:00:00Z",
            (values.TAG_LOGICAL_ID if logical_id else values.TAG_SLOT): logical_id or str(number),
        }
        spec = InstanceSpec(tags=tags, logical_id=logical_id)
        index = Index(group=group, sequence=number)
        instances.append(Instance(properties=properties, spec=spec, allocation=allocation, index=index))
    return instances


@functools.cache
def packaged(package: str, file: str, name: str) -> Script:
    """Return a script from a package's files; `name` is its name in messages."""
    return Script(path="", name=name, text=(importlib.resources.files(package) / file).read_text())


@functools.lru_cache(_PROPERTIES_CACHE_MAX)
def _plain(properties: bytes) -> object:
    """Decode properties to plain values. The cached result is shared, because templates cannot modify values."""
    return msgspec.json.decode(properties or b"null") or {}


def _at_property(problem: Problem, script: Script) -> Problem:
    """Move a problem to the script's property, and remove that property from the message."""
    message = problem.message.removeprefix(f"{script.path}, ").removeprefix(f"{script.path}: ")
    return msgspec.structs.replace(problem, path=script.path, message=message)
