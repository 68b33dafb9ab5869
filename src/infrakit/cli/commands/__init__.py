"""One module per command, named as the command; the table in `cli.main` says which.

A module may hold several commands that share a noun or a mechanism (`halt` and `unhalt`). Each function is named as its
command is, its docstring is the help text, and what is expensive to import is imported inside.
"""
