"""The exit codes of every command."""

DONE = 0
USER_ERROR = 1  # the command line, the document or a name is invalid
NOT_DONE = 2  # refused, halted, in conflict with another change, or not converged (yet)
NO_DAEMON = 3  # no daemon could be reached, or its response was lost
BROKEN = 4  # a rehearsal found that a promise would be broken
DEFECT = 70  # an internal error: a bug in InfraKit (EX_SOFTWARE of sysexits.h)
INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT, as in shells
BROKEN_PIPE = 141  # the reader closed the pipe: 128 + SIGPIPE, as in shells

HELP = "Exit codes: 0 success, 1 invalid input, 2 refused or not converged, 3 no daemon reachable, 4 promise broken."
