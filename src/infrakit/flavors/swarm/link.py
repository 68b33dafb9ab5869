"""The link between an instance and its node: one value, in a tag of the instance and in a label of its Engine.

It is derived from the token of the intent, which is unique to each instance. So a node with the link of an instance
belongs to exactly this instance, and not to an earlier one with the same address.
"""

import base64
import hashlib
from collections.abc import Mapping

from infrakit.spi import errors
from infrakit.spi.values import TAG_CREATED, TAG_GROUP, TAG_LOGICAL_ID, TAG_TOKEN, Description, InstanceSpec, LogicalID

# The original names of these tags; the first is also a label of the Engine.
LINK = "infrakit_link"
CONTEXT = "infrakit_link_context"
CREATED = "infrakit_link_created"
CLUSTER = "infrakit.cluster.id"

OWN_LABELS = {LINK, CONTEXT, CREATED, TAG_GROUP, TAG_LOGICAL_ID}
_LENGTH = 16


def link(spec: InstanceSpec) -> str:
    """Derive the link of an instance from its token. Raises `Refused` without a token."""
    token = (spec.tags or {}).get(TAG_TOKEN)
    if not token:
        raise errors.Refused(f"an instance without the tag {TAG_TOKEN} cannot be linked to its node", where="swarm")
    return _derived_from(token)


def tags(spec: InstanceSpec, *, role: str, cluster: str) -> dict[str, str]:
    """Return the tags of the spec and of the link; `cluster`: the ID of the Swarm, empty if there is none yet."""
    given = spec.tags or {}
    known = {
        LINK: link(spec),
        CONTEXT: f"swarm::{cluster or '?'}::{role}",
        CREATED: given.get(TAG_CREATED, ""),
        CLUSTER: cluster,
    }
    return {**given, **{name: value for name, value in known.items() if value}}


def labels(spec: InstanceSpec, group: str, more: Mapping[str, str]) -> list[str]:
    """Return the labels with which the Engine is started, as NAME=VALUE."""
    own = {LINK: link(spec), TAG_GROUP: group}
    if spec.logical_id:
        own[TAG_LOGICAL_ID] = spec.logical_id
    return [f"{name}={value}" for name, value in {**more, **own}.items()]


def of(instance: Description) -> str:
    """Return the link of an instance, or empty. For an instance that is not listed yet, its token suffices."""
    known = instance.tags or {}
    return known.get(LINK) or _derived_from(known.get(TAG_TOKEN, ""))


def _derived_from(token: str) -> str:
    return base64.b32encode(hashlib.sha256(token.encode()).digest()).decode().lower()[:_LENGTH] if token else ""


def logical_id(instance: Description) -> LogicalID | None:
    """Return the logical ID that the provider reports, or that of its tag."""
    found = instance.logical_id or (instance.tags or {}).get(TAG_LOGICAL_ID)
    return LogicalID(found) if found else None
