"""Real server processes for tests: started, killed, paused and restarted at will. No mocks, none shared."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import redis
from attrs import define, field
from redis.backoff import NoBackoff
from redis.retry import Retry

from duramen.events.embedded.process import ServerProcess, can_die_with_parent, find_server_binary, ready_pid
from waiting import eventually

__all__ = ["Server", "free_port", "redis_server", "redis_server_binary", "valkey_server"]

_STOP_SECONDS = 30.0
_STARTS = 5
_PORTS = range(10_000, 16_000)
"""Below those that systems give to connections and to whoever asks for any port."""

_FAST: Mapping[str, str] = {"save": "", "appendonly": "no"}
_DURABLE: Mapping[str, str] = {"save": "", "appendonly": "yes", "appendfsync": "always"}


def redis_server_binary() -> Path:
    """Debian's `redis-server`, or the one that `DURAMEN_TEST_REDIS` names."""
    found = os.environ.get("DURAMEN_TEST_REDIS") or shutil.which("redis-server")
    assert found is not None, "the tests need a redis-server: install the package (apt-get install redis-server)"
    return Path(found)


def valkey_server(**options: Any) -> Server:
    """A running Valkey; the options are those of `Server`. Use it in a `with` statement, or close it."""
    return Server(kind="valkey", **options).start()


def redis_server(**options: Any) -> Server:
    """A running Redis; the options are those of `Server`. Use it in a `with` statement, or close it."""
    return Server(kind="redis", **options).start()


@define(eq=False, kw_only=True)
class Server:
    """One server process in a directory of its own, with a Unix socket and, if asked for, a TCP port.

    `config` overrides settings and may be changed between starts. `more_ports` names settings, such as `tls-port`, that
    are ports, too: the first start chooses them, and from then on they stand in `config`. With `aof` every acknowledged
    write survives `stop`, `kill9` and `restart`; without it none does. `directory` puts the data somewhere else, a
    small disk for instance; that one is not removed by `close`.
    """

    kind: Literal["valkey", "redis"] = "valkey"
    tcp: bool = False
    aof: bool = False
    config: dict[str, str] = field(factory=dict)
    more_ports: Sequence[str] = ()
    directory: Path | None = None
    port: int = field(init=False, default=0)
    _folder: Path = field(init=False)
    _process: ServerProcess | None = field(init=False, default=None)
    _remove: weakref.finalize[..., Server] = field(init=False)
    _has_ports: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        # Not below pytest's folders: the path of a socket must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="duramen-test-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    @property
    def socket_path(self) -> str:
        return str(self._folder / "server.sock")

    @property
    def url(self) -> str:
        """Over the Unix socket."""
        return f"unix://{self.socket_path}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; needs `tcp=True`."""
        assert self.tcp, "this server has no TCP port: make it with tcp=True"
        return ("127.0.0.1", self.port)

    @property
    def tcp_url(self) -> str:
        host, port = self.address
        return f"redis://{host}:{port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.is_alive

    @property
    def log(self) -> str:
        """All that the server has logged."""
        path = self._folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def client(self, **options: Any) -> redis.Redis:
        """A redis-py client over the Unix socket. It does not retry unless told to: faults are to be seen."""
        options.setdefault("retry", Retry(NoBackoff(), 0))
        return redis.Redis(unix_socket_path=self.socket_path, **options)

    def start(self, timeout: float = 60.0) -> Server:
        """Start the server and wait until it answers; its ports stay the same over restarts."""
        assert not self.running, "the server runs already"
        for _ in range(_STARTS):
            if not self._has_ports:
                self._choose_ports()
            if self._launch(timeout):
                self._has_ports = True
                return self
            if self._has_ports or "in use" not in self.log:
                break
            # Somebody was faster: once more, with other ports.
        raise AssertionError(f"the server did not start:\n{self.log}")

    def _choose_ports(self) -> None:
        if self.tcp:
            self.port = free_port()
        self.config.update((name, str(free_port())) for name in self.more_ports)

    def stop(self) -> None:
        """Let the server end by itself (SIGTERM)."""
        if self._process is not None:
            self.resume()
            self._process.stop(_STOP_SECONDS)

    def kill9(self) -> None:
        """End the server with SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            assert self._process.wait(_STOP_SECONDS), "the server outlived SIGKILL"

    def restart(self) -> Server:
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Stop the process where it stands (SIGSTOP): connections stay open, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        eventually(lambda: _state(self.pid) == "T", what="stopped")

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop the server and remove its directory. Idempotent."""
        self.stop()
        self._remove()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _launch(self, timeout: float) -> bool:
        process = self._process = ServerProcess()
        process.start(
            self._command(),
            directory=self._folder,
            log_file=self._folder / "server.log",
            die_with_parent=can_die_with_parent(),
        )
        try:
            eventually(lambda: not process.is_alive or self._ready(process), timeout, what="the server's start")
        except AssertionError:
            self.stop()
            raise
        return process.is_alive

    def _ready(self, process: ServerProcess) -> bool:
        return ready_pid(self.socket_path) == process.pid

    def _command(self) -> list[str]:
        settings = {
            "dir": str(self.directory or self._folder),
            "unixsocket": self.socket_path,
            "unixsocketperm": "700",
            "port": str(self.port),
            "bind": "127.0.0.1",
            "daemonize": "no",
            **(_DURABLE if self.aof else _FAST),
            **self.config,
        }
        binary = redis_server_binary() if self.kind == "redis" else find_server_binary()
        return [str(binary), *(word for name in settings for word in (f"--{name}", settings[name]))]


def free_port() -> int:
    """A port of the loopback that is free, and that no other test on this machine is given for a long time.

    One that the system chooses could be given to somebody else before its server has bound it, or while it restarts.
    """
    with (Path(tempfile.gettempdir()) / f"duramen-test-ports-{os.getuid()}").open("a+") as turns:
        fcntl.flock(turns, fcntl.LOCK_EX)
        turns.seek(0)
        turn = int(turns.read() or os.getpid() * 97 % len(_PORTS))  # the programs of earlier runs may hold the first
        while True:
            port = _PORTS[turn % len(_PORTS)]
            turn += 1
            if _is_free(port):
                break
        turns.truncate(0)
        turns.write(str(turn))
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: an ended connection is no use
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
