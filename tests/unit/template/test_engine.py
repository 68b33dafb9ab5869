"""The output of a template, and the error that its author receives if it cannot be rendered."""

import subprocess
import sys
from pathlib import Path

import pytest

from infrakit.spi.errors import InvalidSpec, NotFound
from infrakit.template.engine import Engine
from infrakit.template.loaders import Loader
from infrakit.template.scope import Scope
from infrakit.template.values import Origin
from tests.unit.template.rendered import refused, rendered, variables


def test_text_without_delimiters_is_unchanged_and_does_not_import_jinja2() -> None:
    code = (
        "import sys\n"
        "from infrakit.template.engine import Engine\n"
        "from infrakit.template.loaders import Loader\n"
        "from infrakit.template.scope import Scope\n"
        "engine = Engine(Loader())\n"
        "text = 'echo ${#name} # }}\\n'\n"
        "assert engine.render(engine.inline(text, name='t'), Scope()).text == text\n"
        "assert 'jinja2' not in sys.modules\n"
        "engine.inline('{{ 1 }}', name='t')\n"
        "assert 'jinja2' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("a {{ 1 + 1 }}\n", "a 2\n"),
        ("${#x} {{/* not seen {{ }} */}}b", "${#x} b"),
        ("{% if true %}\n  x\n{% endif %}\ny", "  x\ny"),
        ("{{ true }} {{ 1.5 }} {{ [1, 'a', none] }} {{ {'a': false} }}", 'true 1.5 [1, "a", null] {"a": false}'),
        ("{% for k, v in {'b': 1}.items() %}{{ k }}={{ v }}{{ loop.last }}{% endfor %}", "b=1true"),
        ("{% macro m(x, y=2) %}{{ x }}{{ y }}{% endmacro %}{{ m(1) }}{{ m(1, y=3) }}", "1213"),
        ("{% set t %}x{{ 1 }}{% endset %}{{ t | upper }}{{ t ~ 2 }}", "X1x12"),
        ("{{ spec.items }} {{ spec.keys }}", "3 4"),  # members take precedence over methods
        ("{{ nothing | default('d') }}{{ nothing is defined }}", "dfalse"),
        (
            "{{ 'a,b'.split(',') | join('+') }} {{ '-' * 3 }} {{ '%05.1f' % 2.25 }} {{ 'x%s' | format(1) }}",
            "a+b --- 002.2 x1",
        ),
        ("{% for g in [{'k': 1, 'n': 'a'}] | groupby('k') %}{{ g.grouper }}{{ g.list[0].n }}{% endfor %}", "1a"),
        (
            "{{ '%s %d %s' % (true, 3, [1]) }} {{ [true] | replace('t', 'T') }} {{ true | upper }}",
            "true 3 [1] [True] TRUE",
        ),
        ("{% raw %}{{.ID}}{% endraw %}", "{{.ID}}"),
        ("  {% raw %}\n  {{.ID}}\n  {% endraw %}\nx\n", "  {{.ID}}\nx\n"),
        ("{% raw %}\r\n{{.ID}}{% endraw %}", "{{.ID}}"),
        ("{% raw %}\n\n{% raw %}\n{% endraw %}{{ 1 }}", "\n{% raw %}\n1"),
        ("{% raw %}a\n{% endraw -%}\n{% raw %}\nb{% endraw %}", "a\nb"),
    ],
)
def test_the_output_of_a_template(text: str, output: str) -> None:
    assert rendered(text, spec={"items": 3, "keys": 4}) == output


def test_variables_are_addressed_like_paths() -> None:
    scope = variables({"/cluster/name": "blue", "size": 3})
    assert (
        rendered("{{ var('cluster/name') }}{{ var('/cluster/name') }}{{ size }}{{ var('size') }}", scope=scope)
        == "blueblue33"
    )


def test_an_include_receives_a_copy_of_the_variables_and_a_source_changes_them(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "boot.sh").write_text(
        "{{ set('n', 1) }}{{ include('parts/in.sh', n=7) }}{{ source('parts/lib.sh') }}{{ var('n') }}"
        "{{ up('x') }}{{ k }}"
    )
    (tmp_path / "parts/in.sh").write_text("{{ n }}{{ var('n') }}{{ set('n', 8) }}{{ include('../deep.sh') }}")
    (tmp_path / "parts/lib.sh").write_text(
        "unseen{{ set('n', 2) }}{% macro up(x) %}{{ x | upper }}{% endmacro %}{% set k = 'K' %}"
    )
    (tmp_path / "deep.sh").write_text("deep")
    engine = Engine(Loader())
    assert engine.render(engine.template(str(tmp_path / "boot.sh")), Scope()).text == "77deep2XK"
    assert (
        engine.render(engine.inline("{{ include('deep.sh') }}", name="i", base=str(tmp_path / "x")), Scope()).text
        == "deep"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\n{{ clustr }}", "boot.sh: line 3: 'clustr' is not defined (did you mean 'cluster'?)"),
        ("\n{{ incldue('x') }}", "boot.sh: line 2: 'incldue' is not defined (did you mean 'include'?)"),
        ("\n{{ var('clustr') }}", "boot.sh: line 2: there is no variable 'clustr' (did you mean 'cluster'?)"),
        ("\n{{ var('zone') }}", "boot.sh: line 2: there is no variable 'zone' (pass --var zone=VALUE)"),
        ("\n{{ cluster.nam }}", "boot.sh: line 2: there is no 'nam' in this mapping (did you mean 'name'?)"),
        ("\n{{ size.x }}", "boot.sh: line 2: a number has no 'x'"),
        ("\n{% if x %}", "boot.sh: line 2: unexpected end of template"),
        ("\n{{ 1 | uper }}", "boot.sh: line 2: there is no filter 'uper' (did you mean 'upper'?)"),
        ("\n{{ 1 is nume }}", "boot.sh: line 2: there is no test 'nume' (did you mean 'number'?)"),
        ("\n{{ cluster.none }}{{ var }}", "line 2: "),
        ("{% for x in [1] recursive %}{% endfor %}", "(write a macro that calls itself)"),
        ("{{ ''.__class__ }}", "(members that begin with _ are Python's own)"),
        ("{{ plain('x') }}", "a builtin_function_or_method cannot be called"),
        ("\n{{ none }}", "line 2: the value is null"),
        ("\n{{ 1 / 0 }}", "boot.sh: line 2: division by zero"),
        ("{{ set('n', 1) }}{{ n }}", "'n' is not defined here (read a variable of set('n', ...) with var('n'); "),
        ("{% for x in [1] %}{% set n = x %}{% endfor %}{{ n }}", "{% set %} in a loop or a macro is local to it)"),
        ("{% raw %}\n{{\n{% endraw %}\n{{ foo }}", "boot.sh: line 4: 'foo' is not defined"),
        ('\n{{ "no end }}', "line 2: unterminated string"),
        ("\n{{ 1 $ 2 }}", "line 2: unexpected character '$'"),
        ("{{ 5 | join }}", "line 1: the filter join cannot be used on a number"),
        ("{{ 5 | dictsort }}", "line 1: the filter dictsort cannot be used on a number"),
        ("{{ [3, 'a'] | sort }}", "line 1: the filter sort cannot be used on a list"),
        ("{{ 'a' | replace('a') }}", "line 1: the filter replace: missing 1 required positional argument: 'new'"),
        ("{{ var('/') }}", "line 1: found the name '/', which names nothing"),
        (
            "{% set m = 1 %}\n{% macro longname() %}{% endmacro %}{{ longnam() }}",
            "line 2: 'longnam' is not defined (did you mean 'longname'?)",
        ),
        (
            "{% for x in 3 %}{% endfor %}",
            "boot.sh: line 1: a number is not iterable, expected a list or a mapping",
        ),
        ("\n{{ include('str://\n\n{{ foo }}') }}", "line 3: 'foo' is not defined (included from line 2 of boot.sh)"),
    ],
)
def test_an_error_is_reported_with_its_line_and_the_nearest_known_name(text: str, message: str) -> None:
    assert message in refused(text, cluster={"name": "blue"}, size=1, plain=len)


def test_an_error_in_an_include_names_the_chain_of_includes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\n{{ include('b') }}")
    (tmp_path / "b").write_text("\n\n{{ include('c') }}")
    engine = Engine(Loader())

    def error_with(c: str) -> str:
        (tmp_path / "c").write_text(c)
        with pytest.raises(InvalidSpec) as caught:
            engine.render(engine.template(str(tmp_path / "a")), Scope())
        return str(caught.value).replace(f"{tmp_path}/", "")

    assert error_with("{{ foo }}") == "c: line 1: 'foo' is not defined (included from line 3 of b, line 2 of a)"
    assert error_with("{% if %}").startswith("c: line 1: ")
    assert error_with("{% if %}").endswith("(included from line 3 of b, line 2 of a)")
    (tmp_path / "c").unlink()
    with pytest.raises(NotFound, match=r"c: no such file; named in line 3 of .*b; included from line 2 of .*a$"):
        engine.render(engine.template(str(tmp_path / "a")), Scope())


def test_every_line_of_output_has_its_origin(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(
        "one\n{% for i in [1, 2] %}\nx\ny {{ i }}\n{% endfor %}\n  {{ include('b') | indent(2) }}\nend\n"
    )
    (tmp_path / "b").write_text("{# no comment #}\n{{ 1 }}\n")
    engine = Engine(Loader())
    result = engine.render(engine.template(str(tmp_path / "a")), Scope(), trace=True)
    assert result.text.splitlines() == ["one", "x", "y 1", "x", "y 2", "  {# no comment #}", "  1", "", "end"]
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert result.origins is not None
    expected = [(a, 1), (a, 3), (a, 4), (a, 3), (a, 4), (b, 1), (b, 2), (a, 6), (a, 7)]
    assert [(each.template, each.line) for each in result.origins if each] == expected
    plain = engine.render(engine.inline("a\nb", name="p"), Scope(), trace=True)
    assert plain.origins == (Origin("p", 1), Origin("p", 2))
    assert engine.render(engine.inline("{{ 1 }}", name="p"), Scope()).origins is None
