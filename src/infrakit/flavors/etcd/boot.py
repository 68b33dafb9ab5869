"""The boot script of a member: a template, `boot.sh.j2` unless another is declared, and its variables."""

from collections.abc import Iterable

from infrakit.ensemble import boot as ensemble
from infrakit.flavors.etcd.properties import Properties, listening
from infrakit.spi.values import LogicalID
from infrakit.template import boot
from infrakit.template.boot import BootScripts, Instance, Script

DEFAULT = boot.packaged(__package__, "boot.sh.j2", "the boot script of etcd")


def script(declared: Properties) -> Script:
    """Return the declared template, or the default."""
    return ensemble.declared_script(declared.init, declared.init_script_template_url, default=DEFAULT)


def completed(
    declared: Properties, instance: Instance, scripts: BootScripts, *, observed: Iterable[str] = ()
) -> Instance:
    """Add the volume and the variables `etcd` and `default_script`. `observed`: members, declared or not."""
    logical_id = instance.spec.logical_id or LogicalID("")
    attachments = declared.attachments(logical_id)
    variables = {"etcd": _etcd(declared, instance, logical_id, observed)}
    return ensemble.completed(instance, scripts, attachments=attachments, variables=variables, default=DEFAULT)


def _etcd(
    declared: Properties, instance: Instance, logical_id: LogicalID, observed: Iterable[str]
) -> dict[str, object]:
    """Build the variable `etcd`. Only the `first` member may found a cluster, once all `others` report no data."""
    logical_ids = instance.allocation.logical_ids or ()
    others = [each for each in (*logical_ids, *sorted(set(observed) - set(logical_ids))) if each != logical_id]
    first = logical_ids[0] if logical_ids else logical_id
    bind = listening(logical_id)
    return {
        "name": logical_id,
        "client_url": declared.client_url(logical_id),
        "peer_url": declared.peer_url(logical_id),
        "listen_client_url": f"http://{bind}:{declared.client_port}",
        "listen_peer_url": f"http://{bind}:{declared.peer_port}",
        "others": others,
        "endpoints": [declared.client_url(each) for each in (*others, logical_id)],
        "peers": [declared.peer_url(each) for each in (*others, logical_id)],
        "first": first == logical_id,
        "first_peer_url": declared.peer_url(first),
        "token": declared.cluster_token or instance.index.group,
        "data_dir": declared.data_dir,
        "binary": declared.binary,
        "ctl": declared.ctl,
        "extra_args": list(declared.extra_args),
        "run": declared.run,
        "bootstrap": declared.bootstrap,
    }
