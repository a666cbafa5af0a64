"""Helper processes: how one is started, talked to and ended, and how many are worth starting.

A socket connects the two processes; it is the helper's standard input. A message is its length in four bytes, then
msgpack. A helper ends at once when its parent has ended, whatever it does.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgpack

__all__ = ["Connection", "HelperGone", "HelperProcess", "HelperSilent", "connect_to_parent", "usable_cores"]

_SIZE: Final = 4
# Where this process finds modules comes after where any process does: a folder of scripts may have a `types.py`.
_PROGRAM: Final = """
import sys
sys.path += [entry for entry in sys.argv[2:] if entry not in sys.path]
from importlib import import_module
import_module(sys.argv[1]).main()
"""


class HelperGone(Exception):
    """The helper has ended, or sent what cannot be understood. Internal: no user sees it."""


class HelperSilent(HelperGone):
    """The helper did not answer, or take a message, in time."""


class Connection:
    """One end of the socket between two processes. Used by one thread at a time; raises OSError."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, *message: Any) -> None:
        packed: bytes = msgpack.packb(message)
        self._socket.sendall(len(packed).to_bytes(_SIZE, "big") + packed)

    def receive(self) -> Any:
        """The next message; None where the other process has ended."""
        size = self._read(_SIZE)
        body = None if size is None else self._read(int.from_bytes(size, "big"))
        return None if body is None else msgpack.unpackb(body)

    def has_message(self, timeout: float) -> bool:
        """Whether a message, or the end, is there; waits at most `timeout` seconds for it."""
        return bool(self._poll.poll(max(0.0, timeout) * 1000))

    def close(self) -> None:
        self._socket.close()

    def _read(self, size: int) -> bytearray | None:
        found = bytearray(size)
        rest = memoryview(found)
        while rest:
            count = self._socket.recv_into(rest)
            if not count:
                return None
            rest = rest[count:]
        return found


class HelperProcess:
    """A process that runs `main` of a module. Used by one thread at a time, except `kill`; raises HelperGone.

    `timeout` is how many seconds a message may take to be sent, or an answer to come. `descriptors` stay open in it.
    The constructor raises OSError.
    """

    def __init__(
        self,
        module: str,
        *,
        timeout: float,
        descriptors: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        ours, its = socket.socketpair()
        with its:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _PROGRAM, module, *sys.path],
                    stdin=its.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL if quiet else None,
                    pass_fds=descriptors,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for this process, which ends the helper
                )
            except OSError:
                ours.close()
                raise
        ours.settimeout(timeout)
        self.connection = Connection(ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, *message: Any) -> None:
        try:
            self.connection.send(*message)
        except OSError as error:
            raise _gone(error) from None

    def receive(self) -> Any:
        """The next message."""
        try:
            message = self.connection.receive()
        except (OSError, ValueError) as error:
            raise _gone(error) from None
        if message is None:
            raise HelperGone("it has ended")
        return message

    def kill(self) -> None:
        """End it, whatever it does. Callable from any thread."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it, whatever it does, and close the connection."""
        self.kill()
        self.connection.close()

    def after_fork(self) -> None:
        """In a forked child: close what would keep the helper from seeing that its parent has ended."""
        self.connection.close()
        self._process.poll()  # it is no child of this process, and that is noted


def _gone(error: Exception) -> HelperGone:
    return (HelperSilent if isinstance(error, TimeoutError) else HelperGone)(type(error).__name__)


def connect_to_parent(name: str) -> Connection:
    """The helper's end of the connection. From now on this process ends when its parent has ended.

    A thread of this name waits for that. Standard input is the null device then.
    """
    connection = Connection(socket.socket(fileno=os.dup(0)))
    threading.Thread(target=_wait_and_end, args=(connection.fileno(),), name=name, daemon=True).start()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)  # the code of users may read it
    os.close(nothing)
    return connection


def _wait_and_end(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, getattr(select, "POLLRDHUP", select.POLLHUP))
    poll.poll()
    os._exit(1)


def usable_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
