"""Three real sentinels that watch a primary, for tests."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from duramen.events.embedded.process import ServerProcess, can_die_with_parent
from servers import free_port, redis_server_binary
from waiting import eventually

__all__ = ["NAME", "Sentinels"]

NAME = "main"
"""The primary's name."""
_COUNT = 3
_STARTS = 5
_QUORUM = 2
_DOWN_MS = 1_500
"""A primary that is late on a busy machine is not to be taken for dead."""
_FAILOVER_MS = 3_000


class Sentinels:
    """Debian's redis-server as sentinels, until the `with` block ends. `address` is that of the primary.

    `password` is their own; with `user` they log in to primary and replicas as this user, with its name as password.
    """

    def __init__(self, address: tuple[str, int], *, password: str | None = None, user: str | None = None) -> None:
        self.ports: list[int] = []
        self._folder = Path(tempfile.mkdtemp(prefix="duramen-sentinel-"))
        self._processes: list[ServerProcess] = []
        self._password = password
        host, port = address
        settings = (
            f"bind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {NAME} {host} {port} {_QUORUM}\n"
            f"sentinel down-after-milliseconds {NAME} {_DOWN_MS}\n"
            f"sentinel failover-timeout {NAME} {_FAILOVER_MS}\n"
            + (f"sentinel auth-user {NAME} {user}\nsentinel auth-pass {NAME} {user}\n" if user else "")
            + (f"requirepass {password}\nsentinel sentinel-pass {password}\n" if password else "")
        )
        try:
            for number in range(_COUNT):
                self._start(number, settings)
        except BaseException:
            self.close()
            raise

    def _start(self, number: int, settings: str) -> None:
        """Start a sentinel; once more with another port if somebody else has taken the first meanwhile."""
        file, log = self._folder / f"{number}.conf", self._folder / f"{number}.log"
        for _ in range(_STARTS):
            own, process = free_port(), ServerProcess()
            file.write_text(f"port {own}\n{settings}")
            process.start(
                [str(redis_server_binary()), str(file), "--sentinel"],
                directory=self._folder,
                log_file=log,
                die_with_parent=can_die_with_parent(),
            )
            eventually(partial(_is_decided, process, log), 60.0, what="a sentinel's start")
            if process.is_alive:
                self.ports.append(own)
                self._processes.append(process)
                return
        raise AssertionError(f"the sentinel did not start:\n{log.read_text()}")

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{self.hosts}/{NAME}"

    def client(self, number: int = 0) -> redis.Redis:
        return redis.Redis(
            port=self.ports[number],
            password=self._password,
            socket_timeout=1,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    def primary(self) -> tuple[str, int] | None:
        """The primary that the first sentinel names."""
        try:
            with self.client() as client:
                found: Any = client.sentinel_get_master_addr_by_name(NAME)
        except redis.RedisError:
            return None
        return None if found is None else (str(found[0]), int(found[1]))

    def wait_until_ready(self, replicas: int = 1) -> None:
        """Wait until each sentinel knows the others and the replicas."""

        def ready() -> bool:
            try:
                for number in range(_COUNT):
                    with self.client(number) as client:
                        state: Any = client.sentinel_masters()[NAME]
                        known: Any = client.sentinel_slaves(NAME)
                    online = [each for each in known if each.get("master-link-status") == "ok"]
                    if state["num-other-sentinels"] < _COUNT - 1 or len(online) < replicas:
                        return False
            except (redis.RedisError, KeyError):
                return False
            return True

        eventually(ready, 60.0, what="sentinels that know each other")

    def wait_for_failover(self, old: tuple[str, int]) -> None:
        """Wait until the first sentinel names another primary."""
        eventually(lambda: self.primary() not in (None, old), 60.0, what="another primary")

    def __enter__(self) -> Sentinels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for process in self._processes:
            process.stop(10.0)
        shutil.rmtree(self._folder, ignore_errors=True)


def _is_decided(process: ServerProcess, log: Path) -> bool:
    """Whether a sentinel runs, or has ended because it cannot."""
    return not process.is_alive or "Sentinel ID is" in log.read_text()
