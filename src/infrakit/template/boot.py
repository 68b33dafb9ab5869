"""Boot scripts of flavors: a template, inline or at an address, rendered for each instance when it is prepared.

A flavor defines the templates of its script and the functions it adds; the rest is the same for every flavor:

    scripts = BootScripts(facts, engine)                # in its constructor
    await scripts.problems({template: examples, ...})   # in `validate`
    init = await scripts.render(templates, instance)    # in `prepare`

Text without `{{` and `{%` is taken as it is, at no cost. Everything else is rendered in a thread, with what is known of
this very instance (see `Instance.functions`), with metadata as it is now, and with the template as it is now at its
address. At commit, every mistake that can be detected then is reported: it is fetched, compiled, and rendered for
examples. What depends on metadata that may come later is not a mistake: an instance is prepared when it is there.
"""

import asyncio
import functools
import importlib.resources
import itertools
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

EXAMPLES_MAX = 16  # of pets that a script is tried for when it is committed
_THREADS = 4  # rendering is work for the processor; threads that wait for metadata are few
_PLAIN_KEPT_MAX = 128


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One template of a boot script: its text, or where that is."""

    path: str  # the property where it is declared
    name: str = ""  # of inline text, as messages show it; left out: the path
    text: str = ""
    address: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to render."""
        return not self.address and "{{" not in self.text and "{%" not in self.text


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """What a boot script may know of the instance that it is for; `more` are the functions of its flavor."""

    properties: msgspec.Raw
    spec: InstanceSpec
    allocation: Allocation
    index: Index
    more: Mapping[str, object] = {}

    def functions(self) -> dict[str, object]:
        """Under the names of templates; those in capitals are the original's, with its fields."""
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
    """Renders the boot scripts of one flavor. `facts` takes a snapshot of the metadata; without it there is none."""

    def __init__(self, facts: Snapshots | None = None, engine: Engine | None = None) -> None:
        self._facts = facts
        self._engine = engine or Engine(Loader())
        self._threads: ThreadPoolExecutor | None = None

    async def render(self, scripts: Sequence[Script], instance: Instance) -> tuple[str, ...]:
        """The text of each.

        Raises `InvalidSpec` for a mistake in a template, with its name and line; `NotFound`, `Unreachable` and
        `Refused` for what cannot be had now. Nothing is ever half rendered.
        """
        if all(each.is_plain for each in scripts):
            return tuple(each.text for each in scripts)
        facts = await self._facts() if self._facts is not None else None
        return await self._beside(self._rendered, scripts, instance, facts)

    async def problems(self, scripts: Mapping[Script, Sequence[Instance]]) -> list[Problem]:
        """Return the problems of scripts, each rendered for its examples, once each at the declaring property."""
        rendered = {script: examples for script, examples in scripts.items() if not script.is_plain}
        if not rendered:
            return []
        facts = await self._facts() if self._facts is not None else None
        return await self._beside(self._tried, rendered, facts)

    def default(self, script: Script, instance: Instance) -> Callable[[], str]:
        """The function `default_script` of templates: what a template stands in the place of, for this instance."""
        return lambda: self._engine.render(self._template(script), Scope(functions=instance.functions())).text

    def close(self) -> None:
        """Let go of threads. The object may be used again afterwards."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    # -- in threads ------------------------------------------------------------------------------------------------

    async def _beside(self, work: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        """Do it in a thread of our own: one that waits for metadata must not hold up who else needs one."""
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

    def _tried(self, scripts: Mapping[Script, Sequence[Instance]], facts: Facts | None) -> list[Problem]:
        found: dict[Problem, None] = {}
        for script, examples in scripts.items():
            try:
                template = self._template(script)
                problems = [trial.problems(self._engine, template, each.functions(), facts) for each in examples]
            except errors.InfraKitError as error:
                problems = [trial.problems_of(error)]
            for each in itertools.chain.from_iterable(problems):
                found[_placed(each, script)] = None
        return list(found)

    def _rendered(self, scripts: Sequence[Script], instance: Instance, facts: Facts | None) -> tuple[str, ...]:
        scope = Scope(functions=instance.functions(), facts=facts)
        return tuple(self._engine.render(self._template(each), scope).text for each in scripts)


def examples(properties: msgspec.Raw, allocation: Allocation) -> list[Instance]:
    """Instances as they may come to be prepared, before their flavor adds to them: the first pets, or one of cattle."""
    names = (allocation.logical_ids or ())[:EXAMPLES_MAX]
    group = GroupID("example")
    made = []
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
        made.append(Instance(properties=properties, spec=spec, allocation=allocation, index=index))
    return made


@functools.cache
def packaged(package: str, file: str, name: str) -> Script:
    """A script that comes with a flavor; `name` is what messages call it."""
    return Script(path="", name=name, text=(importlib.resources.files(package) / file).read_text())


@functools.lru_cache(_PLAIN_KEPT_MAX)
def _plain(properties: bytes) -> object:
    """Properties as plain values. They are shared: templates cannot change them."""
    return msgspec.json.decode(properties or b"null") or {}


def _placed(problem: Problem, script: Script) -> Problem:
    """At the property; inline text is named by that already."""
    message = problem.message.removeprefix(f"{script.path}, ").removeprefix(f"{script.path}: ")
    return msgspec.structs.replace(problem, path=script.path, message=message)
