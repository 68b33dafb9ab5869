"""The compiler: Jinja2 parses a template, this module rewrites the syntax tree, and Jinja2 compiles it.

Jinja2 compiles loops, lists, `~` and captured text to plain Python without a hook. The rewriting replaces them with
calls of the sandbox, which charge every repetition and every created value to the budget. Statements that fetch by
themselves (`{% include %}`, `{% import %}`, `{% extends %}`) are rejected in favour of the functions.
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
from infrakit.template.values import Program, Reference

_REPLACEMENTS: dict[type[nodes.Node], str] = {
    nodes.Include: "write {{ include(ADDRESS) }}",
    nodes.Import: "write {{ source(ADDRESS) }}",
    nodes.FromImport: "write {{ source(ADDRESS) }}",
    nodes.Extends: "write {{ include(ADDRESS, name=value) }}",
    nodes.Block: "write a macro",
    nodes.ScopedEvalContextModifier: "leave it out: nothing is escaped",
}
# Functions whose first argument names a need, and the kind of the need.
REFERENCING = {
    "var": "variable", "ref": "variable", "metadata": "metadata", "include": "include", "source": "source",
    "fetch": "fetch", "raw": "fetch", "file": "file", "env": "env", "secret": "secret",
}  # fmt: skip
_WITH_DEFAULT = ("var", "metadata", "env")
_ASSIGNING = ("set", "global", "def")
_numbers = itertools.count(1)


def compile_program(text: str, name: str, limits: Limits) -> Program:
    """Compile a template. Raises `InvalidSpec` with the line of the mistake."""
    environment = sandbox(limits)
    filename = f"<template {next(_numbers)}>"
    try:
        tree = environment.parse(text, name, filename)
        rewriter = _Rewriter(tree, environment.filters)
        tree = rewriter.visit(tree)
        tree.set_environment(environment)
        code = environment.compile(tree, name, filename)
        native = NativeTemplate.from_code(environment, code, {})
    except Exception as error:  # noqa: BLE001 - every exception becomes an error for the author
        explained = failures.syntax_error(error, name)
    else:
        return Program(
            environment=environment,
            root=native.root_render_func,
            filename=filename,
            line=native.get_corresponding_lineno,
            literals=frozenset(rewriter.literals),
            references=tuple(rewriter.references),
            defined=frozenset(rewriter.stored),
            assigned=frozenset(rewriter.assigned),
            free=tuple((each, line) for each, line in rewriter.loaded.items() if each not in rewriter.stored),
        )
    raise explained


class Generator(CodeGenerator):
    """Jinja2's code generator, except that each piece of output is a separate statement with its own line."""

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:  # noqa: N802
        """Generate one statement per piece of output."""
        for child in node.nodes:
            self.newline(child)
            super().visit_Output(nodes.Output([child], lineno=child.lineno), frame)


Sandbox.code_generator_class = Generator


class _Rewriter(NodeTransformer):
    """Replaces repeating and growing operations by calls of the sandbox, and collects references."""

    def __init__(self, tree: nodes.Template, filters: Collection[str]) -> None:
        self.filters = filters
        self.references: list[Reference] = []
        self.assigned: set[str] = set()
        self.literals: set[str] = set()
        self.loaded: dict[str, int] = {}
        self.stored = {"loop", "caller", "varargs", "kwargs", "self", "super"}
        self.stored.update(node.name for node in tree.find_all(nodes.Macro))
        self.stored.update(node.name for node in tree.find_all(nodes.Name) if node.ctx != "load")
        self.sources = any(
            isinstance(call.node, nodes.Name) and call.node.name == "source" for call in tree.find_all(nodes.Call)
        )

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """Reject statements that are replaced by functions."""
        replacement = _REPLACEMENTS.get(type(node), "")
        if replacement:
            word = (
                type(node)
                .__name__.lower()
                .replace("fromimport", "from")
                .replace("scopedevalcontextmodifier", "autoescape")
            )
            raise _Located(f"{{% {word} %}} is not available in templates", replacement, node.lineno)
        return super().generic_visit(node, *args, **kwargs)

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802
        """Collect literal text."""
        self.literals.add(node.data)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        """Charge the iterations of a loop."""
        if node.recursive:
            raise _Located(
                "recursive loops are not available in templates", "write a macro that calls itself", node.lineno
            )
        text_bytes = _text_bytes(node.body)
        self.generic_visit(node)
        node.iter = _sandbox_call("counted", node.iter, nodes.Const(text_bytes), lineno=node.lineno)
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802
        """Charge captured text."""
        self.generic_visit(node)
        node.filter = nodes.Filter(node.filter, CAPTURED, [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Charge the concatenation of `~`."""
        self.generic_visit(node)
        return _sandbox_call("joined", *node.nodes, lineno=node.lineno)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        """Charge a list, unless it is constant."""
        self.generic_visit(node)
        return node if all(isinstance(each, nodes.Const) for each in node.items) else _charged(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        """Charge a tuple, unless it is constant."""
        self.generic_visit(node)
        constant = node.ctx != "load" or all(isinstance(each, nodes.Const) for each in node.items)
        return node if constant else _charged(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        """Charge a mapping, unless it is empty."""
        self.generic_visit(node)
        return _charged(node) if node.items else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        """Charge a slice."""
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = [each or nodes.Const(None) for each in (node.arg.start, node.arg.stop, node.arg.step)]
        return _sandbox_call("sliced", node.node, *bounds, lineno=node.lineno)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        """Collect names; bind those late that a sourced template may define."""
        if node.ctx != "load":
            return node
        if node.name not in TABLE:
            self.loaded.setdefault(node.name, node.lineno)
            if self.sources and node.name not in self.stored:
                return _sandbox_call(
                    "late_bound", nodes.Const(node.name), nodes.Name(node.name, "load"), lineno=node.lineno
                )
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        """Reject unknown filters, with the most similar known name."""
        return self._known(node, "filter", self.filters)

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        """Reject unknown tests, with the most similar known name."""
        return self._known(node, "test", filters.TESTS)

    def _known(self, node: Any, kind: str, known: Any) -> nodes.Node:
        if node.name not in known:
            replacement = filters.REPLACEMENTS.get(node.name, "") if kind == "filter" else ""
            hint = replacement if " " in replacement else f"use {replacement}"
            hint = hint if replacement else nearest(node.name, known)
            raise _Located(f"there is no {kind} {node.name!r}", hint, node.lineno)
        return self.generic_visit(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802
        """Collect references and assignments of variables."""
        name = node.node.name if isinstance(node.node, nodes.Name) else ""
        if isinstance(node.node, nodes.Getattr) and isinstance(node.node.node, nodes.Name) and node.node.attr == "wait":
            name = node.node.node.name
        if name in REFERENCING and name not in self.stored and node.args:
            constant = node.args[0].value if isinstance(node.args[0], nodes.Const) else None
            has_default = (
                isinstance(node.node, nodes.Name)
                and name in _WITH_DEFAULT
                and (len(node.args) > 1 or any(each.key == "default" for each in node.kwargs))
            )
            self.references.append(Reference(REFERENCING[name], constant, node.lineno, has_default))
        if name in _ASSIGNING and node.args and isinstance(node.args[0], nodes.Const):
            self.assigned.add(str(node.args[0].value))
        if name == "include":
            self.assigned.update(each.key for each in node.kwargs)
        return self.generic_visit(node)


class _Located(TemplateSyntaxError):
    def __init__(self, message: str, hint: str, line: int) -> None:
        super().__init__(message, line)
        self.hint = hint


def _sandbox_call(name: str, *arguments: nodes.Node, lineno: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None, lineno=lineno)


def _charged(node: nodes.Expr) -> nodes.Call:
    return _sandbox_call("charged", node, lineno=node.lineno)


def _text_bytes(body: list[nodes.Node]) -> int:
    """Return the length of the text that one execution of `body` prints, without inner loops."""
    return sum(len(each.data) for node in body for each in _outside_loops(node) if isinstance(each, nodes.TemplateData))


def _outside_loops(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes(exclude=("body",) if isinstance(node, nodes.For) else None):
        yield from _outside_loops(child)
