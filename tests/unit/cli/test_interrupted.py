"""Ctrl-C before a command has begun, while its modules are imported, and after its end."""

import signal
import subprocess
import sys

import pytest

from infrakit.cli import exit_codes

# Sends SIGINT when the module named first is imported, or, if it is named `end`, when the command has ended.
INTERRUPTED = """
import importlib.abc, os, signal, sys

class CtrlC(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == when:
            print("importing", name, flush=True)
            os.kill(os.getpid(), signal.SIGINT)

when = sys.argv.pop(1)
sys.meta_path.insert(0, CtrlC())
from infrakit.__main__ import main
code = main()
if when == "end":
    print("ended", code, flush=True)
    os.kill(os.getpid(), signal.SIGINT)
sys.exit(code)
"""


def run(when: str, *words: str, ignored: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED, when, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignored else None,
    )


@pytest.mark.parametrize(
    "module",
    [
        "infrakit.cli.main",
        "click",
        "infrakit.cli.exit_codes",
        "infrakit.cli.commands.validate",
        "infrakit.cli.rendering",
        "infrakit.template.loaders",
        "infrakit.cli.failures",
    ],
)
def test_ctrl_c_during_an_import_ends_silently(module: str) -> None:
    done = run(module, "validate", "nothing.yaml")
    assert (done.returncode, done.stderr) == (exit_codes.INTERRUPTED, "")
    assert done.stdout == f"importing {module}\n"


def test_ctrl_c_after_the_end_prints_no_traceback() -> None:
    done = run("end", "--version")
    assert (done.returncode, done.stderr) == (exit_codes.INTERRUPTED, "")
    assert done.stdout.endswith("ended 0\n")


def test_a_background_job_of_a_shell_continues() -> None:
    done = run("click", "--version", ignored=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "infrakit " in done.stdout
