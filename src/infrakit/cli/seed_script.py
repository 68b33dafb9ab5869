"""The script that `infrakit init` prints: it carries a boot script and a declaration for `infrakit init --start`.

Both are included verbatim, so that an operator can read in the script what will run. On the target machine they are
written to a temporary directory that only its owner can read. Standard input may be this script itself, so only the
shell may read it.
"""

import shlex
from collections.abc import Sequence

from infrakit.spi.values import InstanceSpec

_TAGS_OF_A_RUN = ("infrakit.token", "infrakit.created")  # tags whose values each run generates


def text(*, what: str, plugin: str, spec: InstanceSpec, declaration: str, words: Sequence[str]) -> str:
    """Build the script, for `sh`. `words` are the arguments of `infrakit init --start` besides the two files."""
    lines = [
        "#!/bin/sh",
        f"# Turns this machine into {_comment(what)}. InfraKit starts on it and creates the other nodes.",
        "# Safe to run again: if the declaration is already in its store, nothing is created.",
        "#",
        f"# The plugin {_comment(plugin)} creates the node, with",
        *(f"#   {_comment(line)}" for line in _facts(spec)),
        "",
        "set -eu",
        "umask 077",
        "seed=$(mktemp -d)",
        "trap 'rm -rf \"$seed\"' EXIT",
        "trap 'exit 143' HUP INT TERM",
        *_file("boot", spec.init, "BOOT_SCRIPT"),
        *_file("infrakit.yaml", declaration, "DECLARATION"),
        'infrakit init "$seed/infrakit.yaml" --start --boot "$seed/boot" \\',
        f"\t{shlex.join(words)} </dev/null",
    ]
    return "\n".join(lines) + "\n"


def _facts(spec: InstanceSpec) -> list[str]:
    tags = [f"tag {k}={v}" for k, v in sorted((spec.tags or {}).items()) if k not in _TAGS_OF_A_RUN]
    logical_id = [f"logical ID {spec.logical_id}"] if spec.logical_id else []
    return [*logical_id, *(f"{each.type} {each.id}" for each in spec.attachments or ()), *tags]


def _comment(text: str) -> str:
    return " ".join(text.split())


def _file(name: str, content: str, mark: str) -> list[str]:
    """Build a here-document that writes the text to a file; the last line always ends with a newline."""
    body = content.removesuffix("\n").split("\n")
    while mark in body:
        mark += "_"
    return [f"cat >\"$seed/{name}\" <<'{mark}'", *body, mark, ""]
