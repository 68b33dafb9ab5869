"""What every test relies on, whoever has started the tests."""

import shutil
import signal
import subprocess

# Started in the background of a script, tests inherit that Ctrl-C is ignored, and so would every program they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    """The versions of the components on PATH that tests run against."""
    return [_version("etcd", "--version"), _version("dockerd", "--version"), _version("node", "--version")]


def _version(program: str, option: str) -> str:
    path = shutil.which(program)
    if path is None:
        return f"{program}: none"
    done = subprocess.run([path, option], capture_output=True, text=True, timeout=30, check=False)
    return f"{program}: {(done.stdout or done.stderr).partition(chr(10))[0]} ({path})"
