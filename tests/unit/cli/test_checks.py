"""Detection of the format of a rendered text, and its syntax check."""

import shutil
from pathlib import Path

import pytest

from infrakit.cli import checks
from infrakit.cli.checks import Found
from infrakit.spi.errors import Refused


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ("#!/bin/sh\n", "x", "sh"),
        ("#!/bin/sh -eu\n", "x.yaml.j2", "sh"),
        ("#!/usr/bin/env bash\n", "x", "bash"),
        ("#! /bin/dash\n", "x", "sh"),
        ("#cloud-config\n", "stdin", "yaml"),
        ("echo\n", "boot.sh.j2", "bash"),
        ("echo\n", "boot.sh", "bash"),
        ("{}", "http://host/a.b/c.json.tmpl", "json"),
        ("{}", "http://host/a.json/c", ""),
        ("a: 1", "a.YML", "yaml"),
        ("{}", "json", ""),
        ("#!/usr/bin/python3\n", "x.sh", ""),
        ("hello", "stdin", ""),
    ],
)
def test_the_format_is_detected_from_the_first_line_or_else_from_the_name(text: str, name: str, kind: str) -> None:
    assert checks.kind(text, name) == kind


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("bash", "a=(1 2)\n[[ -n $a ]] && echo ${#a[@]}\n"),
        ("sh", 'if [ -n "$a" ]; then echo; fi\n'),
        ("json", '{"a": [1, 2]}'),
        ("yaml", "a: 1\n---\nb: !anything [1]\n"),
        ("yaml", ""),
    ],
)
def test_well_formed_text_passes(kind: str, text: str) -> None:
    assert checks.problems(text, kind) == []


@pytest.mark.parametrize(
    ("kind", "text", "line", "message"),
    [
        ("bash", "echo\nif true; then\nfi\n", 3, "bash: syntax error near unexpected token `fi', in `fi'"),
        ("bash", 'echo "a\n', 1, "bash: unexpected EOF while looking for matching `\"'"),
        ("sh", "echo\na=(1)\n", 2, 'sh: Syntax error: "(" unexpected'),
        ("json", '{"a": 1,\n"b"}', 2, "not JSON: Expecting ':' delimiter at column 4"),
        ("json", "[" * 100_000, None, "not JSON that parsers accept: nested too deeply"),
        ("yaml", "a: 1\nb: [1\nc: 2\n", 3, "not YAML: while parsing a flow sequence"),
        ("yaml", "a: *b\n", 1, "not YAML: found undefined alias"),
    ],
)
def test_malformed_text_is_reported_with_its_line(kind: str, text: str, line: int | None, message: str) -> None:
    if kind == "sh" and "dash" not in str(shutil.which("dash")):
        pytest.skip("install dash: apt-get install dash")
    found = checks.problems(text, kind)
    assert found
    assert found[0].message.startswith(message)
    assert found[0].line == line


def test_a_check_does_not_execute_the_script(tmp_path: Path) -> None:
    assert checks.problems(f"touch {tmp_path}/made\n", "bash") == []
    assert not list(tmp_path.iterdir())


def test_a_missing_bash_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Refused, match="bash is not installed on this machine; install bash"):
        checks.problems("echo\n", "bash")


def test_each_line_is_reported_once() -> None:
    assert list(checks._shell_errors("x: line 3: a b\nx: line 3: `c'\nx: 7: d\n", "sh")) == [
        Found(3, "sh: a b, in `c'"),
        Found(7, "sh: d"),
    ]
