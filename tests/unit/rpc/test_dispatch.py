"""Which method of which object a request reaches, and the error if there is none."""

import logging

import pytest

from infrakit.rpc import failures
from infrakit.rpc.dispatch import Dispatcher
from infrakit.spi.instance import DestroyContext
from infrakit.spi.values import Allocation, Description, Health, HealthReport, InstanceID, InstanceSpec
from tests.unit.cli.canned import CannedManager
from tests.unit.rpc.asking import ask
from tests.unit.rpc.plugins import Controller, FlavorPlugin, Plugin, Provider


class Both(FlavorPlugin, Controller):
    """An object of two kinds."""


async def test_every_object_is_announced_under_every_interface_it_satisfies() -> None:
    objects = {"b": Provider(), "a": Provider(), "both": Both(), ".": CannedManager(), "none": object()}
    reply = await ask(Dispatcher(objects), "Handshake.Hello")
    assert reply["result"] == {
        "Objects": {
            "Instance/0.6.1": [{"Name": "a", "ProxyFor": ""}, {"Name": "b", "ProxyFor": ""}],
            "Flavor/0.1.1": [{"Name": "both", "ProxyFor": ""}],
            "Group/0.1.1": [{"Name": "both", "ProxyFor": ""}],
            "Manager/0.1.0": [{"Name": ".", "ProxyFor": ""}],
        }
    }


async def test_the_old_handshake_announces_what_the_first_releases_of_the_original_know() -> None:
    dispatcher = Dispatcher({".": (Provider(), FlavorPlugin()), "groups": Controller()})
    reply = await ask(dispatcher, "Handshake.Implements")
    assert reply["result"]["APIs"] == [
        {"Name": "Instance", "Version": "0.6.1"},
        {"Name": "Instance", "Version": "0.5.0"},
        {"Name": "Instance", "Version": "0.3.0"},
        {"Name": "Flavor", "Version": "0.1.1"},
        {"Name": "Flavor", "Version": "0.1.0"},
        {"Name": "Group", "Version": "0.1.1"},
        {"Name": "Group", "Version": "0.1.0"},
    ]
    # Their requests lack what came later: Context, Properties, Index, Name.
    for method, params in (
        ("Instance.Destroy", {"Type": "", "Instance": "i-1"}),
        ("Instance.DescribeInstances", {"Type": "", "Tags": {"a": "b"}}),
        ("Flavor.Prepare", {"Type": "", "Properties": {}, "Spec": {"Init": "x"}, "Allocation": {"Size": 1}}),
        ("Group.InspectGroups", {}),
        ("Group.DescribeGroup", {"ID": "web"}),
    ):
        assert "result" in await ask(dispatcher, method, params), method
    assert (await ask(dispatcher, "Group.FreeGroup", {"ID": "web"}))["result"]["OK"] is True


async def test_a_call_reaches_the_object_with_its_types() -> None:
    flavor = FlavorPlugin()
    flavor.report = HealthReport(health=Health.UNHEALTHY, note="tcp refused")
    params = {"Properties": {"a": 1}, "Instance": {"ID": "i-1", "LogicalID": None, "Tags": None}}
    reply = await ask(Dispatcher({".": flavor}), "Flavor.Healthy", params)
    assert reply == {"result": {"Type": "", "Health": 2, "Note": "tcp refused"}}
    assert flavor.asked == [
        ("healthy", {"properties": b'{"a": 1}', "instance": Description(id=InstanceID("i-1"))}),
    ]


async def test_nested_values_are_typed_too() -> None:
    flavor = FlavorPlugin()
    params = {
        "Properties": None,
        "Spec": {"Init": "x"},
        "Allocation": {"Size": 3, "LogicalIDs": None},
        "Index": {"Group": "g", "Sequence": 3},
    }
    assert "result" in await ask(Dispatcher({".": flavor}), "Flavor.Prepare", params)
    ((_, arguments),) = flavor.asked
    assert arguments["allocation"] == Allocation(size=3)
    assert isinstance(arguments["spec"], InstanceSpec)
    assert arguments["index"].sequence == 3


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("Instance.Explode", 'rpc: can\'t find method "Instance.Explode"'),
        ("Instance.validate", 'rpc: can\'t find method "Instance.validate"'),
        ("Handshake.Types", 'rpc: can\'t find method "Handshake.Types"'),
        ("Flavor.Validate", 'rpc: can\'t find service "Flavor.Validate"'),
        ("instance.Validate", 'rpc: can\'t find service "instance.Validate"'),
        ("Instance.__init__", 'rpc: can\'t find method "Instance.__init__"'),
        ("Instance._asked", 'rpc: can\'t find method "Instance._asked"'),
        ("Instance", 'rpc: service/method request ill-formed: "Instance"'),
        ("", 'rpc: service/method request ill-formed: ""'),
        ("a.b.c", 'rpc: service/method request ill-formed: "a.b.c"'),
    ],
)
async def test_an_unknown_method_is_named(method: str, message: str) -> None:
    reply = await ask(Dispatcher({".": Provider()}), method)
    assert reply == {"error": {"code": failures.APPLICATION_ERROR, "message": message, "data": None}}


@pytest.mark.parametrize(
    ("objects", "type_", "reached"),
    [
        (". a", "", "."),
        (". a", ".", "."),
        (". a", "a", "a"),
        ("a b/c", "b/c", "b/c"),
        ("a", "", None),
        ("a", "b", None),
        (".", "a", None),
    ],
)
async def test_a_type_selects_exactly(objects: str, type_: str, reached: str | None) -> None:
    plugins = {name: Provider(name) for name in objects.split()}
    reply = await ask(Dispatcher(plugins), "Instance.Validate", {"Type": type_, "Properties": {}})
    if reached is None:
        assert reply["error"]["message"] == f"no-plugin:{type_}"
    assert called_object(plugins) == reached


@pytest.mark.parametrize(
    ("objects", "name", "reached"),
    [
        # A single object is found by every name without a type, and by its own name.
        ("groups", "", "groups"),
        ("groups", ".", "groups"),
        ("groups", "anything", "groups"),
        ("groups", "./anything", "groups"),
        ("groups", "zzz/groups", "groups"),
        ("groups", "zzz/nope", None),
        # Among several the name decides.
        ("groups .", "", "."),
        ("groups .", "group", "."),
        ("groups .", ".", "."),
        ("groups other", "group/groups", "groups"),
        ("groups other", "zzz/groups", "groups"),
        ("groups other", "a/b/groups", "groups"),
        ("groups other", "a/b/c/groups", None),
        ("groups c/groups", "a/b/c/groups", "c/groups"),
        ("groups other", "group", None),
        ("groups other", ".", None),
        ("groups other", "", None),
        ("groups other", "other/groups", "other"),  # the original checks the first part first
        ("groups other", "groups", None),
    ],
)
async def test_a_name_selects_as_in_the_original(objects: str, name: str, reached: str | None) -> None:
    plugins = {key: Controller(key) for key in objects.split()}
    reply = await ask(Dispatcher(plugins), "Group.Size", {"Name": name, "ID": "web"})
    if reached is None:
        assert reply["error"]["message"] == f"not found: {name} (key={name.partition('/')[2]})"
    else:
        assert reply["result"]["Name"] == name
    assert called_object(plugins) == reached


async def test_an_unexpected_exception_is_returned_and_its_traceback_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = Provider()
    provider.failure = ZeroDivisionError("division by zero")
    reply = await ask(Dispatcher({".": provider}), "Instance.Validate", {})
    assert reply["error"] == {"code": failures.APPLICATION_ERROR, "message": "division by zero", "data": None}
    assert [(r.levelno, r.message) for r in caplog.records] == [(logging.ERROR, "Instance.Validate failed")]
    assert "Traceback" in caplog.text


async def test_an_exception_without_a_message_is_named_by_its_type() -> None:
    provider = Provider()
    provider.failure = KeyError()
    reply = await ask(Dispatcher({".": provider}), "Instance.Validate", {})
    assert reply["error"]["message"] == "KeyError"


async def test_a_result_that_json_cannot_encode_is_an_error() -> None:
    provider = Provider()
    provider.made = "i-\udcff"
    reply = await ask(Dispatcher({".": provider}), "Instance.Provision", {"Spec": {}})
    assert "surrogates not allowed" in reply["error"]["message"]


def called_object(plugins: dict[str, Provider] | dict[str, Controller]) -> str | None:
    """The one object that was called."""
    reached: list[Plugin] = [plugin for plugin in plugins.values() if plugin.asked]
    assert len(reached) <= 1
    return reached[0].name if reached else None


async def test_fields_that_older_clients_do_not_send_have_defaults() -> None:
    provider, flavor = Provider(), FlavorPlugin()
    assert "result" in await ask(Dispatcher({".": provider}), "Instance.Destroy", {"Instance": "i-1"})
    assert provider.asked[0][1]["context"] == DestroyContext()
    params = {"Properties": {}, "Spec": {}, "Allocation": {"Size": 3}}
    assert "result" in await ask(Dispatcher({".": flavor}), "Flavor.Prepare", params)
    assert flavor.asked[0][1]["index"].sequence == 1


@pytest.mark.parametrize(
    ("repeats", "method", "is_kept"), [(1, "Flavor.Healthy", False), (800, "Flavor.Healthy", True)]
)
async def test_large_parameters_that_are_the_same_are_decoded_once(repeats: int, method: str, is_kept: bool) -> None:
    plugin = FlavorPlugin()
    dispatcher = Dispatcher({".": plugin})
    tags = {f"tag-{number}": "a value" for number in range(repeats)}
    for instance in ("i-1", "i-1", "i-2"):
        await ask(dispatcher, "Flavor.Healthy", {"Properties": {}, "Instance": {"ID": instance, "Tags": tags}})
    first, second, third = (call["instance"] for _, call in plugin.asked)
    assert (second is first) is is_kept
    assert (first.id, second.id, third.id) == ("i-1", "i-1", "i-2")
    assert third.tags == tags


async def test_parameters_of_a_change_are_never_kept() -> None:
    plugin = FlavorPlugin()
    dispatcher = Dispatcher({".": plugin})
    tags = {f"tag-{number}": "a value" for number in range(800)}
    for _ in range(2):
        await ask(dispatcher, "Flavor.Drain", {"Properties": {}, "Instance": {"ID": "i-1", "Tags": tags}})
    first, second = (call["instance"] for _, call in plugin.asked)
    assert first == second
    assert first is not second
