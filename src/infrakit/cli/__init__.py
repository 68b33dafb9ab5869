"""The command line: a table of commands, one module each, that call a running daemon over its unix socket.

`main` lists every command by name and imports only the one that runs. `commands/` holds one module per command (the
verbs of one noun share a module), `reports` formats responses as lines, `tables` aligns them, `output` writes JSON or
YAML instead, `failures` turns an error into one message and an exit code.
"""
