"""Finds every problem of a value by the JSON Schema of its type, and explains each in our own messages.

msgspec decodes fast but stops at the first mistake, and an author needs all of them. So after msgspec has rejected a
value, jsonschema validates it against a schema that is generated from the same types. jsonschema is imported only then,
because that takes longer than decoding a valid document. Our messages state what was found, what was expected, and the
nearest known name.
"""

import difflib
import functools
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from infrakit.spec import path

FINDINGS_MAX = 100  # per group or plugin; more would not help

_SECRET = re.compile(r"passw|secret|token|credential|private|key$", re.IGNORECASE)
_KINDS = {"string": "text", "integer": "an integer", "number": "a number", "boolean": "true or false"}
_INSIDE = ("additionalProperties", "required", "anyOf")
_UNITS = {"string": " characters", "array": " elements", "object": " members"}
_KINDS |= {"array": "a list", "object": "a mapping", "null": "null"}


class Finding(NamedTuple):
    """One problem, at a place relative to the checked value."""

    steps: path.Steps
    message: str
    hint: str = ""


def findings(type_: Any, value: Any) -> list[Finding]:
    """Return all problems, without duplicates; none if the schema accepts a value that msgspec has rejected."""
    errors = itertools.islice(_validator(type_).iter_errors(value), FINDINGS_MAX)
    explained = dict.fromkeys(itertools.islice(_explained(errors), FINDINGS_MAX))
    # The finding for `Allocaton` already explains why `Allocation` is missing.
    intended = {(*f.steps[:-1], _name_in(f.hint)) for f in explained if f.message == "unknown field"}
    kept = [f for f in explained if not (f.message.startswith("missing") and f.steps in intended)]
    return sorted(kept, key=lambda finding: _place(value, finding.steps))


def unknown_field(steps: path.Steps, known: Iterable[str]) -> Finding:
    """Return the finding for an unknown field, the last step."""
    names = list(known)
    near = nearest(str(steps[-1]), names)
    return Finding(steps, "unknown field", f'did you mean "{near}"?' if near else "known here: " + ", ".join(names))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to this one, regardless of case."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(path.shorten(name).lower(), by_lower, n=1)
    return by_lower[matches[0]] if matches else None


def mismatch(steps: path.Steps, value: Any, expected: str) -> Finding:
    """Return a finding such as `found 3, expected text`. A value that may be a secret is not shown."""
    wants_text = expected.startswith("text") and isinstance(value, bool | int | float)
    named = next((step for step in reversed(steps) if isinstance(step, str)), "")
    return Finding(
        steps, f"found {_shown(value, named)}, expected {expected}", "put it in quotes" if wants_text else ""
    )


@functools.cache
def _validator(type_: Any) -> Any:
    import jsonschema

    def any_of(validator: Any, alternatives: list[Any], instance: Any, _: Any) -> Iterator[Any]:
        """Like jsonschema's `anyOf`, but limit the collected errors of a long list."""
        context: list[Any] = []
        for index, alternative in enumerate(alternatives):
            errors = list(itertools.islice(validator.descend(instance, alternative, schema_path=index), FINDINGS_MAX))
            if not errors:
                return
            context += errors
        yield jsonschema.ValidationError("none of the alternatives", context=context)

    draft = jsonschema.Draft202012Validator
    strict = draft.TYPE_CHECKER.redefine("integer", lambda _, v: isinstance(v, int) and not isinstance(v, bool))
    validator: Any = jsonschema.validators.extend(draft, {"anyOf": any_of}, type_checker=strict)  # type: ignore[no-untyped-call]
    return validator(msgspec.json.schema(type_))


def _explained(errors: Iterable[Any]) -> Iterator[Finding]:
    for error in errors:
        steps: path.Steps = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            known = error.schema.get("properties", {})
            yield from (unknown_field((*steps, name), known) for name in error.instance if name not in known)
        elif error.validator == "required":
            missing = (name for name in error.validator_value if name not in error.instance)
            yield from (Finding((*steps, name), "missing: this field is required") for name in missing)
        elif error.validator == "anyOf":
            yield from _alternatives(steps, error)
        else:
            yield mismatch(steps, error.instance, _expected(error.schema))


def _alternatives(steps: path.Steps, error: Any) -> Iterator[Finding]:
    """Explain that no alternative fits: the problems of the intended one, or else all accepted types."""
    branches: dict[int, list[Any]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    intended = [errors for errors in branches.values() if not any(_excludes(e) for e in errors)]
    nearest_intended = min(intended, key=len, default=[])
    tags = [e for e in error.context if e.validator in ("const", "enum") and len(e.relative_path) == 1]
    if any(e.relative_path or e.validator in _INSIDE for e in nearest_intended):
        yield from _explained(nearest_intended)
    elif tags and not intended:
        expected = " or ".join(dict.fromkeys(_expected(tag.schema) for tag in tags))
        yield mismatch(tuple(tags[0].absolute_path), tags[0].instance, expected)
    else:
        yield mismatch(steps, error.instance, _expected(error.schema))


def _excludes(error: Any) -> bool:
    """Whether an alternative cannot be the intended one: another kind of value, or a mapping with another tag."""
    if error.validator == "type":
        return not error.relative_path
    return error.validator in ("const", "enum") and len(error.relative_path) <= 1


def _expected(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "")
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        expected = ("one of " if len(values) > 1 else "") + ", ".join(json.dumps(value) for value in values)
    elif "anyOf" in schema:
        alternatives = (_expected(each) for each in schema["anyOf"] if each != {"type": "null"})
        expected = " or ".join(dict.fromkeys(alternatives))
    elif "$ref" in schema:
        expected = "a mapping"
    elif "pattern" in schema:
        expected = str(schema.get("description") or f"text that matches {schema['pattern']}")
    else:
        expected = _KINDS.get(kind, "another value") + _bounds(schema, _UNITS.get(kind, ""))
    return expected


def _bounds(schema: dict[str, Any], unit: str) -> str:
    low = next((schema[name] for name in ("minimum", "minLength", "minItems", "minProperties") if name in schema), None)
    high = next(
        (schema[name] for name in ("maximum", "maxLength", "maxItems", "maxProperties") if name in schema), None
    )
    if (low, high, unit) == (1, None, _UNITS["string"]):
        return " that is not empty"
    if low is not None and high is not None:
        return f" from {low} to {high}{unit}"
    if low is not None:
        return f" of at least {low}{unit}"
    return f" of at most {high}{unit}" if high is not None else ""


def _place(value: Any, steps: path.Steps) -> list[int]:
    """Return the sort key of a place: jsonschema reports errors in no fixed order."""
    place = []
    for step in steps:
        if isinstance(value, dict) and step in value:
            place.append(list(value).index(str(step)))
        else:
            place.append(step if isinstance(step, int) else -1)
        value = value[step] if isinstance(value, list) or place[-1] >= 0 else None
    return place


def _shown(value: Any, name: str) -> str:
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None:
        return "null"
    if _SECRET.search(name):
        return "text" if isinstance(value, str) else "another value"
    shown = json.dumps(path.shorten(value) if isinstance(value, str) else value, ensure_ascii=False)
    return path.shorten(shown) if not isinstance(value, str) else shown


def _name_in(hint: str) -> str:
    return hint.removeprefix('did you mean "').removesuffix('"?')
