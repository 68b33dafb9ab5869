"""From text to a program: parsed by Jinja2, rewritten so that everything that repeats or grows is paid for, compiled.

Jinja2 compiles loops, lists, `~` and captured text to plain Python without a hook. So loops go over a counted
iterator, and lists, `~`, slices and captured text through calls of the sandbox. What would fetch by itself
(`{% include %}`, `{% import %}`, `{% extends %}`) is refused in favour of the functions.
"""

import itertools
from collections.abc import Collection, Iterator
from typing import Any

from jinja2 import Template as NativeTemplate
from jinja2 import TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.visitor import NodeTransformer

from infrakit.template import failures, filters
from infrakit.template.failures import nearest
from infrakit.template.functions import TABLE
from infrakit.template.limits import Limits
from infrakit.template.sandbox import CAPTURED, Sandbox, sandbox
from infrakit.template.values import Asked, Program

_INSTEAD: dict[type[nodes.Node], str] = {
    nodes.Include: "write {{ include(ADDRESS) }}",
    nodes.Import: "write {{ source(ADDRESS) }}",
    nodes.FromImport: "write {{ source(ADDRESS) }}",
    nodes.Extends: "write {{ include(ADDRESS, name=value) }}",
    nodes.Block: "write a macro",
    nodes.ScopedEvalContextModifier: "leave it out: nothing is escaped",
}
# Functions whose first argument names something that is needed.
ASKING = {
    "var": "variable", "ref": "variable", "metadata": "metadata", "include": "include", "source": "source",
    "fetch": "fetch", "raw": "fetch", "file": "file", "env": "env", "secret": "secret",
}  # fmt: skip
_DEFAULTING = ("var", "metadata", "env")
_SETTING = ("set", "global", "def")
_numbers = itertools.count(1)


def compile_program(text: str, name: str, limits: Limits) -> Program:
    """Raises `InvalidSpec` with the line of the mistake."""
    environment = sandbox(limits)
    filename = f"<template {next(_numbers)}>"
    try:
        tree = environment.parse(text, name, filename)
        rewriting = _Rewriting(tree, environment.filters)
        tree = rewriting.visit(tree)
        tree.set_environment(environment)
        code = environment.compile(tree, name, filename)
        native = NativeTemplate.from_code(environment, code, {})
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a text, its author gets a sentence
        explained = failures.syntax_error(error, name)
    else:
        return Program(
            environment=environment,
            root=native.root_render_func,
            filename=filename,
            line=native.get_corresponding_lineno,
            literals=frozenset(rewriting.literals),
            asked=tuple(rewriting.asked),
            defined=frozenset(rewriting.stored),
            given=frozenset(rewriting.given),
            free=tuple((each, line) for each, line in rewriting.loaded.items() if each not in rewriting.stored),
        )
    raise explained


class Generator(CodeGenerator):
    """Jinja2's own, but every piece of output is a statement that knows its line."""

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:  # noqa: N802
        """Print, a piece at a time."""
        for child in node.nodes:
            self.newline(child)
            super().visit_Output(nodes.Output([child], lineno=child.lineno), frame)


Sandbox.code_generator_class = Generator


class _Rewriting(NodeTransformer):
    """Puts the sandbox between a template and everything that repeats or grows; notes what it asks for."""

    def __init__(self, tree: nodes.Template, filters: Collection[str]) -> None:
        self.filters = filters
        self.asked: list[Asked] = []
        self.given: set[str] = set()
        self.literals: set[str] = set()
        self.loaded: dict[str, int] = {}
        self.stored = {"loop", "caller", "varargs", "kwargs", "self", "super"}
        self.stored.update(node.name for node in tree.find_all(nodes.Macro))
        self.stored.update(node.name for node in tree.find_all(nodes.Name) if node.ctx != "load")
        self.sources = any(
            isinstance(call.node, nodes.Name) and call.node.name == "source" for call in tree.find_all(nodes.Call)
        )

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """Refuse the statements that have functions instead."""
        instead = _INSTEAD.get(type(node), "")
        if instead:
            word = (
                type(node)
                .__name__.lower()
                .replace("fromimport", "from")
                .replace("scopedevalcontextmodifier", "autoescape")
            )
            raise _Located(f"{{% {word} %}} is not for templates", instead, node.lineno)
        return super().generic_visit(node, *args, **kwargs)

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802
        """Text."""
        self.literals.add(node.data)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        """Count the turns of a loop."""
        if node.recursive:
            raise _Located("a recursive loop is not for templates", "write a macro that calls itself", node.lineno)
        text_bytes = _text_bytes(node.body)
        self.generic_visit(node)
        node.iter = _called("paced", node.iter, nodes.Const(text_bytes), lineno=node.lineno)
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802
        """Weigh captured text."""
        self.generic_visit(node)
        node.filter = nodes.Filter(node.filter, CAPTURED, [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Join under the budget."""
        self.generic_visit(node)
        return _called("joined", *node.nodes, lineno=node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        """Weigh a list that is more than constants."""
        self.generic_visit(node)
        return node if all(isinstance(each, nodes.Const) for each in node.items) else _built(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        """The same."""
        self.generic_visit(node)
        constant = node.ctx != "load" or all(isinstance(each, nodes.Const) for each in node.items)
        return node if constant else _built(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        """The same."""
        self.generic_visit(node)
        return _built(node) if node.items else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """Weigh a slice."""
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = [each or nodes.Const(None) for each in (node.arg.start, node.arg.stop, node.arg.step)]
        return _called("sliced", node.node, *bounds, lineno=node.lineno)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        """Record the requested names; resolve those late that a sourced template may define."""
        if node.ctx != "load":
            return node
        if node.name not in TABLE:
            self.loaded.setdefault(node.name, node.lineno)
            if self.sources and node.name not in self.stored:
                return _called("late", nodes.Const(node.name), nodes.Name(node.name, "load"), lineno=node.lineno)
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        """Refuse unknown filters with the nearest known name."""
        return self._known(node, "filter", self.filters)

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        """The same for tests."""
        return self._known(node, "test", filters.TESTS)

    def _known(self, node: Any, kind: str, known: Any) -> nodes.Node:
        if node.name not in known:
            instead = filters.ELSEWHERE.get(node.name, "") if kind == "filter" else ""
            hint = f"use {instead}" if instead and " " not in instead else instead or nearest(node.name, known)
            raise _Located(f"there is no {kind} {node.name!r}", hint, node.lineno)
        return self.generic_visit(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        """Note what is asked for."""
        name = node.node.name if isinstance(node.node, nodes.Name) else ""
        if isinstance(node.node, nodes.Getattr) and isinstance(node.node.node, nodes.Name) and node.node.attr == "wait":
            name = node.node.node.name
        if name in ASKING and name not in self.stored and node.args:
            constant = node.args[0].value if isinstance(node.args[0], nodes.Const) else None
            has_default = (
                isinstance(node.node, nodes.Name)
                and name in _DEFAULTING
                and (len(node.args) > 1 or any(each.key == "default" for each in node.kwargs))
            )
            self.asked.append(Asked(ASKING[name], constant, node.lineno, has_default))
        if name in _SETTING and node.args and isinstance(node.args[0], nodes.Const):
            self.given.add(str(node.args[0].value))
        if name == "include":
            self.given.update(each.key for each in node.kwargs)
        return self.generic_visit(node)


class _Located(TemplateSyntaxError):
    def __init__(self, message: str, hint: str, line: int) -> None:
        super().__init__(message, line)
        self.hint = hint


def _called(name: str, *arguments: nodes.Node, lineno: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None, lineno=lineno)


def _built(node: nodes.Expr) -> nodes.Call:
    return _called("built", node, lineno=node.lineno)


def _text_bytes(body: list[nodes.Node]) -> int:
    """How much text is printed each time that `body` runs, but for what loops in it pay for themselves."""
    return sum(len(each.data) for node in body for each in _once(node) if isinstance(each, nodes.TemplateData))


def _once(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes(exclude=("body",) if isinstance(node, nodes.For) else None):
        yield from _once(child)
