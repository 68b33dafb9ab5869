"""The program, `infrakit` and `python -m infrakit`: Ctrl-C ends it with exit code 130 and no traceback, at any time."""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run the command line of this process and return its exit code."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # a shell starts background jobs without it
        from infrakit.cli.main import main as run

        return run()
    signal.signal(signal.SIGINT, _exit)  # an exception in the middle of an import would be printed with its traceback
    from infrakit.cli import exit_codes
    from infrakit.cli.main import main as run

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run()
    except KeyboardInterrupt:  # between two steps of `run`
        code = exit_codes.INTERRUPTED
    signal.signal(signal.SIGINT, _exit)
    return code


def _exit(_number: int, _frame: FrameType | None) -> None:
    os._exit(128 + signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
