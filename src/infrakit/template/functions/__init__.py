"""The functions of templates, one module a subject; `TABLE` is what the manual's list is made from."""

from infrakit.template.functions import documents, facts, formats, lists, machine, network, variables
from infrakit.template.functions.table import Function, collected

_MODULES = (variables, documents, facts, formats, lists, machine, network)
TABLE: dict[str, Function] = {name: each for module in _MODULES for name, each in collected(vars(module)).items()}
