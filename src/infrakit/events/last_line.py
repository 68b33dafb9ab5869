"""The last line of a log as part of an event: one short printable line, with anything that resembles a secret masked.

Events are kept longer, and read by more people, than logs. Recognised as secrets are the value after a name such as
`password=` or `token:`, a bearer token, and the password in a URL; other secrets cannot be recognised.
"""

import re

LENGTH_MAX = 200
_CONTROL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
)  # ECMA-48: colours, titles
_SECRETS = (
    (
        re.compile(
            r"""(?ix)
            ((?:password|passwd|passphrase|secret|token|credentials?|(?:api|private|access)[_-]?key)
            [\w-]* ["']? \s* [=:] \s*) (?: "[^"]*" | '[^']*' | \S+ )"""
        ),
        r"\1***",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 ***"),
    (re.compile(r"(\w://[^\s/:@]*:)[^\s/@]+@"), r"\1***@"),
)


def last_line(text: str) -> str:
    """Return the last non-empty line, sanitised; empty if there is none."""
    for line in reversed(text.splitlines()):
        shown = " ".join("".join(c if c.isprintable() else " " for c in _CONTROL.sub("", line)).split())
        if shown:
            for secret, masked in _SECRETS:
                shown = secret.sub(masked, shown)
            return shown if len(shown) <= LENGTH_MAX else shown[: LENGTH_MAX - 1] + "…"
    return ""


def explains_exit(code: int) -> bool:
    """Whether the log can explain this exit code: not for success, nor for termination by a signal."""
    return 0 < code < 128 or code == 255


def as_suffix(line: str) -> str:
    """Format the line as the continuation of a sentence about an exit; empty for an empty line."""
    return f'; its log ends "{line}"' if line else ""
