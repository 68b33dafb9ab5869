"""Work on text from strangers, in a process that can neither compute nor grow without end.

A template may come from the network. The engine bounds what it does step by step; here is the fence around it for what
no step counts, such as one multiplication that never returns. The work runs in a copy of this process, made by fork,
whose limits the kernel keeps; its result comes back through a pipe, as JSON, because nothing that comes from there is
trusted more than the text itself. So the command line survives and can say what happened, and `up`, which goes on for
days, keeps no limits that were meant for the first second.
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
from infrakit.spi import errors
from infrakit.spi.errors import InfraKitError, Refused

T = TypeVar("T")

CPU_S_MAX = 10
MEMORY_BYTES_MAX = 512 << 20  # beyond what the process has when it begins

_VALUE, _ERROR, _DEFECT = b"v", b"e", b"d"  # the first byte tells what follows


def run(work: Callable[[], T], type_: type[T], *, cpu_s: int = CPU_S_MAX, memory_bytes: int = MEMORY_BYTES_MAX) -> T:
    """What `work` returns, a value that msgspec can carry, or the error that it raises.

    Raises `Refused` if it needs more than its share of the processor or of memory.
    """
    source, target = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        _inside(work, target, cpu_s, memory_bytes)
    os.close(target)
    before = signal.signal(signal.SIGTERM, lambda *_: _end_both(child))
    try:
        with open(source, "rb") as pipe:  # noqa: PTH123 - a descriptor has no path
            told = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        _, status = os.waitpid(child, 0)
        signal.signal(signal.SIGTERM, before)
    code = os.waitstatus_to_exitcode(status)
    if not told or code != 0:
        raise _ended(code, cpu_s, memory_bytes)
    return _result(told, type_)


def _end_both(child: int) -> None:
    """Who is told to end takes the copy along: it may be waiting for something far away."""
    os.kill(child, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def _inside(work: Callable[[], object], target: int, cpu_s: int, memory_bytes: int) -> None:
    """In the copy: never returns, never raises, prints nothing."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _limit(cpu_s, memory_bytes)
        told = _told(work)
        with open(target, "wb") as pipe:
            pipe.write(told)
        code = 0
    except BaseException:  # noqa: BLE001, S110 - interrupted, or no memory left even to say so: the code tells
        pass
    finally:
        os._exit(code)


def _limit(cpu_s: int, memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    # Not the address space: threads, and programs that are asked for secrets, reserve much of it and use little.
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    room = pages * resource.getpagesize() + memory_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = room if hard == resource.RLIM_INFINITY else min(room, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _told(work: Callable[[], object]) -> bytes:
    try:
        return _VALUE + msgspec.json.encode(work())
    except InfraKitError as error:
        # One of a narrower kind than those that travel arrives as the kind that it is of.
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


def _result(told: bytes, type_: type[T]) -> T:
    what, body = told[:1], told[1:]
    if what == _VALUE:
        return msgspec.json.decode(body, type=type_)
    if what == _ERROR:
        raise failures.error("", msgspec.json.decode(body, type=failures.ErrorData))
    raise RuntimeError(body.decode())


def _ended(code: int, cpu_s: int, memory_bytes: int) -> Refused:
    remedy = "look for a loop or a text that grows without end"
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return Refused(f"rendering took more than {cpu_s}s of the processor, and was ended", remedy=remedy)
    return Refused(f"rendering needed more than {memory_bytes >> 20} MB of memory, and was ended", remedy=remedy)
