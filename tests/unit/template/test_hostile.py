"""Malicious templates: each is refused with a message, in bounded time and memory.

The whole list runs once in a subprocess whose memory is limited (`attacks`), so that a template that escapes its
limits ends that process and not the tests.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infrakit.spi.errors import InfraKitError, InvalidSpec, Problem
from infrakit.template.engine import Engine
from infrakit.template.limits import Limits
from infrakit.template.loaders import Loader
from infrakit.template.scope import Scope
from tests.unit.template.attacks import ATTACKS
from tests.unit.template.rendered import refused, rendered

ADDRESS_SPACE_MB = 900  # a bare interpreter with Jinja2 has 60; the largest template that is compiled takes 200 more
GROWTH_MB_MAX = 300
SECONDS = 3  # of one render; on a slow machine this limit may come first, which is a refusal as well


class Outcome(NamedTuple):
    """The outcome of an attack."""

    kind: str
    message: str
    seconds: float
    grown_mb: int


@pytest.mark.timeout(180)
def test_every_attack_is_refused_with_a_message_in_bounded_time_and_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.template.attacks", str(SECONDS)],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"SECRET_OF_THE_MACHINE": "never-shown"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_MB << 20, ADDRESS_SPACE_MB << 20)),
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    outcomes = {name: Outcome(*rest) for name, *rest in map(json.loads, done.stdout.splitlines())}
    assert list(outcomes) == list(ATTACKS), done.stderr[-2000:]
    failures = [f"{name}: {why}: {outcome}" for name, outcome in outcomes.items() for why in wrong(outcome)]
    assert not failures, "\n".join(failures)


def wrong(outcome: Outcome) -> Iterator[str]:
    """The requirements that the outcome violates."""
    if outcome.kind != "InvalidSpec":
        yield "was not refused as an invalid template"
    if not outcome.message.startswith(("t: ", "text in t: ")):
        yield "does not name the template"
    for banned in ("Traceback", "object at 0x", "MemoryError", "never-shown", "<class", "<function"):
        if banned in outcome.message:
            yield f"shows {banned!r}"
    if outcome.grown_mb > GROWTH_MB_MAX:
        yield "took too much memory"


def test_wrong_outcomes_are_detected() -> None:
    assert not list(wrong(Outcome("InvalidSpec", "t: line 1: no", 0.1, 5)))
    assert len(list(wrong(Outcome("escaped", "<class 'str'>", 0.1, GROWTH_MB_MAX + 1)))) == 4


def test_the_memory_limit_of_the_process_is_effective() -> None:
    """Without the limits of templates, the process exceeds its memory limit, so the test above can fail."""
    code = "x = 'x' * (1 << 30)"
    limit = (ADDRESS_SPACE_MB << 20, ADDRESS_SPACE_MB << 20)
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert "MemoryError" in done.stderr


@pytest.mark.parametrize(
    ("text", "limits", "message"),
    [
        ("{% for x in range(3) %}{% endfor %}", Limits(steps_max=4), "rendering takes more than 4 steps"),
        ("{{ 'x' * 20 }}", Limits(value_bytes_max=19), "a value would have more than 19 bytes"),
        ("{% set a %}{{ 'x' * 15 }}{{ 'x' * 15 }}{% endset %}", Limits(value_bytes_max=19), "a value would have more"),
        ("{{ ('ß' * 10) | upper }}", Limits(value_bytes_max=19), "a value would have more than 19 bytes"),
        ("{{ 'x' * 10 }}{{ 'x' * 10 }}", Limits(output_bytes_max=19), "the output has more than 19 bytes"),
        ("{{ include('str://{{ 1 }}' * 5) }}", Limits(output_bytes_max=8), "the output has more than 8 bytes"),
        (
            "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
            Limits(calls_deep_max=3),
            "macros call each other more than 3",
        ),
        ("{{ include('str://{{ include(\"str://x\") }}') }}", Limits(depth_max=1), "includes go deeper than 1"),
        ("{{ 1 }}", Limits(source_bytes_max=6), "the template has 7 bytes, expected at most 6"),
        ("{{ ('f' * 2000) | int(base=16) % 7 }}", Limits(), "a number has more than 4,096 bits"),
        ("{{ 1 }}", Limits(tokens_max=2), "the template has more than 2 names"),
        ("{{ 1 + 1 }}", Limits(seconds_max=0), "rendering takes more than 0 s"),
    ],
)
def test_every_limit_is_reported(text: str, limits: Limits, message: str) -> None:
    assert message in refused(text, limits=limits)


def test_values_just_within_the_limits_are_allowed() -> None:
    assert rendered("{% for x in range(3) %}{{ x }}{% endfor %}", limits=Limits(steps_max=5)) == "012"
    assert rendered("{{ 'x' * 20 }}", limits=Limits(value_bytes_max=20, output_bytes_max=20)) == "x" * 20
    assert rendered("{{ include('str://{{ 1 }}') }}", limits=Limits(depth_max=1)) == "1"
    assert rendered("{{ 10 ** 100 % 7 }}{{ '-' * 60 }}{{ '%-20s|' % 'x' }}") == "4" + "-" * 60 + "x" + " " * 19 + "|"


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "{{ secret('file:token') + 1 }}",
        "{{ {}[secret('file:token')] }}",
        "{{ {'a': 1}[secret('file:token')] + 1 }}",
        "{{ var(secret('file:token')) }}",
        "{{ env(secret('file:token')) }}",
        "{{ metadata(secret('file:token')) }}",
        "{{ include(secret('file:token')) }}",
        "{{ include('/no/such/' ~ secret('file:token')) }}",
        "{{ include('http://127.0.0.1:1/' ~ secret('file:token')) }}",
        "{{ include('str://{{ ' ~ secret('file:token') ~ ' }}') }}",
        "{{ secret('file:token') is divisibleby 3 }}",
        "{{ ip_add(secret('file:token'), 1) }}",
        "{{ var(secret('file:token') | upper) }}",
        "{{ var(secret('file:token') | base64) }}",
        "{{ var(secret('file:token') | reverse) }}",
        "{{ var(secret('file:token')[:6]) }}",
        "{{ jmespath(secret('file:token') ~ '[', {}) }}",
        "{{ from_json(secret('file:token')) }}",
        "{{ range(secret('file:token')) }}",
        "{{ secret('cmd:false ' ~ secret('file:token')) }}",
        "{{ secret('file:token') | round }}",
        "{{ secret('file:token').nothing }}",
        "{{ dict(a=1)[secret('file:token')] }}",
    ],
)
def test_no_message_shows_a_secret_or_a_value_derived_from_it(text: str, tmp_path: Path) -> None:
    value = "hunter2-of-mine"
    (tmp_path / "token").write_text(value + "\n")
    engine = Engine(Loader(attempts=1))
    with pytest.raises(InfraKitError) as caught:
        engine.render(engine.inline(text, name="t", base=str(tmp_path / "t")), Scope())
    shown = f"{caught.value!s} {caught.value!r} {caught.value.remedy} {caught.value.where}"
    for secret in (value, value.upper(), value[::-1], "aHVudGVyMi1vZi1taW5l", value[:6]):
        assert secret not in shown


def test_an_error_of_a_flavors_function_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hunter2")

    def fails(value: str) -> None:
        raise InvalidSpec([Problem(path="", message=f"{value} is no size")])

    engine = Engine(Loader())
    template = engine.inline("{{ fails(secret('file:token')) }}", name="t", base=str(tmp_path / "t"))
    with pytest.raises(InvalidSpec, match=r"\*\*\* is no size"):
        engine.render(template, Scope(functions={"fails": fails}))


def test_the_masked_output_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("-----BEGIN-----\nabcdef\n-----END-----\n")
    engine = Engine(Loader())
    text = "a\n{{ secret('file:key') }}\nb {{ secret('file:key') | hash }}\n"
    result = engine.render(engine.inline(text, name="t", base=str(tmp_path / "t")), Scope(), trace=True)
    assert "abcdef" in result.text
    assert result.masked() == "a\n***\n***\n***\nb ***\n"
    assert result.origins is not None
    assert [each.line for each in result.origins if each] == [1, 2, 2, 2, 3]
    assert "abcdef" not in repr(result)
    assert all("abcdef" not in repr(need) for need in result.needs)


def test_a_command_for_a_secret_has_a_timeout_and_leaves_no_process_behind(tmp_path: Path) -> None:
    script = tmp_path / "slow.sh"
    script.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! > {tmp_path}/child\nwait\n")
    script.chmod(0o755)
    assert "secret did not exit within" in refused(f"{{{{ secret('cmd:{script}') }}}}", limits=Limits(seconds_max=2))
    child = int((tmp_path / "child").read_text())
    while is_running(child):
        pass


def is_running(pid: int) -> bool:
    """Whether the process runs; a zombie, which another process has to reap, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# -- random templates --------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *(
            "''",
            "1",
            "[]",
            "{}",
            "none",
            "x",
            "ns",
            "loop",
            "self",
            "m",
            "include",
            "namespace",
            "range",
            "var",
            "dict",
        ),
        *(".a", ".__class__", "['a']", "[0]", "[:]", "(1)", "()", "(x)", "('a')", " ~ ", " + ", " * ", " ** ", " % "),
        *(
            "|list",
            "|join",
            "|map('abs')",
            "|indent",
            "|replace('a','b')",
            "|sort",
            "|default(1)",
            "|format(1)",
            "|sum",
        ),
        *(
            ".format(1)",
            ".join",
            ".items()",
            " is defined",
            " in ",
            "99999999",
            "'%99999d'",
            " if ",
            " else ",
            "(",
            ")",
        ),
    ]
)
STATEMENTS = st.sampled_from(
    [
        *("{% for x in ", "{% endfor %}", "{% if ", "{% endif %}", "{% set x = ", "{% set ns.a = ", "{% macro m(x) %}"),
        *(
            "{% endmacro %}",
            "{% call m() %}",
            "{% endcall %}",
            "{% set x %}",
            "{% endset %}",
            " %}",
            "{{ ",
            " }}",
            "a\n",
        ),
        *("{{/* ", " */}}", "{% raw %}", "{% endraw %}", "{% filter upper %}", "{% endfilter %}", "\x00", "\ud800"),
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(WORDS, STATEMENTS), max_size=30).map("".join))
def test_any_text_is_rendered_or_refused(text: str) -> None:
    engine = Engine(Loader(), Limits(steps_max=2000, value_bytes_max=20_000, output_bytes_max=20_000))
    try:
        result = engine.render(engine.inline("{% set ns = namespace(a=1) %}" + text, name="t"), Scope(), trace=True)
    except InfraKitError:
        pass
    else:
        assert len(result.text) <= 20_000
        assert "<class" not in result.text
        assert "object at 0x" not in result.text
