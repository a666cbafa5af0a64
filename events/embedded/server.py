"""The embedded server: one durable Valkey per data directory, shared by all processes that open it.

Two locks (`flock`, so they end with their holders) decide who does what:

    owner.lock   server.lock   the process that opens the directory
    free         free          takes both, starts the server, which inherits `server.lock`, and owns it
    free         busy          a server without an owner: takes it over, or waits until it has gone
    busy         any           attaches to the owner's server, or waits until there is one

While one server lives on the directory there cannot be a second, whatever became of who started it.
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

from attrs import define, field, frozen

from ..errors import SystemClosed, Unavailable
from .data_directory import DataDirectory, FileLock, ServerRecord
from .process import ServerProcess, can_die_with_parent, find_server_binary, ready_pid, request_shutdown

__all__ = ["EmbeddedServer"]

_POLL_SECONDS = 0.01
_STOP_SECONDS = 10.0


@frozen
class _Running:
    socket_path: str
    pid: int


@define(eq=False)
class _ServerLease:
    """What this process holds of the directory: the locks, and the server if it started one.

    It does not know the `EmbeddedServer` it belongs to, so a finalizer can hold it and still let that one go.
    """

    directory: DataDirectory
    binary: Path
    owner_lock: FileLock
    server_lock: FileLock
    process: ServerProcess | None = None
    closing: threading.Event = field(init=False, factory=threading.Event)
    home: int = field(init=False, factory=os.getpid)

    def __attrs_post_init__(self) -> None:
        # A forked child has our descriptors, and with them our locks, for as long as it lives.
        itself = weakref.ref(self)

        def in_child() -> None:
            tenancy = itself()
            if tenancy is not None:
                tenancy.owner_lock.drop()
                tenancy.server_lock.drop()

        os.register_at_fork(after_in_child=in_child)

    @property
    def here(self) -> bool:
        """Whether this is the process that made it, not a forked child."""
        return os.getpid() == self.home

    def reach(self, deadline: float) -> _Running | None:
        """Try once to get at a running server, by the table on top; None: nothing to be had yet."""
        if not self.owner_lock.acquire():
            return self._attach()
        if self.process is not None and self.process.alive:
            return self._own_server(self.process)
        if self.server_lock.acquire():
            return self._start(deadline)
        return self._adopt()

    def _attach(self) -> _Running | None:
        record = self.directory.read_record()
        pid = None if record is None else ready_pid(record.socket_path)
        return None if record is None or pid is None else _Running(record.socket_path, pid)

    def _own_server(self, process: ServerProcess) -> _Running | None:
        running = self._attach()
        record = self.directory.read_record()
        if running is None and (record is None or not os.path.exists(record.socket_path)):
            process.stop(_STOP_SECONDS)  # somebody removed its socket: nobody can reach it any more
        return running

    def _adopt(self) -> _Running | None:
        """Take over a server whose owner is gone.

        Where the kernel stops a server with its owner, this one is on its way out; it is asked once more,
        since a server may refuse (a full disk) what it is told by a signal.
        """
        record, running = self.directory.read_record(), self._attach()
        if record is None or running is None:
            return None
        if record.dies_with_owner:
            request_shutdown(record.socket_path)
            return None
        return running

    def _start(self, deadline: float) -> _Running:
        bound = can_die_with_parent()
        process = ServerProcess()
        with ExitStack() as undo:
            undo.callback(self.directory.forget_server)
            with ExitStack() as lock:
                lock.callback(self.server_lock.drop)  # from here on it is the server's alone
                socket_path = self.directory.place_socket()
                self.directory.write_record(ServerRecord(socket_path, bound, None))
                config = self.directory.write_config(socket_path)
                logged = self.directory.start_log()
                undo.callback(process.stop, _STOP_SECONDS)
                process.start(
                    [self.binary, config],
                    directory=self.directory.path,
                    log_file=self.directory.log_file,
                    inherit=[self.server_lock.descriptor],
                    die_with_parent=bound,
                )
            self.directory.write_record(ServerRecord(socket_path, bound, process.pid))
            running = self._until_ready(process, logged, deadline)
            self.process = process
            undo.pop_all()
            return running

    def _until_ready(self, process: ServerProcess, logged: int, deadline: float) -> _Running:
        while process.alive:
            running = self._attach()
            if running is not None:
                return running
            if self.closing.is_set():
                raise _closed()
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the embedded server in {self.directory.path} was not ready in time; give it a longer "
                    f"time-out if it has much to load. Its log ends:\n{self.directory.log_tail(logged)}"
                )
            process.wait(_POLL_SECONDS)
        raise Unavailable(
            f"the embedded server in {self.directory.path} stopped while starting (exit code "
            f"{process.exit_code}). Its log, {self.directory.log_file.name}, ends:\n"
            f"{self.directory.log_tail(logged)}\n"
            "Free disk space or memory if it lacks that; put back a copy of the directory if its files are "
            "damaged; or give another data_dir, or the url of a server.",
            actual=process.exit_code,
        )

    def leave(self) -> None:
        """Stop the server if it is ours, and give the directory back. Nothing happens in a forked child."""
        if not self.here or not self.owner_lock.held:
            return
        self.closing.set()
        try:
            if self.process is not None:
                self.process.stop(_STOP_SECONDS)
                self.process = None
                self.directory.forget_server()
            else:
                self._stop_adopted()
        finally:
            self.owner_lock.release()

    def let_go(self) -> None:
        """Give up the owner's part if there is no server of ours that needs an owner."""
        if self.process is None or not self.process.alive:
            self.process = None
            self.owner_lock.release()

    def _stop_adopted(self) -> None:
        record = self.directory.read_record()
        deadline = time.monotonic() + _STOP_SECONDS
        while record is not None and not self.server_lock.acquire():
            if time.monotonic() > deadline:
                return  # it hangs, and a process id proves nothing: who opens the directory next will find it
            request_shutdown(record.socket_path)
            threading.Event().wait(_POLL_SECONDS)
        self.directory.forget_server()
        self.server_lock.release()


def _closed() -> SystemClosed:
    return SystemClosed("this embedded server is closed; open the directory again")


@define(eq=False)
class EmbeddedServer:
    """A running Valkey server on a directory of this machine, and this process's part in it.

    Every acknowledged write is on the disk (append-only file, synced before each reply). Only this user can
    reach the server: there is no TCP port, and its socket lies in a private directory.

    The first process to open a directory owns the server, which stops when that process closes it, ends or is
    killed. Others attach; when the owner has gone, they call `ensure`, and one of them becomes the owner.

    All methods may be called from any thread. In a forked child `close` does nothing and `ensure` raises
    `SystemClosed`; the server stays the parent's.
    """

    _tenancy: _ServerLease
    _running: _Running = field(init=False, default=_Running("", 0))
    _mutex: threading.RLock = field(init=False, factory=threading.RLock)  # a signal handler may close
    _finalizer: weakref.finalize[[], EmbeddedServer] = field(init=False)

    def __attrs_post_init__(self) -> None:
        # Runs at the latest when the interpreter exits, before its threads are gone.
        self._finalizer = weakref.finalize(self, self._tenancy.leave)

    @classmethod
    def open(cls, data_dir: str | os.PathLike[str] = ".duramen", *, timeout: float = 20.0) -> EmbeddedServer:
        """Start the server of a directory, or attach to it; it answers when this returns.

        `timeout` is in seconds and includes loading the data. Raises `Unavailable` when the directory cannot
        be used, the server does not start (with the end of its log), or the time is over; no process, lock or
        socket is then left behind.
        """
        binary = find_server_binary()
        directory = DataDirectory.prepare(data_dir)
        locks = FileLock(directory.owner_lock), FileLock(directory.server_lock)
        server = cls(_ServerLease(directory, binary, *locks))
        with ExitStack() as undo:
            undo.callback(server.close)
            server.ensure(timeout)
            undo.pop_all()
        return server

    @property
    def data_dir(self) -> Path:
        """The directory, absolute and without links."""
        return self._tenancy.directory.path

    @property
    def socket_path(self) -> str:
        """Path of the server's Unix socket; another one may hold after `ensure`."""
        return self._running.socket_path

    @property
    def url(self) -> str:
        """The socket as a `unix://` url."""
        return f"unix://{quote(self.socket_path)}"

    @property
    def pid(self) -> int:
        """Process id of the server when it was last asked, as the server itself counts it."""
        return self._running.pid

    @property
    def owner(self) -> bool:
        """Whether this process started or adopted the server and will stop it."""
        return self._tenancy.here and self._tenancy.owner_lock.held

    def ensure(self, timeout: float = 20.0) -> str:
        """Make sure that a server runs for this directory, and return the path of its socket.

        For a client whose connection broke. It costs one round trip while the server answers; otherwise it
        attaches to the server of a new owner, or becomes the owner and starts one. It does not promise that
        the server is there a moment later: one that is shutting down may still answer.

        Raises `Unavailable` when there is none after `timeout` seconds, `SystemClosed` after `close` and in a
        forked child.
        """
        deadline = time.monotonic() + timeout
        self._check_usable()
        pid = ready_pid(self.socket_path, min(timeout, 1.0)) if self.socket_path else None
        if pid is not None:
            self._running = _Running(self.socket_path, pid)
            return self.socket_path
        if not self._mutex.acquire(timeout=max(timeout, 0)):
            raise self._unavailable()
        try:
            self._running = self._reach(deadline)
        except OSError as error:
            raise Unavailable(
                f"the embedded server in {self.data_dir} cannot be used: {error}; "
                "put that right, or give another data_dir"
            ) from error
        finally:
            self._mutex.release()
        return self.socket_path

    def close(self) -> None:
        """Stop the server if this process owns it, and wait until it is gone. Idempotent.

        It is told to exit (SIGTERM) and killed if it has not after ten seconds; neither loses an acknowledged
        write. Attached processes lose their connections, and the first to call `ensure` takes over.
        """
        if not self._tenancy.here:
            return
        self._tenancy.closing.set()
        with self._mutex:
            self._finalizer()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_usable(self) -> None:
        if not self._tenancy.here:
            raise SystemClosed("the embedded server belongs to the parent process; open the directory again here")
        if self._tenancy.closing.is_set():
            raise _closed()

    def _reach(self, deadline: float) -> _Running:
        tenancy = self._tenancy
        with ExitStack() as undo:
            undo.callback(tenancy.let_go)
            while True:
                self._check_usable()
                running = tenancy.reach(deadline)
                if running is not None:
                    undo.pop_all()
                    return running
                if time.monotonic() > deadline:
                    raise self._unavailable()
                tenancy.closing.wait(_POLL_SECONDS)

    def _unavailable(self) -> Unavailable:
        record = self._tenancy.directory.read_record()
        who = "a server" if record is None or record.pid is None else f"the server (process {record.pid})"
        return Unavailable(
            f"{who} holds {self.data_dir} and did not answer in time; end it if it hangs, or wait longer"
        )
