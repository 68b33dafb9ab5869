"""The boot script of an instance: the templates that it consists of, and the instance that they are rendered for."""

import msgspec

from infrakit.flavors.vanilla import placeholders
from infrakit.flavors.vanilla.properties import Individual, Properties, lines
from infrakit.spec import path as paths
from infrakit.spi.values import Allocation, Index, InstanceSpec
from infrakit.template import boot
from infrakit.template.boot import Script

_NOTHING = Individual()


def of(declared: Properties, logical_id: str | None) -> list[Script]:
    """Return the templates of an instance: the script of all, then that of this pet."""
    own = individual(declared, logical_id)
    found = []
    if declared.init_script_template_url:
        found.append(Script(path="InitScriptTemplateURL", address=declared.init_script_template_url))
    elif declared.init:
        found.append(Script(path="Init", text="\n".join(lines(declared.init))))
    if own.init:
        place = paths.join(("ByLogicalID", logical_id or "", "Init"))
        found.append(Script(path=place, text="\n".join(lines(own.init))))
    return found


def individual(declared: Properties, logical_id: str | None) -> Individual:
    """Return the properties of one pet, in addition to those of all."""
    return declared.by_logical_id.get(logical_id or "", _NOTHING)


def completed(declared: Properties, spec: InstanceSpec, index: Index) -> InstanceSpec:
    """Add tags and attachments. Declared tags override those of the group; those of InfraKit override both."""
    own = {name: value for name, value in (spec.tags or {}).items() if name.startswith("infrakit.")}
    tags = {**(spec.tags or {}), **declared.tags, **individual(declared, spec.logical_id).tags, **own}
    if declared.port is not None:
        tags[placeholders.TAG_PORT] = str(declared.port.base + index.sequence)
    attachments = (*(spec.attachments or ()), *declared.attached(spec.logical_id))
    return msgspec.structs.replace(spec, tags=dict(sorted(tags.items())), attachments=attachments or None)


def examples(
    declared: Properties, properties: msgspec.Raw, allocation: Allocation
) -> dict[Script, list[boot.Instance]]:
    """Return every template with example instances to validate it; empty if two scripts exclude each other."""
    if declared.init and declared.init_script_template_url:
        return {}
    found: dict[Script, list[boot.Instance]] = {}
    for example in boot.examples(properties, allocation):
        instance = msgspec.structs.replace(example, spec=completed(declared, example.spec, example.index))
        for script in of(declared, example.spec.logical_id):
            found.setdefault(script, []).append(instance)
    return found
