"""What the exit code of every command tells a script."""

DONE = 0
USER_ERROR = 1  # the command line, the document or a name is wrong; also everything that a usage line explains
NOT_DONE = 2  # refused, halted, in conflict with somebody else, or not converged (yet)
NO_DAEMON = 3  # no daemon could be reached, or its answer was lost
DEFECT = 70  # InfraKit itself is at fault (EX_SOFTWARE of sysexits.h)
INTERRUPTED = 130  # Ctrl-C, as shells count it
BROKEN_PIPE = 141  # the reader went away, as shells count it

HELP = "Exit codes: 0 done, 1 your mistake, 2 refused or not converged, 3 no daemon reached."
