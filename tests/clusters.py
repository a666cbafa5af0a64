"""A real cluster on the loopback, for tests: its nodes can be killed, its slots be moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Literal

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from servers import Server
from waiting import eventually

__all__ = ["Cluster", "slot_of"]

_SLOTS = 16_384
_NODE_TIMEOUT_MS = 1_000
_LONG_TIMEOUT_MS = 60_000
_PATIENCE = 60.0
_NEVER = Retry(NoBackoff(), 0)


def slot_of(key: str) -> int:
    return key_slot(key.encode())


class Cluster:
    """Primaries that share the slots evenly, each with a replica if asked for, until the `with` block ends."""

    def __init__(
        self,
        *,
        kind: Literal["valkey", "redis"] = "redis",
        primaries: int = 3,
        replicas: bool = False,
        config: dict[str, str] | None = None,
        password: str | None = None,
        with_tls: bool = False,
    ) -> None:
        """With TLS each node has a port for it, which it names to whoever comes by TLS, beside the plain one."""
        self._stack = ExitStack()
        self._kind = kind
        self._with_tls = with_tls
        self._password: str | None = None
        self._with_replicas = replicas
        self._config = config or {}
        count = primaries * (2 if replicas else 1)
        with ExitStack() as stack:
            self.nodes = [stack.enter_context(self._node()) for _ in range(count)]
            self._stack = stack.pop_all()
        self._form(primaries)
        if not replicas:  # no node takes over: one that is late on a busy machine is not to be taken for dead
            self.expect_failures(False)
        if password is not None:
            for node in self.nodes:
                self.call(node, "CONFIG", "SET", "masterauth", password, "requirepass", password)
            self._password = password

    def _node(self) -> Server:
        config = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(_NODE_TIMEOUT_MS),
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",  # a replica is listed once something has come from its primary
            **({"tls-cluster": "yes"} if self._with_tls else {}),
            **self._config,
        }
        ports = ("cluster-port", "tls-port") if self._with_tls else ("cluster-port",)
        return Server(kind=self._kind, tcp=True, config=config, more_ports=ports).start()

    def _form(self, primaries: int) -> None:
        for number, node in enumerate(self.nodes):
            self.call(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < primaries:
                first, last = number * _SLOTS // primaries, (number + 1) * _SLOTS // primaries - 1
                self.call(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
            for other in self.nodes[:number]:
                port = other.config.get("tls-port", other.port)
                self.call(node, "CLUSTER", "MEET", "127.0.0.1", port, other.config["cluster-port"])
        eventually(lambda: all(self._knows_all(node) for node in self.nodes), _PATIENCE, what="nodes that met")
        for number, node in enumerate(self.nodes[primaries:]):
            self.call(node, "CLUSTER", "REPLICATE", self.id_of(self.nodes[number]))
        self.wait_until_ready()

    def expect_failures(self, expected: bool) -> None:
        """Have nodes that are silent for a second taken for dead, or only those that are for very long."""
        for node in self.running:
            milliseconds = _NODE_TIMEOUT_MS if expected else _LONG_TIMEOUT_MS
            self.call(node, "CONFIG", "SET", "cluster-node-timeout", milliseconds)

    def wait_until_ready(self) -> None:
        """Wait until every node that runs says that all slots are served, and each replica follows its primary."""
        eventually(lambda: all(map(self._is_ready, self.running)), _PATIENCE, what="a cluster that is whole")

    @property
    def running(self) -> list[Server]:
        return [node for node in self.nodes if node.running]

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def url(self) -> str:
        return f"redis+cluster://{self.hosts}"

    @property
    def tls_url(self) -> str:
        return f"rediss+cluster://127.0.0.1:{self.nodes[0].config['tls-port']}"

    def client(self, **options: Any) -> redis.RedisCluster:
        """A client of redis-py's, for looks behind the library's back."""
        return redis.RedisCluster(host="127.0.0.1", port=self.running[0].port, **options)

    def call(self, node: Server, *command: Any) -> Any:
        with redis.Redis(port=node.port, password=self._password, socket_timeout=5, retry=_NEVER) as client:
            return client.execute_command(*command)

    def id_of(self, node: Server) -> str:
        return str(self.call(node, "CLUSTER", "MYID").decode())

    def owner_of(self, slot: int) -> Server:
        """The primary that has a slot, as the first node that runs says."""
        rows: Any = self._slots(self.running[0])
        port = next(row[2][1] for row in rows if row[0] <= slot <= row[1])
        return self._by_port(port)

    def replica_of(self, node: Server) -> Server:
        mine = next(row for row in self._slots(node) if row[2][1] == node.port)
        return self._by_port(mine[3][1])

    def wait_for_failover(self, slot: int, old: Server) -> Server:
        """Wait until every other node that runs names another primary for a slot, and return it."""
        others = [node for node in self.running if node is not old]

        def named(node: Server) -> set[int]:
            return {row[2][1] for row in self._slots(node) if row[0] <= slot <= row[1]}

        def agreed() -> int | None:
            ports = {port for node in others for port in named(node) or {0}}
            return ports.pop() if len(ports) == 1 and not ports & {old.port, 0} else None

        return self._by_port(eventually(agreed, _PATIENCE, what="another primary") or 0)

    @contextmanager
    def migration(self, slot: int, target: Server) -> Iterator[Server]:
        """Move a slot: the block runs in the middle, with the slot marked on both sides; then its keys are moved.

        Gives the node that has the slot before.
        """
        source = self.owner_of(slot)
        self.call(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        self.call(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        yield source
        while self.move_keys(slot, source, target, 100):
            pass
        for node in (target, *(other for other in self.running if other is not target)):
            if self._is_primary(node):
                self.call(node, "CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def move_keys(self, slot: int, source: Server, target: Server, most: int) -> int:
        """Move up to so many keys of a slot, and return how many there were."""
        keys: Any = self.call(source, "CLUSTER", "GETKEYSINSLOT", slot, most)
        if keys:
            self.call(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def move(self, slot: int, target: Server) -> None:
        """Move a slot with its keys, while the cluster works."""
        with self.migration(slot, target):
            pass

    def close(self) -> None:
        self._stack.close()

    def _by_port(self, port: int) -> Server:
        return next(node for node in self.nodes if node.port == port)

    def _slots(self, node: Server) -> Any:
        return self.call(node, "CLUSTER", "SLOTS")

    def _info(self, node: Server) -> dict[str, str]:
        text = self.call(node, "CLUSTER", "INFO")
        lines = text.decode().splitlines() if isinstance(text, bytes) else []
        return dict(line.split(":", 1) for line in lines) if lines else dict(text)

    def _is_primary(self, node: Server) -> bool:
        return bool(self.call(node, "ROLE")[0] == b"master")

    def _knows_all(self, node: Server) -> bool:
        nodes: Any = self.call(node, "CLUSTER", "NODES")
        listed = nodes.decode().splitlines() if isinstance(nodes, bytes) else list(nodes)
        return len(listed) == len(self.nodes) and "handshake" not in str(nodes)

    def _is_ready(self, node: Server) -> bool:
        role = self.call(node, "ROLE")
        linked = role[0] == b"master" or role[3] == b"connected"
        complete = not self._with_replicas or all(len(row) > 3 for row in self._slots(node))
        return linked and complete and self._info(node).get("cluster_state") == "ok"

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
