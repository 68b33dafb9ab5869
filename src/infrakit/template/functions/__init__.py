"""The functions of templates, one module a subject; `TABLE` is what the manual's list is made from."""

from infrakit.template.functions import documents, lists, variables
from infrakit.template.functions.table import Function, collected

TABLE: dict[str, Function] = {
    name: each for module in (variables, documents, lists) for name, each in collected(vars(module)).items()
}
