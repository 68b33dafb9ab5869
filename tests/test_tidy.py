"""The rules of style that no linter knows, for every tracked file; each is proven able to fail.

Words that must not occur are written here as patterns, so that this file does not contain them either.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

from tests import source

ROOT = Path(__file__).parents[1]
FILE_LINES_MAX = 500
FILE_LINES_REVIEW = 300
FUNCTION_LINES_MAX = 70

BANNED_WORDS = {
    r"\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b": "finish it, or leave it out",
    r"(?<![\w.])/(work|root|opt)/|/tmp/bas[h]": "a path of one machine",
    r"\bpypi\.[o]rg|pythonhosted\.[o]rg|registry\.npm[j]s|deb\.[d]ebian|proxy\.golang\.[o]rg": "the host of a registry",
    r"(?i)\bissues? #|\bissue \d|\bpull request \d": "describe the subject: readers have no access to the tracker",
    r"(?i)\bhelper session|\bco[-]?pilot\b|\bllm\b": "authorship is not part of the product",
}
# What each call is banned for, and the packages that may make it all the same.
BANNED_CALLS = {
    "time.time": ("wall time is passed in as spi.clock.Clock", ("spi/clock.py",)),
    "time.time_ns": ("wall time is passed in as spi.clock.Clock", ()),
    "datetime.datetime.now": ("wall time is passed in as spi.clock.Clock", ()),
    "datetime.datetime.today": ("wall time is passed in as spi.clock.Clock", ()),
    "datetime.datetime.utcnow": ("wall time is passed in as spi.clock.Clock", ()),
    "datetime.date.today": ("wall time is passed in as spi.clock.Clock", ()),
    "time.sleep": ("it blocks the loop", ("cli/", "instances/local/")),  # no loop there: a command, and threads
    "print": ("emit an event instead", ("cli/", "simulation/")),
    "asyncio.sleep": (
        "only the packages that act may wait",
        (
            "group/account.py",
            "group/calls/",
            "group/controller.py",
            "group/executor.py",
            *("cli/", "conformance/", "events/", "flavors/", "instances/", "leadership/", "lifecycle/", "manager/"),
            *("rpc/", "runtime/"),
            *("simulation/", "stores/"),
        ),
    ),
}
RANDOM_CLASSES = {
    "random.Random",
    "random.SystemRandom",
}  # instances are passed in; the functions of the module share a global state
EMPTY_NAMES = {"base", "common", "core", "helper", "helpers", "misc", "tools", "util", "utils"}

Rule = Callable[[PurePosixPath, str], Iterator[str]]


def words(_path: PurePosixPath, text: str) -> Iterator[str]:
    """No word of BANNED_WORDS."""
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, why in BANNED_WORDS.items():
            found = re.search(pattern, line)
            if found:
                yield f"line {number}: {found[0]!r}: {why}"


def file_length(path: PurePosixPath, text: str) -> Iterator[str]:
    """Python files have one subject, and so a limited length."""
    lines = text.count("\n")
    if path.suffix == ".py" and lines > FILE_LINES_MAX:
        yield f"{lines} lines, at most {FILE_LINES_MAX}: it has more than one subject"


def function_length(path: PurePosixPath, text: str) -> Iterator[str]:
    """Functions that can be read without scrolling."""
    for node in ast.walk(_tree(path, text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"line {node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"


def calls(path: PurePosixPath, text: str) -> Iterator[str]:
    """No name of BANNED_CALLS in the source, called or passed on, however it was imported."""
    if not path.is_relative_to("src/infrakit"):
        return
    module = str(path.relative_to("src/infrakit"))
    tree = _tree(path, text)
    imported = dict(_imported(tree))
    for node in ast.walk(tree):
        name = _dotted(node, imported)
        why, allowed = BANNED_CALLS.get(name, ("", ()))
        if why and not module.startswith(allowed):
            yield f"line {node.lineno}: {name}: {why}"  # type: ignore[attr-defined]
        if re.fullmatch(r"random\.[A-Za-z]\w*", name) and name not in RANDOM_CLASSES:
            yield f"line {node.lineno}: {name}: randomness is passed in as a random.Random"  # type: ignore[attr-defined]


def decoding(path: PurePosixPath, text: str) -> Iterator[str]:
    """JSON is decoded as a type in one module, which is safe in every thread."""
    if not path.is_relative_to("src/infrakit") or path.name == "codec.py":
        return
    tree = _tree(path, text)
    imported = dict(_imported(tree))
    for node in ast.walk(tree):
        call = _dotted(node.func, imported) if isinstance(node, ast.Call) else ""
        typed = call == "msgspec.json.decode" and any(k.arg == "type" for k in node.keywords)  # type: ignore[attr-defined]
        if typed or call in ("msgspec.json.Decoder", "msgspec.convert"):
            yield f"line {node.lineno}: {call}: use spi.codec"  # type: ignore[attr-defined]


def interfaces(path: PurePosixPath, text: str) -> Iterator[str]:
    """Methods of interfaces are defined by name: from Python 3.12 on, those behind `__getattr__` do not count."""
    if path.is_relative_to("src/infrakit"):
        for node in ast.walk(_tree(path, text)):
            if isinstance(node, ast.FunctionDef) and node.name in ("__getattr__", "__getattribute__"):
                yield f"line {node.lineno}: {node.name}: define each method by its name"


def docstring(path: PurePosixPath, text: str) -> Iterator[str]:
    """Every module has a docstring."""
    if path.suffix == ".py" and text.strip() and not ast.get_docstring(_tree(path, text)):
        yield "it has no docstring"


def name(path: PurePosixPath, _text: str) -> Iterator[str]:
    """The name of a file describes its content."""
    for part in path.with_suffix("").parts:
        if path.suffix == ".py" and part in EMPTY_NAMES:
            yield f"{part!r} does not describe the content"


RULES: tuple[Rule, ...] = (words, file_length, function_length, calls, decoding, interfaces, docstring, name)


def _tree(path: PurePosixPath, text: str) -> ast.Module:
    return source.tree(text) if path.suffix == ".py" else ast.Module(body=[], type_ignores=[])


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names in this module, and what they stand for: `sleep` -> `asyncio.sleep`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _dotted(node: ast.AST, imported: dict[str, str]) -> str:
    """`a.b.c` of an expression that is nothing but names, with the first one resolved; else nothing."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return imported.get(node.id, node.id if node.id == "print" else "")
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value, imported)
        return f"{before}.{node.attr}" if before else ""
    return ""


def tracked() -> Iterator[tuple[PurePosixPath, str]]:
    """Every tracked file that is text, as it is on disk now."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    for path in listing.stdout.decode().rstrip("\0").split("\0"):
        file = ROOT / path
        body = file.read_bytes() if file.is_file() else b""
        if b"\0" not in body:
            yield PurePosixPath(path), body.decode()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_satisfies_the_rule(rule: Rule) -> None:
    findings = [f"{path}: {finding}" for path, text in tracked() for finding in rule(path, text)]
    assert not findings, "\n".join(findings)


def test_long_files_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    lengths = {path: text.count("\n") for path, text in tracked() if path.suffix == ".py"}
    assert len(lengths) > 100, "the listing of files is not the project's"
    with capsys.disabled():
        for path, lines in lengths.items():
            if lines > FILE_LINES_REVIEW:
                print(f"\n{path}: {lines} lines: is it one subject?", end="")


class Planted(NamedTuple):
    """Text that breaks a rule."""

    rule: Rule
    text: str
    path: str = "src/infrakit/group/plan/planted.py"


PLANTED = (
    Planted(words, "x = 1  # TOD" + "O: two"),
    Planted(words, "FIXM" + "E later", "docs/guide.md"),
    Planted(words, "cd /wo" + "rk/main", "README.md"),
    Planted(words, "see /tmp/ba" + "sh_jobs/1", "README.md"),
    Planted(words, "--index-url https://py" + "pi.org/simple", "constraints.txt"),
    Planted(words, "as issu" + "e #12 asks", "CHANGELOG.md"),
    Planted(words, "written by a helper ses" + "sion", "docs/architecture.md"),
    Planted(file_length, "x = 1\n" * (FILE_LINES_MAX + 1)),
    Planted(function_length, "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    Planted(function_length, "class C:\n    async def f():\n" + "        x = 1\n" * FUNCTION_LINES_MAX),
    Planted(calls, "import time\ntime.time()"),
    Planted(calls, "import time as t\nt.time()"),
    Planted(calls, "from time import time\ntime()"),
    Planted(calls, "import time\nnow = time.time_ns"),
    Planted(calls, "import time\ntime.sleep(1)", "src/infrakit/manager/planted.py"),
    Planted(calls, "import datetime\ndatetime.datetime.now(datetime.UTC)"),
    Planted(calls, "from datetime import datetime\ndatetime.utcnow()"),
    Planted(calls, "from datetime import date\ndate.today()"),
    Planted(calls, "import random\nrandom.choice([1])", "src/infrakit/manager/planted.py"),
    Planted(calls, "from random import shuffle\nshuffle(x)", "src/infrakit/simulation/planted.py"),
    Planted(calls, "import asyncio\nawait_ = asyncio.sleep(1)"),
    Planted(calls, "from asyncio import sleep\nsleep(1)", "src/infrakit/spec/planted.py"),
    Planted(calls, "print(1)"),
    Planted(calls, "tell = print", "src/infrakit/runtime/planted.py"),
    Planted(decoding, "import msgspec\nmsgspec.json.decode(b'', type=int)"),
    Planted(decoding, "import msgspec\nmsgspec.json.Decoder(int)", "src/infrakit/runtime/planted.py"),
    Planted(decoding, "from msgspec import convert\nconvert(1, int)"),
    Planted(interfaces, "class Remote:\n    def __getattr__(self, name): ..."),
    Planted(docstring, "x = 1"),
    Planted(docstring, "# a comment is none\nx = 1", "tests/planted.py"),
    Planted(name, "", "src/infrakit/utils.py"),
    Planted(name, "", "src/infrakit/common/retry.py"),
    Planted(name, "", "tests/helpers.py"),
)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda p: f"{p.rule.__name__} {p.path} {p.text[:30]!r}")
def test_a_planted_fault_is_found(planted: Planted) -> None:
    assert list(planted.rule(PurePosixPath(planted.path), planted.text))


def test_every_rule_has_a_planted_fault() -> None:
    assert {planted.rule for planted in PLANTED} == set(RULES)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (calls, "src/infrakit/spi/clock.py", "import time\ntime.time()"),
        (calls, "src/infrakit/cli/planted.py", "import time\ntime.sleep(1)\nprint(time.monotonic())"),
        (calls, "src/infrakit/group/planted.py", "import random\nchance = random.Random(7)\nchance.choice([1])"),
        (calls, "src/infrakit/group/planted.py", "def f(self, random):\n    self.random.choice(random.print())"),
        (calls, "src/infrakit/manager/planted.py", "import asyncio\nasyncio.sleep(1)"),
        (decoding, "src/infrakit/group/planted.py", "import msgspec\nmsgspec.json.decode(b'')"),
        (words, "docs/guide.md", "/var/lib/infrakit, the framework/main idea, and a root / parent"),
        (docstring, "tests/__init__.py", ""),
        (function_length, "src/infrakit/f.py", "def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)),
        (name, "docs/core.md", ""),
    ],
)
def test_allowed_text_is_not_reported(rule: Rule, path: str, text: str) -> None:
    assert not list(rule(PurePosixPath(path), text))
