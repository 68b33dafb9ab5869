"""Every journey has its own operator."""

from collections.abc import Iterator

import pytest

from tests.journeys.operator import Operator


@pytest.fixture
def operator() -> Iterator[Operator]:
    operator = Operator()
    try:
        yield operator
    finally:
        operator.close()
