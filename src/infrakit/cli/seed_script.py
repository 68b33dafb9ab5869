"""What `infrakit init` prints: a boot script and a declaration on their way to `infrakit init --start` elsewhere.

Both travel as they are, so that whoever reads the script sees what will run. They are written where nobody else can
read them, for as long as it takes. Standard input may be this very script, so nothing but the shell may read it.
"""

import shlex
from collections.abc import Sequence

from infrakit.spi.values import InstanceSpec

_WORDS_OF_A_RUN = ("infrakit.token", "infrakit.created")  # made anew by each run


def text(*, what: str, plugin: str, spec: InstanceSpec, declaration: str, words: Sequence[str]) -> str:
    """For `sh`. `words` are those of `infrakit init --start` beyond the two files."""
    lines = [
        "#!/bin/sh",
        f"# Makes this machine {_comment(what)}. InfraKit, which starts on it, makes the others.",
        "# Safe to run again: where the declaration is in its store, nothing is made.",
        "#",
        f"# The plugin {_comment(plugin)} makes the node, with",
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
    tags = [f"tag {k}={v}" for k, v in sorted((spec.tags or {}).items()) if k not in _WORDS_OF_A_RUN]
    logical_id = [f"logical ID {spec.logical_id}"] if spec.logical_id else []
    return [*logical_id, *(f"{each.type} {each.id}" for each in spec.attachments or ()), *tags]


def _comment(told: str) -> str:
    return " ".join(told.split())


def _file(name: str, content: str, mark: str) -> list[str]:
    """The file of exactly that text, but for the end of its last line."""
    body = content.removesuffix("\n").split("\n")
    while mark in body:
        mark += "_"
    return [f"cat >\"$seed/{name}\" <<'{mark}'", *body, mark, ""]
