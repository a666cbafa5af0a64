"""The embedded server: one durable Valkey per data directory, shared by all processes that open it.

Two locks (`flock`, so they end with their holders) decide what a process that opens the directory does:

    owner.lock   server.lock   the process
    free         free          takes both, starts the server, which inherits `server.lock`, and owns it
    free         busy          adopts the server, which has no owner, or waits until it has ended
    busy         any           attaches to the owner's server, or waits until there is one

A directory never has two servers: a server holds `server.lock` as long as it lives.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from attrs import Factory, define, field, frozen

from ..errors import SystemClosed, Unavailable
from .data_directory import DataDirectory, FileLock, ServerRecord
from .process import ServerProcess, can_die_with_parent, find_server_binary, is_loading, ready_pid, request_shutdown

_POLL_SECONDS = 0.01
_STOP_SECONDS = 10.0
_READY_SECONDS = 20.0


@frozen(eq=False, repr=False)
class _RunningServer:
    socket_path: str
    pid: int


@define
class _Patience:
    """How long a server is waited for: some seconds in all, or, with `loads`, without those in which it loads.

    One that is ready when the seconds are over has just loaded: it has them once more, to be attached to.
    """

    seconds: float
    loads: bool = False
    _end: float = field(init=False, default=Factory(lambda self: time.monotonic() + self.seconds, takes_self=True))

    def is_over(self, directory: DataDirectory) -> bool:
        if time.monotonic() <= self._end:
            return False
        record = directory.read_record() if self.loads else None
        if record is None:
            return True
        self.loads = is_loading(record.socket_path)
        if not self.loads and ready_pid(record.socket_path) is None:
            return True
        self._end = time.monotonic() + self.seconds
        return False


@define(eq=False)
class _ServerLease:
    """The locks that this process holds on the directory, and the server if it started one.

    It has no reference to its `EmbeddedServer`, so that the finalizer which holds it does not keep that one alive.
    """

    directory: DataDirectory
    binary: Path
    owner_lock: FileLock
    server_lock: FileLock
    process: ServerProcess | None = None
    closing: threading.Event = field(init=False, factory=threading.Event)
    creator_pid: int = field(init=False, factory=os.getpid)

    def __attrs_post_init__(self) -> None:
        # A forked child inherits our descriptors, and would hold our locks as long as it lives.
        reference = weakref.ref(self)

        def close_in_child() -> None:
            lease = reference()
            if lease is not None:
                lease.owner_lock.close_descriptor()
                lease.server_lock.close_descriptor()

        os.register_at_fork(after_in_child=close_in_child)

    @property
    def is_in_creator(self) -> bool:
        """Whether this process created the lease; False in a forked child."""
        return os.getpid() == self.creator_pid

    def try_acquire(self, patience: _Patience) -> _RunningServer | None:
        """Try once to start, adopt or attach to a server, by the table on top; None if that has to be tried again."""
        if not self.owner_lock.acquire():
            return self._attach()
        if self.process is not None and self.process.is_alive:
            return self._check_own_server(self.process)
        if self.server_lock.acquire():
            return self._start(patience)
        return self._adopt()

    def _attach(self) -> _RunningServer | None:
        record = self.directory.read_record()
        pid = None if record is None else ready_pid(record.socket_path)
        return None if record is None or pid is None else _RunningServer(record.socket_path, pid)

    def _check_own_server(self, process: ServerProcess) -> _RunningServer | None:
        running = self._attach()
        record = self.directory.read_record()
        if running is None and (record is None or not os.path.exists(record.socket_path)):
            process.stop(_STOP_SECONDS)  # its socket was removed: no process can reach it
        return running

    def _adopt(self) -> _RunningServer | None:
        """Take over a server whose owner has ended.

        A server that dies with its owner is shutting down already. It gets the command as well, since a server
        may refuse the signal (a full disk).
        """
        record, running = self.directory.read_record(), self._attach()
        if record is None or running is None:
            return None
        if record.dies_with_owner:
            request_shutdown(record.socket_path)
            return None
        return running

    def _start(self, patience: _Patience) -> _RunningServer:
        dies_with_owner = can_die_with_parent()
        process = ServerProcess()
        with ExitStack() as undo:
            undo.callback(self.directory.remove_record)
            with ExitStack() as lock:
                lock.callback(self.server_lock.close_descriptor)  # from here on only the server holds the lock
                socket_path = self.directory.choose_socket_path()
                self.directory.write_record(ServerRecord(socket_path, dies_with_owner, None))
                config = self.directory.write_config(socket_path)
                log_start = self.directory.rotate_log()
                undo.callback(process.stop, _STOP_SECONDS)
                process.start(
                    [self.binary, config],
                    directory=self.directory.path,
                    log_file=self.directory.log_file,
                    inherit=[self.server_lock.descriptor],
                    die_with_parent=dies_with_owner,
                )
            self.directory.write_record(ServerRecord(socket_path, dies_with_owner, process.pid))
            try:
                running = self._wait_until_ready(process, log_start, patience)
            except Unavailable:
                if is_loading(socket_path) or ready_pid(socket_path) is not None:
                    self.process = process  # the next try waits on; a server that is stopped has to load all again
                    undo.pop_all()
                raise
            self.process = process
            undo.pop_all()
            return running

    def _wait_until_ready(self, process: ServerProcess, log_start: int, patience: _Patience) -> _RunningServer:
        while process.is_alive:
            running = self._attach()
            if running is not None:
                return running
            if self.closing.is_set():
                raise _closed_error()
            if patience.is_over(self.directory):
                raise Unavailable(
                    f"the embedded server in {self.directory.path} was not ready in time; give it a longer "
                    f"time-out if it has much to load. Its log ends:\n{self.directory.log_tail(log_start)}"
                )
            process.wait(_POLL_SECONDS)
        raise Unavailable(
            f"the embedded server in {self.directory.path} stopped while starting (exit code "
            f"{process.exit_code}). Its log, {self.directory.log_file.name}, ends:\n"
            f"{self.directory.log_tail(log_start)}\n"
            "Free disk space or memory if it lacks that; put back a copy of the directory if its files are "
            "damaged; or give another data_dir, or the url of a server.",
            actual=process.exit_code,
        )

    def release(self) -> None:
        """Stop the server if this process owns it, and free the directory. Does nothing in a forked child."""
        if not self.is_in_creator or not self.owner_lock.is_held:
            return
        self.closing.set()
        try:
            if self.process is not None:
                self.process.stop(_STOP_SECONDS)
                self.process = None
                self.directory.remove_record()
            else:
                self._stop_adopted()
        finally:
            self.owner_lock.release()

    def release_unless_running(self) -> None:
        """Stop being the owner, unless a server that this process started is running."""
        if self.process is None or not self.process.is_alive:
            self.process = None
            self.owner_lock.release()

    def _stop_adopted(self) -> None:
        record = self.directory.read_record()
        deadline = time.monotonic() + _STOP_SECONDS
        while record is not None and not self.server_lock.acquire():
            if time.monotonic() > deadline:
                return  # it hangs; its process id may be another program's by now, so it is not killed
            request_shutdown(record.socket_path)
            threading.Event().wait(_POLL_SECONDS)
        self.directory.remove_record()
        self.server_lock.release()


def _closed_error() -> SystemClosed:
    return SystemClosed("this embedded server is closed; open the directory again")


@define(eq=False)
class EmbeddedServer:
    """A running Valkey server on a directory of this machine, as its owner or as an attached process.

    Every acknowledged write is on the disk (append-only file, synced before each reply). Only this user can
    reach the server: there is no TCP port, and its socket lies in a private directory.

    The first process to open a directory owns the server, which stops when that process closes it, ends or is
    killed. Others attach. After the owner has ended they call `ensure`, and one of them becomes the owner.

    Thread-safe. In a forked child `close` does nothing and `ensure` raises `SystemClosed`: the server belongs
    to the parent.
    """

    _lease: _ServerLease
    _running: _RunningServer = field(init=False, default=_RunningServer("", 0))
    _mutex: threading.RLock = field(init=False, factory=threading.RLock)  # a signal handler may close
    _finalizer: weakref.finalize[[], EmbeddedServer] = field(init=False)

    def __attrs_post_init__(self) -> None:
        # Runs at the latest when the interpreter exits, while its threads still run.
        self._finalizer = weakref.finalize(self, self._lease.release)

    @classmethod
    def open(cls, data_dir: str | os.PathLike[str] = ".duramen", *, timeout: float | None = None) -> EmbeddedServer:
        """Start the server of a directory, or attach to it. The server answers when this returns.

        `timeout` is in seconds and includes loading the data; without one, the server may load for as long as it has
        to, and has 20 seconds else. Raises `Unavailable` when the directory cannot be used, the server does not start
        (the message ends with its log), or the time is over. No process, lock or socket remains then.
        """
        binary = find_server_binary()
        directory = DataDirectory.prepare(data_dir)
        locks = FileLock(directory.owner_lock), FileLock(directory.server_lock)
        server = cls(_ServerLease(directory, binary, *locks))
        with ExitStack() as undo:
            undo.callback(server.close)
            server._ensure(_Patience(_READY_SECONDS, loads=True) if timeout is None else _Patience(timeout))
            undo.pop_all()
        return server

    @property
    def data_dir(self) -> Path:
        """The directory, absolute and without links."""
        return self._lease.directory.path

    @property
    def socket_path(self) -> str:
        """Path of the server's Unix socket. `ensure` may change it."""
        return self._running.socket_path

    @property
    def url(self) -> str:
        """The socket as a `unix://` url."""
        return f"unix://{quote(os.fsencode(self.socket_path))}"

    @property
    def pid(self) -> int:
        """Process id of the server, as the server itself last reported it."""
        return self._running.pid

    @property
    def owner(self) -> bool:
        """Whether this process started or adopted the server and will stop it."""
        return self._lease.is_in_creator and self._lease.owner_lock.is_held

    def ensure(self, timeout: float = 20.0) -> str:
        """Make sure that a server runs for this directory, and return the path of its socket.

        For a client whose connection broke. While the server answers this costs one round trip. Otherwise this
        process attaches to the server of a new owner, or becomes the owner and starts one. Not promised: that
        the server still runs a moment later, since a server that is shutting down may answer.

        Raises `Unavailable` if no server answers within `timeout` seconds, `SystemClosed` after `close` and in a
        forked child. A server that loads its data goes on with that, and the next call waits on for it.
        """
        return self._ensure(_Patience(timeout))

    def _ensure(self, patience: _Patience) -> str:
        self._check_usable()
        pid = ready_pid(self.socket_path, min(patience.seconds, 1.0)) if self.socket_path else None
        if pid is not None:
            self._running = _RunningServer(self.socket_path, pid)
            return self.socket_path
        if not self._mutex.acquire(timeout=max(patience.seconds, 0)):
            raise self._unavailable()
        try:
            self._running = self._acquire(patience)
        except OSError as error:
            raise Unavailable(
                f"the embedded server in {self.data_dir} cannot be used: {error}; "
                "put that right, or give another data_dir"
            ) from error
        finally:
            self._mutex.release()
        return self.socket_path

    def close(self) -> None:
        """Stop the server if this process owns it, and wait until it has ended. Idempotent.

        The server gets SIGTERM, and SIGKILL if it still runs ten seconds later; neither loses an acknowledged
        write. Attached processes lose their connections; the first to call `ensure` becomes the owner.
        """
        if not self._lease.is_in_creator:
            return
        self._lease.closing.set()
        with self._mutex:
            self._finalizer()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_usable(self) -> None:
        if not self._lease.is_in_creator:
            raise SystemClosed("the embedded server belongs to the parent process; open the directory again here")
        if self._lease.closing.is_set():
            raise _closed_error()

    def _acquire(self, patience: _Patience) -> _RunningServer:
        lease = self._lease
        with ExitStack() as undo:
            undo.callback(lease.release_unless_running)
            while True:
                self._check_usable()
                running = lease.try_acquire(patience)
                if running is not None:
                    undo.pop_all()
                    return running
                if patience.is_over(lease.directory):
                    raise self._unavailable()
                lease.closing.wait(_POLL_SECONDS)

    def _unavailable(self) -> Unavailable:
        record = self._lease.directory.read_record()
        holder = "a server" if record is None or record.pid is None else f"the server (process {record.pid})"
        return Unavailable(
            f"{holder} holds {self.data_dir} and did not answer in time; end it if it hangs, or wait longer"
        )
