"""A sandbox for work on untrusted text: a child process with limits on CPU time and memory.

A template may come from the network. The template engine limits the number of its steps; the sandbox covers what that
limit cannot, such as a single multiplication that never returns. The work runs in a forked child whose resource limits
the kernel enforces. Its result returns through a pipe as JSON, because the child's output is trusted no more than the
text itself. The command line survives and can report the failure, and `up`, which runs for days, is not itself subject
to limits that are meant for rendering.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from infrakit.cli.failures import DEBUG_VARIABLE
from infrakit.rpc import failures
from infrakit.spi import codec, errors
from infrakit.spi.errors import InfraKitError, Refused

T = TypeVar("T")

CPU_S_MAX = 10
MEMORY_BYTES_MAX = 512 << 20  # in addition to what the process uses at the start

_VALUE, _ERROR, _DEFECT = b"v", b"e", b"d"  # the first byte of the payload: its type


def run(work: Callable[[], T], type_: type[T], *, cpu_s: int = CPU_S_MAX, memory_bytes: int = MEMORY_BYTES_MAX) -> T:
    """Run `work` in the sandbox; return its result, which msgspec must be able to encode, or raise its error.

    Raises `Refused` if it exceeds the limit of CPU time or memory.
    """
    source, target = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        _run_child(work, target, cpu_s, memory_bytes)
    os.close(target)
    before = signal.signal(signal.SIGTERM, lambda *_: _terminate_both(child))
    try:
        with open(source, "rb") as pipe:  # noqa: PTH123 - a descriptor has no path
            payload = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
        signal.signal(signal.SIGTERM, before)
    code = os.waitstatus_to_exitcode(status)
    if not payload or code != 0:
        raise _limit_exceeded(code, cpu_s, memory_bytes)
    return _result(payload, type_)


def _terminate_both(child: int) -> None:
    """On SIGTERM, kill the child first: it may be blocked in a network call."""
    os.kill(child, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _run_child(work: Callable[[], object], target: int, cpu_s: int, memory_bytes: int) -> None:
    """Run as the child's main function: never return, never raise, print nothing."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _limit(cpu_s, memory_bytes)
        payload = _payload(work)
        with open(target, "wb") as pipe:
            pipe.write(payload)
        code = 0
    except BaseException:  # noqa: BLE001, S110 - interrupted or out of memory: the exit code reports it
        pass
    finally:
        os._exit(code)


def _limit(cpu_s: int, memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    # Not RLIMIT_AS: threads, and the programs that provide secrets, reserve much address space and use little of it.
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = pages * resource.getpagesize() + memory_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _payload(work: Callable[[], object]) -> bytes:
    try:
        return _VALUE + msgspec.json.encode(work())
    except InfraKitError as error:
        # A subclass that the wire protocol does not define is sent as its nearest base class that it does define.
        kind = next(base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__)
        return _ERROR + msgspec.json.encode(msgspec.structs.replace(failures.error_data(error), kind=kind))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001
        if os.environ.get(DEBUG_VARIABLE):
            import traceback

            traceback.print_exception(error)
            sys.stderr.flush()
        return _DEFECT + f"{type(error).__name__}: {error}".encode(errors="backslashreplace")


def _result(payload: bytes, type_: type[T]) -> T:
    what, body = payload[:1], payload[1:]
    if what == _VALUE:
        return codec.decode(body, type_)
    if what == _ERROR:
        raise failures.error("", codec.decode(body, failures.ErrorData))
    raise RuntimeError(body.decode())


def _limit_exceeded(code: int, cpu_s: int, memory_bytes: int) -> Refused:
    remedy = "check the template for an endless loop or a text that grows without limit"
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return Refused(f"rendering exceeded {cpu_s}s of CPU time and was terminated", remedy=remedy)
    return Refused(f"rendering exceeded {memory_bytes >> 20} MB of memory and was terminated", remedy=remedy)
