"""Every call that changes something outside passes the gate: no other module makes one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A call that changes something outside, by its keyword arguments: the controllers' own methods have others.
CHANGES = {
    "provision": {"spec"},
    "destroy": {"instance", "context"},
    "label": {"instance", "labels"},
    "drain": {"properties", "instance"},
    "release": {"properties", "instance"},
    "change_membership": {"change"},
    "delete_attachment": {"attachment"},
}
UNMISTAKABLE = {"provision", "change_membership", "delete_attachment"}  # no other method has such a name
# What plugins are called where they are used: their methods must not be passed as values either.
NAMES = {"account", "flavor", "found", "instance", "plugin", "provider", "releases", "volumes"}
GATE = re.compile(r"[ ._]gate\.")  # a call of the gate, by any name
# Those that pass a call on, or that are plugins or stand for them themselves.
PLUGINS = ("conformance/", "instances/", "flavors/", "rpc/", "simulation/", "gate/gate.py")


def changing_calls(text: str) -> list[str]:
    """Each call of a provider or flavor that changes something, and each such method that is passed as a value."""
    nodes = list(ast.walk(ast.parse(text)))
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    called = [node.func for node in calls]
    values = [node for node in nodes if isinstance(node, ast.Attribute) and node not in called]
    found = [node.func for node in calls if _changes(node)] + [node for node in values if _passes(node)]
    named = [
        node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "methodcaller"}
    ]
    found += [
        node for node in named if CHANGES.keys() & {each.value for each in node.args if isinstance(each, ast.Constant)}
    ]
    return [f"line {node.lineno}: {ast.unparse(node)}" for node in found]


def _changes(call: ast.Call) -> bool:
    assert isinstance(call.func, ast.Attribute)
    keywords = {each.arg for each in call.keywords}  # None: **arguments
    return call.func.attr in CHANGES and (CHANGES[call.func.attr] <= keywords or None in keywords)


def _passes(value: ast.Attribute) -> bool:
    """Whether it is a changing method of a plugin as a value, and not a field of that name."""
    owner = ast.unparse(value.value).rpartition(".")[2].lstrip("_").split("_")[-1]
    return value.attr in UNMISTAKABLE or (value.attr in CHANGES and owner in NAMES)


def test_every_changing_call_passes_the_gate() -> None:
    source = ROOT / "src/infrakit"
    found = {
        path.relative_to(source).as_posix(): [
            each for each in changing_calls(path.read_text()) if not GATE.search(each)
        ]
        for path in source.rglob("*.py")
        if not path.relative_to(source).as_posix().startswith(PLUGINS)
    }
    # `forward.py` passes the destroy command of an operator on to the leader: it is no call of a provider.
    found["manager/api/forward.py"] = [each for each in found["manager/api/forward.py"] if "self._inner." not in each]
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "text",
    [
        "await self._account.instance.provision(spec=spec)",
        "await provider.destroy(instance=i, context=c)",
        "await provider.label(instance=i, labels={})",
        "await flavor.drain(properties=p, instance=i)",
        "await flavor.release(properties=p, instance=i, allocation=a)",
        "await flavor.change_membership(properties=p, change=c, instances=(), allocation=a)",
        "await volumes.delete_attachment(attachment=each)",
        "await provider.destroy(**arguments)",
        "await retry(provider.provision, spec)",
        "await retry(flavor.drain, properties=p, instance=i)",
        "later = functools.partial(self._account.instance.destroy, instance=i, context=c)",
        "await getattr(provider, 'label')(instance=i, labels={})",
        "release = flavor.release",
    ],
)
def test_a_changing_call_outside_the_gate_is_found(text: str) -> None:
    assert changing_calls(f"async def act():\n    {text}\n")


def test_commands_of_operators_are_no_changing_calls() -> None:
    assert not changing_calls("await manager.destroy(group=g, who=w, why=y)\nbuilder.destroy(member, why, rule)\n")
