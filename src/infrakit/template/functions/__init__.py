"""The functions of templates, one module per subject. The reference manual lists `TABLE`."""

from infrakit.template.functions import documents, facts, formats, lists, machine, network, variables
from infrakit.template.functions.table import Function, collected

_MODULES = (variables, documents, facts, formats, lists, machine, network)
TABLE: dict[str, Function] = {name: each for module in _MODULES for name, each in collected(vars(module)).items()}
