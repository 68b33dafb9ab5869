"""Typed decoding in several threads."""

import subprocess
import sys

import msgspec
import pytest

from infrakit.spi import codec

# The first use of each new struct, in four threads at once. In a process of its own: a failure is a segmentation fault.
RACE = """
import sys, threading
from typing import Annotated
import msgspec
from infrakit.spi import codec

sys.setswitchinterval(1e-6)
for _ in range(100):
    optional = dict[str, Annotated[int, msgspec.Meta(ge=0)]] | None
    struct = msgspec.defstruct("S", [(f"f{i}", optional, None) for i in range(20)])
    together = threading.Barrier(4)

    def first_use():
        together.wait()
        {use}

    threads = [threading.Thread(target=first_use) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
"""


@pytest.mark.parametrize(
    "use", ['codec.decode(b\'{"f1": {"a": 1}}\', struct)', "codec.convert({'f1': {'a': 1}}, struct)"]
)
def test_threads_that_use_a_struct_for_the_first_time_at_once_do_not_crash_the_process(use: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACE.replace("{use}", use)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_values_are_decoded_and_converted_as_the_type() -> None:
    assert codec.decode(b'{"a": 1}', dict[str, int]) == {"a": 1}
    assert codec.convert({"a": 1}, dict[str, int]) == {"a": 1}
    with pytest.raises(msgspec.ValidationError):
        codec.decode(b'{"a": ""}', dict[str, int])
    with pytest.raises(msgspec.ValidationError):
        codec.convert({"a": ""}, dict[str, int])
