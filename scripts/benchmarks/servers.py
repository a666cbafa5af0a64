"""Servers for one measurement: Valkey processes of their own, gone at its end."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import redis

from duramen.events.embedded.process import ServerProcess, can_die_with_parent, find_server_binary, ready_pid

__all__ = ["Server"]

_START_SECONDS = 10.0
_STOP_SECONDS = 10.0


class Server:
    """A Valkey on a Unix socket. `durable`: an append-only file, synced before each answer; else nothing is kept.

    Its data is below `folder`, which should be on a disk: where it is memory, a sync costs nothing.
    """

    def __init__(self, folder: Path, *, durable: bool = False, modules: Sequence[Path] = ()) -> None:
        # The path of a socket must be short, so it is not below `folder`.
        self._socket_folder = Path(tempfile.mkdtemp(prefix="duramen-bench-"))
        folder.mkdir(parents=True, exist_ok=True)
        self._data = Path(tempfile.mkdtemp(prefix="server-", dir=folder))
        self._process = ServerProcess()
        settings = {
            "dir": str(self._data),
            "unixsocket": self.socket_path,
            "port": "0",
            "save": "",
            "appendonly": "yes" if durable else "no",
            "appendfsync": "always",
        }
        line = [str(find_server_binary()), *(word for name, value in settings.items() for word in (f"--{name}", value))]
        for module in modules:
            line += ["--loadmodule", str(module)]
        try:
            self._start(line)
        except BaseException:
            self.close()
            raise
        self._client = self.client()

    @property
    def socket_path(self) -> str:
        return str(self._socket_folder / "s.sock")

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def version(self) -> str:
        info = self._info("server")
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"

    def client(self) -> redis.Redis:
        """redis-py as it comes, with hiredis."""
        return redis.Redis(unix_socket_path=self.socket_path)

    def cpu_seconds(self) -> float:
        """CPU time of the server so far."""
        info = self._info("cpu")
        return float(str(info["used_cpu_user"])) + float(str(info["used_cpu_sys"]))

    def close(self) -> None:
        self._process.stop(_STOP_SECONDS)
        shutil.rmtree(self._socket_folder, ignore_errors=True)
        shutil.rmtree(self._data, ignore_errors=True)

    def _info(self, section: str) -> dict[str, object]:
        return cast("dict[str, object]", self._client.info(section))

    def _start(self, line: list[str]) -> None:
        log = self._data / "server.log"
        self._process.start(line, directory=self._data, log_file=log, die_with_parent=can_die_with_parent())
        deadline, rest = time.monotonic() + _START_SECONDS, threading.Event()
        while ready_pid(self.socket_path) != self._process.pid:
            if not self._process.is_alive or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")
            rest.wait(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
