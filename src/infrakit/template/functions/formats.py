"""Functions that encode and decode: JSON, YAML, Base64, digests; and JMESPath queries."""

import base64 as _base64
import binascii
import hashlib
import json
from typing import Any

from infrakit.template.failures import Fault, string_argument
from infrakit.template.functions.table import alias, function
from infrakit.template.limits import Budget
from infrakit.template.run import Frame, plain

_ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b")
_INDENT_MAX = 16


@function(
    "to_json(value, indent)", example="{{ {'a': [1, none]} | to_json }}", result='{"a": [1, null]}', is_filter=True
)
def to_json(frame: Frame, value: object, indent: int | None = None) -> str:
    """Encode a value as JSON, on one line, or indented by `indent` spaces."""
    if indent is not None and not 0 <= indent <= _INDENT_MAX:
        raise Fault(f"to_json indents by 0 to {_INDENT_MAX} spaces")
    try:
        encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=indent, default=plain)
        return encoder.encode(value) if indent is None else _collected(frame.run.budget, encoder.iterencode(value))
    except ValueError:
        raise Fault("a number is not finite, which JSON cannot express") from None


def _collected(budget: Budget, parts: Any) -> str:
    """Join parts of text within the size limit, because indentation can multiply the length of a nested value."""
    texts, total = [], 0
    for part in parts:
        texts.append(part)
        total += len(part)
        budget.size(total)
    return "".join(texts)


@function("from_json(text)", example="{{ from_json('{\"a\": 5}').a }}", result="5", is_filter=True)
def from_json(_frame: Frame, text: str) -> object:
    """Parse JSON."""
    try:
        return json.loads(string_argument(text, "from_json"), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise Fault(f"not JSON: {error.msg} in line {error.lineno}") from None


@function("to_yaml(value)", example="{{ {'a': [1, 'b']} | to_yaml }}", result="a:\n- 1\n- b\n", is_filter=True)
def to_yaml(frame: Frame, value: object) -> str:
    """Encode a value as YAML."""
    from infrakit.template import yaml_values

    return yaml_values.write(json.loads(to_json.body(frame, value)))  # type: ignore[arg-type]


@function("from_yaml(text)", example="{{ from_yaml('a: [no, 5]').a }}", result='["no", 5]', is_filter=True)
def from_yaml(frame: Frame, text: str) -> object:
    """Parse YAML 1.2. Anchors, aliases and tags are rejected."""
    from infrakit.template import yaml_values

    return yaml_values.read(string_argument(text, "from_yaml"), frame.run.budget)


@function("base64(text)", example="{{ 'user:pass' | base64 }}", result="dXNlcjpwYXNz", is_filter=True)
def base64(_frame: Frame, text: str) -> str:
    """Encode a string as Base64 of its UTF-8 bytes."""
    return _base64.b64encode(string_argument(text, "base64").encode()).decode()


@function("unbase64(text)", example="{{ unbase64('aGVsbG8=') }}", result="hello", is_filter=True)
def unbase64(_frame: Frame, text: str) -> str:
    """Decode Base64 to a UTF-8 string."""
    try:
        return _base64.b64decode(string_argument(text, "unbase64"), validate=True).decode()
    except (binascii.Error, ValueError):
        raise Fault("not the Base64 encoding of UTF-8 text") from None


@function(
    "hash(text, algorithm)",
    example="{{ hash('hello') | truncate(15) }} {{ 'hello' | hash('md5') }}",
    result="2cf24dba5fb0... 5d41402abc4b2a76b9719d911017c592",
    is_filter=True,
)
def hash_(_frame: Frame, text: str, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a string: md5, sha1, sha224, sha256 (the default), sha384, sha512 or blake2b."""
    if algorithm not in _ALGORITHMS:
        raise Fault(f"unknown hash algorithm {algorithm!r}", f"use one of {', '.join(_ALGORITHMS)}")
    return hashlib.new(algorithm, string_argument(text, "hash").encode(), usedforsecurity=False).hexdigest()


@function(
    "jmespath(query, value)",
    example="{{ jmespath('[?up].name', [{'name': 'a', 'up': true}, {'name': 'b', 'up': false}]) }}",
    result='["a"]',
)
def jmespath(frame: Frame, query: str, value: object) -> object:
    """Return the result of a JMESPath query on a value; null if nothing matches."""
    from infrakit.template import queries

    return queries.search(query, value, frame.run.budget)


q = alias(jmespath, "q(query, value)", example="{{ q('a.b', {'a': {'b': 2}}) }}", result="2")
json_encode = alias(to_json, "jsonEncode(value, indent)", example="{{ jsonEncode([1]) }}", result="[1]")
json_decode = alias(from_json, "jsonDecode(text)", example="{{ jsonDecode('[1]') }}", result="[1]")
yaml_encode = alias(to_yaml, "yamlEncode(value)", example="{{ yamlEncode([1]) }}", result="- 1\n")
yaml_decode = alias(from_yaml, "yamlDecode(text)", example="{{ yamlDecode('- 1') }}", result="[1]")


def _no_constant(name: str) -> object:
    raise Fault(f"not JSON: found {name}, expected a finite number")
