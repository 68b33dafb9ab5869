"""The command line: a table of commands, one module each, that ask a running InfraKit over its unix socket.

`main` knows every command by name and imports only the one that runs. `commands/` holds one module per command (verbs
of one noun share it), `reports` turns answers into lines, `tables` aligns them, `output` writes JSON or YAML instead,
`failures` turns errors into one message and an exit code.
"""
