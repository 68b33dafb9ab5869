"""Values as text and back: JSON, YAML, base64, digests, and questions in JMESPath."""

import base64 as _base64
import binascii
import hashlib
import json
from typing import Any

from infrakit.template.failures import Fault
from infrakit.template.failures import text as text_argument
from infrakit.template.functions.table import alias, function
from infrakit.template.limits import Budget
from infrakit.template.run import Frame, plain

_ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b")
_INDENT_MAX = 16


@function(
    "to_json(value, indent)", example="{{ {'a': [1, none]} | to_json }}", result='{"a": [1, null]}', is_filter=True
)
def to_json(frame: Frame, value: object, indent: int | None = None) -> str:
    """JSON of a value, on one line, or indented by so many spaces."""
    if indent is not None and not 0 <= indent <= _INDENT_MAX:
        raise Fault(f"to_json indents by 0 to {_INDENT_MAX} spaces")
    try:
        encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=indent, default=plain)
        return encoder.encode(value) if indent is None else _collected(frame.run.budget, encoder.iterencode(value))
    except ValueError:
        raise Fault("a number is not finite, which JSON cannot express") from None


def _collected(budget: Budget, parts: Any) -> str:
    """Indentation can make a deep value many times as long: it is noticed while it grows."""
    texts, total = [], 0
    for part in parts:
        texts.append(part)
        total += len(part)
        budget.size(total)
    return "".join(texts)


@function("from_json(text)", example="{{ from_json('{\"a\": 5}').a }}", result="5", is_filter=True)
def from_json(_frame: Frame, text: str) -> object:
    """The value of a JSON text."""
    try:
        return json.loads(text_argument(text, "from_json"), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise Fault(f"not JSON: {error.msg} in line {error.lineno}") from None


@function("to_yaml(value)", example="{{ {'a': [1, 'b']} | to_yaml }}", result="a:\n- 1\n- b\n", is_filter=True)
def to_yaml(frame: Frame, value: object) -> str:
    """YAML of a value."""
    from infrakit.template import yaml_values

    return yaml_values.write(json.loads(to_json.body(frame, value)))  # type: ignore[arg-type]


@function("from_yaml(text)", example="{{ from_yaml('a: [no, 5]').a }}", result='["no", 5]', is_filter=True)
def from_yaml(frame: Frame, text: str) -> object:
    """The value of a YAML 1.2 text. Anchors, aliases and tags are refused."""
    from infrakit.template import yaml_values

    return yaml_values.read(text_argument(text, "from_yaml"), frame.run.budget)


@function("base64(text)", example="{{ 'user:pass' | base64 }}", result="dXNlcjpwYXNz", is_filter=True)
def base64(_frame: Frame, text: str) -> str:
    """Base64 of a text in UTF-8."""
    return _base64.b64encode(text_argument(text, "base64").encode()).decode()


@function("unbase64(text)", example="{{ unbase64('aGVsbG8=') }}", result="hello", is_filter=True)
def unbase64(_frame: Frame, text: str) -> str:
    """The text in UTF-8 that a text in base64 stands for."""
    try:
        return _base64.b64decode(text_argument(text, "unbase64"), validate=True).decode()
    except (binascii.Error, ValueError):
        raise Fault("not base64 of a text in UTF-8") from None


@function(
    "hash(text, algorithm)",
    example="{{ hash('hello') | truncate(15) }} {{ 'hello' | hash('md5') }}",
    result="2cf24dba5fb0... 5d41402abc4b2a76b9719d911017c592",
    is_filter=True,
)
def hash_(_frame: Frame, text: str, algorithm: str = "sha256") -> str:
    """The digest of a text in hexadecimal: md5, sha1, sha224, sha256 (the default), sha384, sha512 or blake2b."""
    if algorithm not in _ALGORITHMS:
        raise Fault(f"hash knows no {algorithm!r}", f"use one of {', '.join(_ALGORITHMS)}")
    return hashlib.new(algorithm, text_argument(text, "hash").encode(), usedforsecurity=False).hexdigest()


@function(
    "jmespath(query, value)",
    example="{{ jmespath('[?up].name', [{'name': 'a', 'up': true}, {'name': 'b', 'up': false}]) }}",
    result='["a"]',
)
def jmespath(frame: Frame, query: str, value: object) -> object:
    """What a query in JMESPath finds in a value; null if nothing."""
    from infrakit.template import queries

    return queries.search(query, value, frame.run.budget)


q = alias(jmespath, "q(query, value)", example="{{ q('a.b', {'a': {'b': 2}}) }}", result="2")
json_encode = alias(to_json, "jsonEncode(value, indent)", example="{{ jsonEncode([1]) }}", result="[1]")
json_decode = alias(from_json, "jsonDecode(text)", example="{{ jsonDecode('[1]') }}", result="[1]")
yaml_encode = alias(to_yaml, "yamlEncode(value)", example="{{ yamlEncode([1]) }}", result="- 1\n")
yaml_decode = alias(from_yaml, "yamlDecode(text)", example="{{ yamlDecode('- 1') }}", result="[1]")


def _no_constant(name: str) -> object:
    raise Fault(f"not JSON: found {name}, expected a finite number")
