"""Answers that are lists: what has not changed is the same object, and everything else is decoded like any answer."""

from typing import Any

import msgspec
import pytest

from infrakit.rpc import wire
from infrakit.rpc.unchanged import KEPT, KnownAnswers
from infrakit.spi.flavor import JudgesMany, Quorum
from infrakit.spi.instance import Inspects, Instance
from infrakit.spi.values import Health, InstanceID

DESCRIBE = wire.method(Instance.describe_instances)
ONE, TWO = '{"ID":"i-1","Tags":{"a":"b"}}', '{"ID":"i-2","LogicalID":null}'


def reply(*elements: str, id_: int = 1, field: str = "Descriptions") -> bytes:
    return f'{{"jsonrpc":"2.0","result":{{"Type":"","{field}":[{",".join(elements)}]}},"id":{id_}}}\n'.encode()


def read(known: KnownAnswers, body: bytes, **params: object) -> wire.Answer:
    answer = known.of(DESCRIBE, params)
    assert answer is not None
    return answer.read(body)


def test_the_same_bytes_are_the_same_object_whatever_the_id_of_the_reply() -> None:
    known = KnownAnswers()
    first = read(known, reply(ONE, TWO))
    second = read(known, reply(ONE, TWO, id_=2))
    assert (first.id, second.id) == (1, 2)
    assert [each.id for each in first.value] == ["i-1", "i-2"]
    assert second.value is first.value


def test_only_changed_elements_are_new_objects() -> None:
    known = KnownAnswers()
    one, two = read(known, reply(ONE, TWO)).value
    changed, kept = read(known, reply(TWO.replace("i-2", "i-3"), ONE)).value
    assert kept is one
    assert changed.id == InstanceID("i-3")
    (again,) = read(known, reply(TWO)).value
    assert again == two
    assert read(known, reply()).value == []
    assert read(known, reply(ONE)).value == [one]


@pytest.mark.parametrize(
    "body",
    [
        reply(ONE, field="descriptions"),
        reply(ONE.replace("Tags", "tags")),
        reply(ONE.replace("ID", "id")),
        b'{"result":{"Descriptions":null},"id":1}',
        b'{"result":null,"id":1}',
        b'{"result":null,"error":{"message":"down"},"id":1}',
        b'{"result":{"Descriptions":[]},"error":{"message":"down"},"id":1}',
    ],
)
def test_unusual_answers_are_read_like_any_other(body: bytes) -> None:
    known = KnownAnswers()
    read(known, reply(ONE))
    assert _plain(read(known, body)) == _plain(DESCRIBE.read(body))
    assert [each.id for each in read(known, reply(ONE)).value] == ["i-1"]


@pytest.mark.parametrize("body", [b"{", b"[]", reply("7"), reply('{"LogicalID":"x"}'), b'{"result":{},"id":1}'])
def test_an_invalid_answer_is_refused(body: bytes) -> None:
    known = KnownAnswers()
    read(known, reply(ONE))
    with pytest.raises(msgspec.MsgspecError):
        read(known, body)
    assert [each.id for each in read(known, reply(ONE)).value] == ["i-1"]


def test_requests_do_not_share_their_answers_and_few_are_kept() -> None:
    known = KnownAnswers()
    first = read(known, reply(ONE), Tags={"a": "0"}).value
    assert read(known, reply(ONE), Tags={"a": "1"}).value[0] is not first[0]
    assert read(known, reply(ONE), Tags={"a": "0"}).value is first
    for number in range(1, KEPT + 1):
        read(known, reply(ONE), Tags={"a": str(number)})
    assert read(known, reply(ONE), Tags={"a": "0"}).value is not first


def test_the_same_reports_are_the_same_object_whichever_instances_were_passed() -> None:
    known, healthy = KnownAnswers(), wire.method(JudgesMany.healthy_all)

    def reports(of: str, health: int) -> Any:
        answer = known.of(healthy, {"Instances": [of]})
        assert answer is not None
        return answer.read(b'{"result":{"Type":"","Reports":{"i-1":{"Health":%d}}},"id":1}' % health).value

    first = reports("i-1", 1)
    assert first[InstanceID("i-1")].health is Health.HEALTHY
    assert reports("i-2", 1) is first
    assert reports("i-1", 2)[InstanceID("i-1")].health is Health.UNHEALTHY


@pytest.mark.parametrize("method", [Instance.provision, Instance.validate, Quorum.is_quorum, Inspects.inspect])
def test_only_many_values_that_may_be_requested_again_are_kept(method: Any) -> None:
    assert KnownAnswers().of(wire.method(method), {}) is None


def _plain(answer: wire.Answer) -> object:
    return answer.id, answer.error and answer.error.message, answer.value
