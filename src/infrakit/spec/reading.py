"""Parses bytes to a tree of values with lines. Oversized, binary and non-UTF-8 input is refused first."""

import codecs

import msgspec

from infrakit.spec import json_text
from infrakit.spec.tree import Builder, Tree
from infrakit.spi.errors import InvalidSpec, Problem

BYTES_MAX = 10_000_000
_NO_DOCUMENT = "did not find expected <document start>"  # the parser's words for a text that is something else
_EXPECTED = "a document is a list of groups, as `infrakit sample` prints some"


def read(text: bytes | str, *, source: str) -> Tree:
    """Parse JSON or YAML. Raises `InvalidSpec` with one problem, because nothing after it can be trusted."""
    try:
        return _tree(_decoded(text))
    except InvalidSpec as error:
        raise InvalidSpec(error.problems, where=source) from None


def _tree(text: str) -> Tree:
    not_json = None
    if json_text.may_be_json(text):
        builder = Builder()
        not_json = json_text.read(text, builder)
        if not_json is None:
            return builder.tree
    from infrakit.spec import yaml_text  # imported late: JSON does not need the YAML parser

    builder = Builder()
    try:
        yaml_text.read(text, builder)
    except InvalidSpec as error:
        not_yaml = error.problems[0]
        # YAML's flow style resembles JSON. The parser that got further reports the more useful error.
        if not_json is not None and (not_json.line or 0) >= (not_yaml.line or 0):
            raise InvalidSpec([not_json]) from None
        if _NO_DOCUMENT in not_yaml.message:
            message = f"neither JSON nor YAML: {not_yaml.message.partition(': ')[2]}"
            raise InvalidSpec([msgspec.structs.replace(not_yaml, message=message, hint=_EXPECTED)]) from None
        raise
    return builder.tree


def _decoded(text: bytes | str) -> str:
    if len(text) > BYTES_MAX:
        raise _refused(f"the document has {len(text):,} bytes, expected at most {BYTES_MAX:,}")
    if isinstance(text, str):
        try:
            text = text.encode()
        except UnicodeEncodeError as error:
            raise _refused(f"not Unicode: half of a surrogate pair at character {error.start}") from None
        if len(text) > BYTES_MAX:
            raise _refused(f"the document has {len(text):,} bytes, expected at most {BYTES_MAX:,}")
    mark = len(codecs.BOM_UTF8) if text.startswith(codecs.BOM_UTF8) else 0
    text = text[mark:]
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        found = f"not UTF-8: found the byte 0x{text[error.start]:02x} at offset {mark + error.start}"
        raise _refused(found, line, "save the document as UTF-8") from None
    nul = decoded.find("\0")
    if nul >= 0:
        found = f"found a NUL byte at offset {mark + len(decoded[:nul].encode())}"
        raise _refused(found, decoded.count("\n", 0, nul) + 1, "save the document as UTF-8")
    return decoded


def _refused(message: str, line: int | None = None, hint: str = "") -> InvalidSpec:
    return InvalidSpec([Problem(path="", message=message, line=line, hint=hint)])
