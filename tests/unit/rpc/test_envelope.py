"""The JSON-RPC envelope: echoed IDs, requests without a response, and refused requests."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrakit.rpc import envelope, failures
from infrakit.rpc.dispatch import DEPTH_MAX, Dispatcher
from tests.unit.rpc.plugins import Provider


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def dispatcher(provider: Provider) -> Dispatcher:
    return Dispatcher({".": provider})


@pytest.mark.parametrize("id_", ["7", '"a\\u0041"', '{"b": [1, 2]}', "1.50", "12345678901234567890123", "false", "[]"])
async def test_the_id_is_echoed_byte_for_byte(dispatcher: Dispatcher, id_: str) -> None:
    reply = await dispatcher.answer(f'{{"jsonrpc":"2.0","method":"Handshake.Hello","id": {id_} }}'.encode())
    assert reply.endswith(b',"id":' + id_.encode() + b"}\n")


@pytest.mark.parametrize("id_", ["", ', "id": null', ',"id" : null '])
async def test_a_notification_is_executed_and_gets_no_response(
    dispatcher: Dispatcher, provider: Provider, id_: str
) -> None:
    body = f'{{"jsonrpc":"2.0","method":"Instance.Validate","params":{{"Properties":1}}{id_}}}'
    assert await dispatcher.answer(body.encode()) == b""
    assert provider.asked == [("validate", {"properties": b"1"})]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"null",
        b"7",
        b'"text"',
        b"garbage",
        b'{"jsonrpc":"2.0","method":"Instance.Validate"',
        b'[{"jsonrpc":"2.0","method":"Instance.Validate","params":{"Properties":1},"id":1}]',
        b'{"jsonrpc":"2.0","method":5,"id":1}',
        b'{"jsonrpc":2.0,"method":"Instance.Validate","id":1}',
        b"\xff\xfe\x00",
        b'{"jsonrpc":"2.0","method":"\xff","id":1}',
        b'{"jsonrpc":"2.0","method":"\\ud800","id":1}',
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","id":1,"params":' + b"[" * 100_000,
    ],
)
async def test_a_body_that_is_not_a_request_gets_no_response(
    dispatcher: Dispatcher, provider: Provider, body: bytes
) -> None:
    assert await dispatcher.answer(body) == b""
    assert provider.asked == []


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
async def test_no_bytes_raise_an_exception(body: bytes) -> None:
    await Dispatcher({".": Provider()}).answer(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
async def test_any_params_get_a_response(params: object) -> None:
    request = {"jsonrpc": "2.0", "method": "Instance.Provision", "params": params, "id": 1}
    reply = json.loads(await Dispatcher({".": Provider()}).answer(json.dumps(request).encode()))
    assert reply["id"] == 1
    assert ("result" in reply) != ("error" in reply)


async def test_another_version_of_the_protocol_is_refused_with_the_request(
    dispatcher: Dispatcher, provider: Provider
) -> None:
    body = b'{"jsonrpc":"1.0","method":"Instance.Validate","params":{"Properties":[1, 2]},"id":1}'
    reply = json.loads(await dispatcher.answer(body))
    assert reply["error"] == {
        "code": failures.INVALID_REQUEST,
        "message": "jsonrpc must be 2.0",
        "data": json.loads(body),
    }
    assert provider.asked == []


@pytest.mark.parametrize("params", ['{"Properties": 5}', '[{"Properties": 5}]', '[{"Properties": 5}, "more"]'])
async def test_params_are_accepted_by_name_and_by_position(
    dispatcher: Dispatcher, provider: Provider, params: str
) -> None:
    body = f'{{"jsonrpc":"2.0","method":"Instance.Validate","params": {params},"id":1}}'
    assert b'"result"' in await dispatcher.answer(body.encode())
    assert provider.asked == [("validate", {"properties": b"5"})]


@pytest.mark.parametrize("params", ["", ',"params":null', ',"params":{}', ',"params":[]', ',"params":[null]'])
async def test_absent_params_are_empty(dispatcher: Dispatcher, provider: Provider, params: str) -> None:
    body = f'{{"jsonrpc":"2.0","method":"Instance.DescribeInstances"{params},"id":1}}'
    assert b'"result"' in await dispatcher.answer(body.encode())
    assert provider.asked == [("describe_instances", {"tags": {}, "properties": False})]


@pytest.mark.parametrize(
    "params", ["5", '"text"', "true", '["text"]', "[[]]", '{"Tags":5}', '{"Tags":{"a":1}}', '{"Properties":"yes"}']
)
async def test_params_of_the_wrong_type_are_refused_with_the_params(
    dispatcher: Dispatcher, provider: Provider, params: str
) -> None:
    body = f'{{"jsonrpc":"2.0","method":"Instance.DescribeInstances","params":{params},"id":1}}'
    error = json.loads(await dispatcher.answer(body.encode()))["error"]
    assert error["code"] == failures.INVALID_REQUEST
    assert error["data"] == json.loads(params)
    assert "xpected" in error["message"]
    assert provider.asked == []


async def test_a_wrong_type_is_named_by_its_path(dispatcher: Dispatcher) -> None:
    body = b'{"jsonrpc":"2.0","method":"Instance.Provision","params":{"Spec":{"Attachments":[{"ID":5}]}},"id":1}'
    assert "`$.Spec.Attachments[0].ID`" in json.loads(await dispatcher.answer(body))["error"]["message"]


async def test_nesting_beyond_the_limit_is_refused(dispatcher: Dispatcher, provider: Provider) -> None:
    def body(depth: int) -> bytes:
        nested = "[" * depth + "]" * depth
        return f'{{"jsonrpc":"2.0","method":"Instance.Validate","params":{{"Properties":{nested}}},"id":1}}'.encode()

    assert b'"result"' in await dispatcher.answer(body(DEPTH_MAX - 1))  # params are a level themselves
    error = json.loads(await dispatcher.answer(body(DEPTH_MAX)))["error"]
    assert error["code"] == failures.INVALID_REQUEST
    assert error["message"] == f"params are nested deeper than {DEPTH_MAX} levels"
    assert len(provider.asked) == 1


async def test_brackets_in_strings_do_not_count_as_nesting(dispatcher: Dispatcher, provider: Provider) -> None:
    """A script may print colours with `\\e[31m` any number of times."""
    text = json.dumps('printf "\\e[31m{"\\' * 1000)
    body = f'{{"jsonrpc":"2.0","method":"Instance.Validate","params":{{"Properties":{text}}},"id":1}}'
    assert b'"result"' in await dispatcher.answer(body.encode())
    assert provider.asked == [("validate", {"properties": text.encode()})]


async def test_breadth_does_not_count_as_nesting(dispatcher: Dispatcher) -> None:
    body = json.dumps(
        {"jsonrpc": "2.0", "method": "Instance.Validate", "params": {"Properties": [{}, []] * 10_000}, "id": 1}
    )
    assert b'"result"' in await dispatcher.answer(body.encode())


@pytest.mark.parametrize("data", ["null", "5", '"text"', "{}", '{"kind":"NotFound"}', '{"Problems":5}'])
def test_error_data_of_other_servers_is_ignored(data: str) -> None:
    error = envelope.ClientError(message="boom", data=msgspec.Raw(data.encode()))
    found = failures.error(error.message, error.error_data())
    assert type(found).__name__ == "PluginError"
    assert str(found) == "boom"


@pytest.mark.parametrize(
    "params", [b'{"\xffpROPERTIES":null}', b'{"Properties":{"a":"\xff"}}', b'{"Type":7,"":"\xff"}', b'"\xff"']
)
async def test_a_request_that_is_not_utf_8_gets_no_response(params: bytes) -> None:
    body = b'{"jsonrpc":"2.0","method":"Instance.Validate","params":' + params + b',"id":1}'
    assert await Dispatcher({".": Provider()}).answer(body) == b""
