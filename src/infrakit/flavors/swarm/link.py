"""The link between an instance and its node: a tag here, a label of the Engine there, the same text for both.

It is made from the token of the intent, which is another one for each instance. So a node with the link of an instance
is what that very instance has become, and not what an earlier one of the same address has left.
"""

import base64
import hashlib
from collections.abc import Mapping

from infrakit.spi import errors
from infrakit.spi.values import TAG_CREATED, TAG_GROUP, TAG_LOGICAL_ID, TAG_TOKEN, Description, InstanceSpec, LogicalID

# The names that the original gives to these tags; the first is a label of the Engine too.
LINK = "infrakit_link"
CONTEXT = "infrakit_link_context"
CREATED = "infrakit_link_created"
CLUSTER = "infrakit.cluster.id"

OWN_LABELS = {LINK, CONTEXT, CREATED, TAG_GROUP, TAG_LOGICAL_ID}
_LENGTH = 16


def link(spec: InstanceSpec) -> str:
    """The same for the same token. Raises `Refused` without one."""
    token = (spec.tags or {}).get(TAG_TOKEN)
    if not token:
        raise errors.Refused(f"an instance without the tag {TAG_TOKEN} cannot be linked to its node", where="swarm")
    return _made_from(token)


def tags(spec: InstanceSpec, *, role: str, cluster: str) -> dict[str, str]:
    """Those of the spec, and the link's; `cluster`: the ID of the Swarm, empty if there is none yet."""
    given = spec.tags or {}
    known = {
        LINK: link(spec),
        CONTEXT: f"swarm::{cluster or '?'}::{role}",
        CREATED: given.get(TAG_CREATED, ""),
        CLUSTER: cluster,
    }
    return {**given, **{name: value for name, value in known.items() if value}}


def labels(spec: InstanceSpec, group: str, more: Mapping[str, str]) -> list[str]:
    """What the Engine is started with, as NAME=VALUE."""
    own = {LINK: link(spec), TAG_GROUP: group}
    if spec.logical_id:
        own[TAG_LOGICAL_ID] = spec.logical_id
    return [f"{name}={value}" for name, value in {**more, **own}.items()]


def of(instance: Description) -> str:
    """The link of an instance, also of one that was only just asked for and has no more than its token; or empty."""
    known = instance.tags or {}
    return known.get(LINK) or _made_from(known.get(TAG_TOKEN, ""))


def _made_from(token: str) -> str:
    return base64.b32encode(hashlib.sha256(token.encode()).digest()).decode().lower()[:_LENGTH] if token else ""


def logical_id(instance: Description) -> LogicalID | None:
    """As its provider tells it, or its tag."""
    found = instance.logical_id or (instance.tags or {}).get(TAG_LOGICAL_ID)
    return LogicalID(found) if found else None
