"""What every test relies on, whoever has started the tests."""

import signal

# Started in the background of a script, tests inherit that Ctrl-C is ignored, and so would every program they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
