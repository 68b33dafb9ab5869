"""A socket between the daemon and a server, which holds some requests, or their responses, until they are released."""

import contextlib
import socket
import threading
from pathlib import Path
from typing import Self

DEADLINE_S = 100.0


class Held:
    """Holds the requests that contain a text, as a slow provider does; with `responses`, their responses instead."""

    def __init__(self, path: Path, server: Path, text: str, *, responses: bool = False) -> None:
        self.requests = 0  # that contain the text
        self.path = path
        self._server = server
        self._text = text.encode()
        self._responses = responses
        self._held, self._released = threading.Event(), threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._callers: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        _end(self._listener)
        self._threads[0].join()
        self._listener.close()
        for each in self._callers:
            _end(each)
        for thread in self._threads[1:]:
            thread.join()

    def wait(self) -> None:
        """Wait until the first one is held."""
        assert self._held.wait(DEADLINE_S), f"no request contains {self._text.decode()}"

    def release(self) -> None:
        """Let those that are held pass, and all later ones."""
        self._released.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # at the end
            while True:
                caller, _ = self._listener.accept()
                self._callers.append(caller)
                self._threads.append(threading.Thread(target=self._serve, args=(caller,)))
                self._threads[-1].start()

    def _serve(self, caller: socket.socket) -> None:
        with caller, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(str(self._server))
            concerned = threading.Event()  # the request in progress contains the text
            responding = threading.Thread(target=self._pass_responses, args=(server, caller, concerned))
            responding.start()
            self._pass_requests(caller, server, concerned)
            responding.join()

    def _pass_requests(self, caller: socket.socket, server: socket.socket, concerned: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := caller.recv(2**16):
                if self._text in data:
                    self.requests += 1
                    concerned.set()
                    if not self._responses:
                        self._hold()
                server.sendall(data)
        _end(server)

    def _pass_responses(self, server: socket.socket, caller: socket.socket, concerned: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(2**16):
                if concerned.is_set():
                    concerned.clear()
                    if self._responses:
                        self._hold()
                caller.sendall(data)
        _end(caller)

    def _hold(self) -> None:
        self._held.set()
        self._released.wait(DEADLINE_S)


def _end(target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended, or is closed
        target.shutdown(socket.SHUT_RDWR)
