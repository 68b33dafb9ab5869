"""Every function of templates does what the manual says, and refuses invalid input with a message."""

import inspect
from pathlib import Path

import pytest

from infrakit.spi.errors import NotFound, Refused
from infrakit.template.engine import Engine
from infrakit.template.functions import TABLE
from infrakit.template.functions.table import Function
from infrakit.template.loaders import Loader
from infrakit.template.scope import Scope
from tests.unit.template.rendered import refused, rendered

EVERY = [*TABLE.values(), *(member for each in TABLE.values() for member in each.members.values())]


class Tree:
    """A snapshot of metadata."""

    def __init__(self, values: dict[str, object]) -> None:
        self._values = values

    def keys(self, path: str) -> list[str] | None:
        below = {
            key.removeprefix(f"{path}/" if path else "").split("/")[0] for key in self._values if key.startswith(path)
        }
        return sorted(below) or None

    def get(self, path: str) -> object:
        if path not in self._values:
            raise NotFound("there is none", where=path)
        return self._values[path]

    def wait(self, path: str, timeout_s: float) -> object:
        assert timeout_s <= 30
        return self.get(path)


class Clock:
    def now(self) -> float:
        return 1_700_000_000.5


@pytest.fixture
def scope(monkeypatch: pytest.MonkeyPatch) -> Scope:
    monkeypatch.setenv("REGION", "north")
    monkeypatch.setenv("HIDDEN", "never-shown")
    facts = Tree({"host/region": "north", "host/memory": 4})
    return Scope(facts=facts, env=frozenset(("REGION", "UNSET")), clock=Clock())


@pytest.fixture
def base(tmp_path: Path) -> str:
    """The address of the examples, in a directory with the files that they read."""
    (tmp_path / "motd").write_text("welcome")
    (tmp_path / "token").write_text("secret\n")
    return str(tmp_path / "boot.sh")


@pytest.mark.parametrize("function", EVERY, ids=lambda each: each.name)
def test_the_example_of_a_function_has_the_documented_result(function: Function, scope: Scope, base: str) -> None:
    assert function.example, "there is no example"
    assert function.name in function.example
    assert function.help.endswith("."), "there is no help"
    assert rendered(function.example, scope=scope, base=base) == function.result


@pytest.mark.parametrize("function", EVERY, ids=lambda each: each.name)
def test_the_documented_signature_has_as_many_arguments_as_the_function(function: Function) -> None:
    takes = list(inspect.signature(function.body).parameters.values())[1:]
    documented = [each.strip("* ") for each in function.signature.partition("(")[2].rstrip(")").split(",") if each]
    if not any(each.kind is each.VAR_POSITIONAL for each in takes):
        assert len(takes) == len(documented)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ from_json('{') }}", "not JSON: Expecting property name enclosed in double quotes in line 1"),
        ("{{ from_json('[NaN]') }}", "not JSON: found NaN, expected a finite number"),
        ("{{ from_json(5) }}", "expected a string for from_json, got a number"),
        ("{{ from_yaml('a: [') }}", "not YAML: "),
        (
            "{{ from_yaml('a: &x [1]\\nb: *x') }}",
            "YAML anchors and aliases are not allowed in templates: found one in line 1",
        ),
        ("{{ from_yaml('a: !!python/name:os.system 1') }}", "YAML tags are not allowed in templates: found "),
        ("{{ from_yaml('[' * 5000) }}", "YAML nested more than 100 deep in line 1"),
        ("{{ unbase64('%') }}", "not the Base64 encoding of UTF-8 text"),
        ("{{ hash('a', 'crc') }}", "unknown hash algorithm 'crc' (use one of md5, "),
        ("{{ jmespath('a[', {}) }}", "invalid JMESPath query: "),
        ("{{ env('HIDDEN') }}", "may be read (allow it for this render; on the command line: --env HIDDEN)"),
        ("{{ env('REGIN') }}", "(did you mean 'REGION'?)"),
        ("{{ env('UNSET') }}", "the environment variable 'UNSET' is not set"),
        ("{{ metadata('host/regoin') }}", "there is no metadata at 'host/regoin' (did you mean 'region'?)"),
        ("{{ metadata('host/x') }}", "there is no metadata at 'host/x'; below 'host' there is 'memory', 'region'"),
        ("{{ metadata.wait('host/x', '1s') }}", "there is no metadata at 'host/x' after 1s"),
        ("{{ metadata.wait('host/x', 'soon') }}", "'soon' is not a duration"),
        ("{{ ip_add('10.0.0', 1) }}", "'10.0.0' is not an IP address"),
        ("{{ ip_add('255.255.255.255', 1) }}", "there is no address 1 after 255.255.255.255"),
        ("{{ cidr_host('10.0.0.0/30', 4) }}", "there is no address 4 in 10.0.0.0/30, which has 4"),
        ("{{ cidr_hosts('10.0.0.0/8') }}", "10.0.0.0/8 has more than 10,000 addresses"),
        ("{{ cidr_network('10.0.0.0/33') }}", "'10.0.0.0/33' is not a network"),
        ("{{ cidr_subnet('10.0.0.0/24', 2, 4) }}", "there is no subnet 4 of 10.0.0.0/24 extended by 2 bits"),
        ("{{ file('str://x') }}", "file takes a path (use fetch for other addresses)"),
        ("{{ var(1) }}", "expected a string for a name, got a number"),
        ("{{ set([1], 1) }}", "expected a string for a name, got a list"),
        ("{{ export(none, 1) }}", "expected a string for a name, got null"),
        ("{{ metadata(1) }}", "expected a string for metadata, got a number"),
        ("{{ include(range(5)) }}", "expected a string for include, got a range"),
        ("{{ fetch({}) }}", "expected a string for fetch, got a mapping"),
        ("{{ secret(1) }}", "expected a string for secret, got a number"),
        ("{{ file(1) }}", "expected a string for file, got a number"),
        ("{{ env([]) }}", "expected a string for env, got a list"),
        ("{{ secret('x') }}", "secret takes file:PATH, env:NAME or cmd:PROGRAM ARGUMENTS"),
        ("{{ secret('env:HIDDEN') }}", "the environment variable 'HIDDEN' is not among those that may be read"),
        ("{{ secret('cmd:false') }}", "the command 'false' of a secret exited with status 1"),
        (
            "{{ secret('cmd:no-such-program') }}",
            "the command 'no-such-program' of a secret cannot be run: No such file",
        ),
        ("{{ def('x') }}", "def takes 2 or 3 arguments, got 1"),
        ("{{ range(1000000) }}", "range has more than 100,000 numbers"),
    ],
)
def test_invalid_input_is_refused_with_a_message(text: str, message: str, scope: Scope) -> None:
    assert message in refused(text, scope=scope)


def test_var_falls_back_to_metadata_and_reports_what_is_missing(scope: Scope) -> None:
    assert rendered("{{ var('host/region') }}", scope=scope) == "north"
    assert "there is no metadata at 'x': no metadata is available here" in refused("{{ metadata('x') }}")


def test_names_of_flavors_take_precedence() -> None:
    scope = Scope(
        variables={"index": 1}, functions={"index": lambda: 7, "spec": {"ID": "a"}, "hash": lambda text: "h" + text}
    )
    assert rendered("{{ index() }} {{ spec.ID }} {{ hash('x') }} {{ var('index') }}", scope=scope) == "7 a hx 1"


def test_a_failing_function_of_a_flavor_is_reported_with_its_line() -> None:
    def fails() -> None:
        raise Refused("the engine is away", where="docker")

    with pytest.raises(Refused, match=r"^docker: the engine is away; named in line 2 of boot\.sh"):
        rendered("\n{{ fails() }}", scope=Scope(functions={"fails": fails}))


def test_exports_and_needs_are_recorded(scope: Scope, base: str) -> None:
    engine = Engine(Loader())
    text = (
        "{{ export('/cluster/size', 3) }}{{ var('zone', 'a') }}{{ metadata('host/region') }}"
        "{{ include('str://x') }}{{ file('motd') }}{{ secret('file:token') }}{{ env('REGION') }}"
    )
    result = engine.render(engine.inline(text, name="t", base=base), scope)
    assert result.exports == {"cluster/size": 3}
    found = {(need.kind, need.name): need.found_in for need in result.needs}
    assert found[("variable", "zone")] == "default"
    assert found[("metadata", "host/region")] == "metadata"
    assert found[("file", "motd")].endswith("/motd")
    assert found[("secret", "file:token")] == "file"
    assert found[("env", "REGION")] == "environment"
    assert not any(need.missing for need in result.needs)
