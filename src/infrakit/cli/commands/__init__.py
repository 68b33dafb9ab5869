"""The commands, one module each, named like the command; the table in `cli.main` maps names to modules.

A module may hold several commands that share a noun or a mechanism (`halt` and `unhalt`). Each function is named like
its command, its docstring is the help text, and expensive imports are inside the function.
"""
