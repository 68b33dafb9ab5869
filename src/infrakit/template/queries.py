"""JMESPath under a budget: a query can double a list at each step, so each step is charged."""

from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.visitor import TreeInterpreter

from infrakit.template.failures import Fault
from infrakit.template.limits import Budget

QUERY_BYTES_MAX = 10_000
_BUILDS = ("flatten", "function_expression", "multi_select_dict", "multi_select_list", "projection", "value_projection")


class _Interpreter(TreeInterpreter):  # type: ignore[misc]
    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._budget.step()
        result = super().visit(node, *args, **kwargs)
        if node["type"] in _BUILDS:
            self._budget.value(result)
        return result


def search(query: str, value: object, budget: Budget) -> object:
    """Return the result of `query` on `value`. Raises `Fault` if the query is invalid."""
    if len(query) > QUERY_BYTES_MAX:
        raise Fault(f"the query has more than {QUERY_BYTES_MAX:,} bytes")
    try:
        return _Interpreter(budget).visit(jmespath.compile(query).parsed, value)
    except JMESPathError as error:
        raise Fault(f"invalid JMESPath query: {' '.join(str(error).split())[:200]}") from None
