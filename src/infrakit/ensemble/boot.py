"""The boot script of a member: the declared template, or the packaged one of its flavor, and its variables."""

from collections.abc import Iterator, Mapping

import msgspec

from infrakit.spi.errors import Problem
from infrakit.spi.values import Attachment
from infrakit.template.boot import BootScripts, Instance, Script


def declared_script(init: tuple[str, ...] | str, url: str, *, default: Script) -> Script:
    """Return the declared template, or the default."""
    if url:
        return Script(path="InitScriptTemplateURL", address=url)
    if init:
        return Script(path="Init", text=init if isinstance(init, str) else "\n".join(init))
    return default


def script_problems(init: tuple[str, ...] | str, url: str) -> Iterator[Problem]:
    """Report a problem if both Init and InitScriptTemplateURL are declared."""
    if init and url:
        yield Problem(path="InitScriptTemplateURL", message="Init is declared, too", hint="choose one of the two")


def completed(
    instance: Instance,
    scripts: BootScripts,
    *,
    attachments: tuple[Attachment, ...],
    variables: Mapping[str, object],
    default: Script,
) -> Instance:
    """Add attachments, variables, and `default_script`: the packaged script, for templates that extend it."""
    every = (*(instance.spec.attachments or ()), *attachments)
    spec = msgspec.structs.replace(instance.spec, attachments=every or None)
    plain = msgspec.structs.replace(instance, spec=spec, more=dict(variables))
    return msgspec.structs.replace(plain, more={**variables, "default_script": scripts.default(default, plain)})
