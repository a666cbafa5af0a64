"""The log on a Redis or Valkey server."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast
from uuid import uuid4

import msgpack

from ..errors import CorruptEvent, DurabilityUnavailable, DuramenError, InvalidMessage, UnsafeServer
from ..log import (
    MOST_PARTITIONS,
    Base,
    Claim,
    CommittedAppend,
    ConsumerStore,
    ContentCache,
    Durability,
    Entry,
    FeedPage,
    FeedRequest,
    Head,
    LogBase,
    LogWriter,
    NoticeStream,
    Page,
    ReadAhead,
    Span,
    SpanEvents,
    damaged_entry,
    unpack_line,
)
from ..logging import get_logger
from ..model import Limits
from .append_format import AppendFormat, claim_of, head_of
from .archive import RedisArchive
from .client import (
    ConnectionLender,
    LentConnections,
    Pool,
    RunCommand,
    Script,
    client_of_pool,
    copy_pool,
    eviction_policy,
    pack_for_lua,
    refuse_eviction,
    refuse_mode,
    require_permissions,
)
from .confirmer import RedisConfirmer
from .feed import RedisFeed
from .notices import RedisNotices
from .pages import RedisPages
from .stores import LineScan, RedisCache, RedisConsumerStore, RedisContentStore, RedisHostStore, RedisOutputStore
from .trimming import RedisTrimming
from .writers import ClusterWriter, RedisWriter

FORMAT: Final = b"1"
"""Of keys and stored bytes. A namespace of another format is not opened."""
_BEAT_SECONDS: Final = 2.5
"""For which a beat is tried: then it is time for the next one."""


class RedisLog(LogBase):
    """Agents' logs in one namespace of one server. Thread-safe; connections are opened as needed.

    `ensure_server` is called when the server cannot be reached, before the next try: it starts or finds the embedded
    server. Raises typed errors only: `Unavailable` after `retry_seconds` of trying, `NotPermitted`, and
    at the start `UnsafeServer` for a server that may evict logs, unless `allow_eviction`, and `WrongKey` unless the
    namespace was made with this `integrity_key`, or without one.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        namespace: str = "default",
        partitions: int = 16,
        durability: Durability | None = None,
        limits: Limits | None = None,
        retry_seconds: float = 10.0,
        ensure_server: Callable[[], None] | None = None,
        allow_eviction: bool = False,
        integrity_key: bytes | None = None,
    ) -> None:
        super().__init__(namespace, partitions, integrity_key)
        self._server = client_of_pool(pool, retry_seconds=retry_seconds, ensure_server=ensure_server)
        self._limits = limits or Limits()
        self._claim = Script("agents/claim")
        self._pages = RedisPages(self._server, self._keys, self._limits)
        self._append = Script("agents/append")
        self._log = get_logger("log").bind(namespace=namespace)
        self._check_server(allow_eviction)
        self.identity, self.partitions = self._open(partitions)
        self._trimming = RedisTrimming(self._server, self._keys)
        self._feed = RedisFeed(self._server, self._keys, self.partitions)
        self._lender = ConnectionLender(self._server, namespace, self.partitions)
        self._consumers = RedisConsumerStore(self._server, self._keys)
        self._beats = client_of_pool(
            copy_pool(pool), retry_seconds=min(retry_seconds, _BEAT_SECONDS), ensure_server=ensure_server
        )
        secret = self.chain.message_secret(self.identity)
        self.hosts = RedisHostStore(self._server, self._beats, self._keys, self.partition_of, secret)
        self.contents = RedisContentStore(self._server, self._keys, self.partition_of)
        self.outputs = RedisOutputStore(self._server, self._keys, self.partition_of)
        self.archive = RedisArchive(self._server, self._keys, self.partitions, self._server.publish_command)
        self._confirmer = RedisConfirmer(self._server, self._keys)
        self._set_durability(durability)

    # -- writing ---------------------------------------------------------------------------------------------------

    def writer(self) -> LogWriter:
        form = AppendFormat(self._keys, self._limits, self._append, self._server.publish_command)
        nodes = self._server.nodes
        if nodes is not None:
            return ClusterWriter(
                nodes,
                self._keys,
                form,
                reply_timeout=self._server.reply_timeout,
                retry_seconds=self._server.retry_seconds,
                on_lost_notices=self._lost_notices,
            )
        return RedisWriter(
            partial(self._server.connect_to, None),
            form,
            reply_timeout=self._server.reply_timeout,
            retry_seconds=self._server.retry_seconds,
            on_lost_notices=self._lost_notices,
        )

    def confirm(self, durability: Durability, appends: Sequence[CommittedAppend]) -> list[DuramenError | None]:
        self.require_durability(durability)
        return self._confirmer.confirm(durability, appends, self.partition_of)

    def confirmed_by(self, agent: str) -> Hashable:
        return self._server.node_of(self.log_key(agent))

    def claim(self, agents: Sequence[str], owner: str, now: int) -> list[Claim | None]:
        found: dict[str, Claim | None] = {}
        for partition, members in self._by_partition(agents).items():
            keys = [self._keys.heads(partition), *[self._keys.log(partition, agent) for agent in members]]
            # A second claim only raises the epoch, so the call is repeated where its reply was lost.
            reply = self._server.run_script(
                self._claim, keys, [pack_for_lua(members), owner.encode(), b"%d" % now], "claim"
            )
            rows = cast("list[Any]", msgpack.unpackb(reply, raw=True))
            found.update((agent, claim_of(row, agent)) for agent, row in zip(members, rows, strict=True))
        return [found[agent] for agent in agents]

    def trim(self, agent: str, base: Base, snapshot: bytes) -> None:
        self._trimming.trim(self.partition_of(agent), agent, base, snapshot)

    def trim_feed(self, partition: int, position: int) -> int:
        return self._trimming.trim_feed(partition, position)

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, agent: str, from_seq: int, limit: int, *, seen: Head | None = None) -> Page | None:
        partition = self.partition_of(agent)
        page = None if seen is None else self._pages.page_after(partition, agent, from_seq, limit, seen)
        return page or self._pages.page(partition, agent, from_seq, limit)

    def pages(self, agent: str, from_seq: int, to_seq: int | None) -> Iterator[Page]:
        return self._pages.pages(self.partition_of(agent), agent, from_seq, to_seq)

    def base(self, agent: str) -> Base | None:
        return self._trimming.base(self.partition_of(agent), agent)

    def load(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._server.execute_all("load snapshots", [(b"GET", key.encode()) for key in keys])

    def exists(self, keys: Sequence[str]) -> list[bool]:
        found = self._server.execute_all("look for checkpoints", [(b"EXISTS", key.encode()) for key in keys])
        return [bool(count) for count in found]

    def directory(self, partition: int | None = None, *, metadata: Mapping[str, str] | None = None) -> Iterator[Entry]:
        partitions = range(self.partitions) if partition is None else (partition,)
        if metadata:
            yield from self._directory_with(partitions, metadata)
            return
        for each in partitions:
            yield from self._directory(each)

    def _directory_with(self, partitions: Sequence[int], metadata: Mapping[str, str]) -> Iterator[Entry]:
        scan = LineScan(
            self._server, self._keys.directory, [part for item in metadata.items() for part in _packed(item)]
        )
        seen: set[int] = set()
        for page in scan.pages(partitions):
            kept = [(partition, [item for item in lines if hash(item[0]) not in seen]) for partition, lines in page]
            kept = [(partition, lines) for partition, lines in kept if lines]
            commands = [
                (b"HMGET", self._keys.heads(partition).encode(), *(agent for agent, _ in lines))
                for partition, lines in kept
            ]
            replies = self._server.execute_all("list agents", commands)
            for (_, lines), heads in zip(kept, replies, strict=True):
                for (agent, line), head in zip(lines, heads, strict=True):
                    seen.add(hash(agent))
                    if head is not None:  # else it was erased meanwhile
                        yield _entry(agent.decode(errors="replace"), head, line)

    def _directory(self, partition: int) -> Iterator[Entry]:
        seen: set[int] = (
            set()
        )  # a scan may show a field twice; hashes of 1,000,000 paths take 60 MB, the paths twice that
        for heads in self._server.scan_hash(self._keys.heads(partition), "list agents"):
            agents = [
                agent for agent in heads if b"/" in agent and hash(agent) not in seen
            ]  # others: the feed's positions
            if agents:
                seen.update(map(hash, agents))
                lines = self._server.execute("list agents", b"HMGET", self._keys.directory(partition).encode(), *agents)
                for agent, line in zip(agents, lines, strict=True):
                    yield _entry(agent.decode(errors="replace"), heads[agent], line)

    def feed_pages(self, requests: Sequence[FeedRequest]) -> list[FeedPage]:
        return self._feed.pages(requests)

    def gather_all(self, requests: Sequence[tuple[int, Sequence[Span]]], most_bytes: int) -> list[list[SpanEvents]]:
        return self._feed.gather(requests, most_bytes)

    def erased_until(self, partition: int, agent: str) -> int:
        return self._feed.erased_until(partition, agent)

    def erased_agents(self, partition: int, agents: Sequence[str]) -> dict[str, int]:
        return self._feed.erased_agents(partition, agents)

    def erasures(self, partitions: Sequence[int]) -> list[int]:
        return self._feed.erasures(partitions)

    def read_ahead(self, partition: int) -> ReadAhead:
        return self._feed.read_ahead(partition)

    def lend(self, count: int) -> LentConnections | None:
        return None if self.chain.is_keyed else self._lender.lend(count)

    def positions(self) -> list[int]:
        return self._feed.positions()

    def notices(self, *, events: bool = False) -> NoticeStream:
        # A message also has positions, paths and lengths.
        return RedisNotices(self._server, self._keys, keep=2 * self._limits.notice_bytes if events else 0)

    def embeddings(self, model: str) -> ContentCache:
        return RedisCache(self._server, self._keys.embeddings(model), self._keys.namespace)

    def drop_vectors(self, texts: Sequence[bytes]) -> None:
        for cache in RedisCache.stored(self._server, self._keys.namespace):
            cache.drop(texts)

    def consumer_store(self) -> ConsumerStore:
        return self._consumers

    def close(self) -> None:
        self._beats.close()
        self._server.close()

    # -- the server ------------------------------------------------------------------------------------------------

    def _check_server(self, allow_eviction: bool) -> None:
        """Refuse a server that would lose logs, or this user half of a write. Raises UnsafeServer, NotPermitted."""
        in_cluster = self._server.nodes is not None
        for run in self._server.runners():
            refuse_mode(run, in_cluster=in_cluster)
            policy = eviction_policy(run)
            if not allow_eviction:
                refuse_eviction(policy)
            elif policy.startswith("allkeys-"):
                self._log.warning("logs_may_be_evicted", policy=policy, advice="set maxmemory-policy noeviction")
        probe = Script("namespace/permissions")
        require_permissions(
            lambda arguments: self._server.run_script_on_each(probe, arguments, "ask for this user's permissions"),
            self._keys,
            in_cluster=in_cluster,
        )

    _can_wait_for_disk: bool | None = None
    """Whether the server has WAITAOF and an append-only file; None: not asked yet."""

    def _open(self, partitions: int) -> tuple[str, int]:
        identity = uuid4().hex
        arguments = [FORMAT, b"%d" % partitions, identity.encode(), self.chain.fingerprint(identity).encode()]
        stored = self._server.run_script(
            Script("namespace/open"), [self._keys.namespace], arguments, "open the namespace"
        )
        if stored[0] != FORMAT:
            raise InvalidMessage(
                f"this namespace has format {stored[0].decode(errors='replace')[:20]}; "
                "update duramen or use another namespace"
            )
        known = stored[1] or b""
        if stored[2] is None or not known.isdigit() or not 1 <= int(known) <= MOST_PARTITIONS:
            raise UnsafeServer("this namespace is not whole: restore its key from a backup, or use another namespace")
        identity = stored[2].decode()
        self.chain.require_key(identity, (stored[3] or b"").decode(errors="replace"), "this namespace")
        return identity, int(known)

    def _set_durability(self, asked: Durability | None) -> None:
        """Set what appends reach by themselves, and unless they ask for another. Raises DurabilityUnavailable."""
        if self._syncs_always():
            self.committed_durability = "fsync"
        self.durability = self.committed_durability
        if asked is not None:
            self.unconfirmed = self.require_durability(asked)
            self.durability = self.committed_durability if self.unconfirmed is None else str(asked)

    def require_durability(self, asked: Durability) -> Durability | None:
        if asked.level == "memory" or str(asked) == self.committed_durability:
            return None
        if asked.level == "fsync":
            if self._can_wait_for_disk is None:
                self._can_wait_for_disk = self._has_waitaof()
            if not self._can_wait_for_disk:
                raise DurabilityUnavailable(
                    "durability fsync: set `appendonly yes` and `appendfsync always` on this server, or use Redis 7.2, "
                    "or Valkey, with `appendonly yes`",
                    expected="fsync",
                    actual=self.committed_durability,
                )
        return asked

    def _syncs_always(self) -> bool:
        try:
            return all(map(_syncs_always, self._server.runners()))
        except DuramenError:
            return False  # many users have no CONFIG; then no more is promised than is known

    def _has_waitaof(self) -> bool:
        return all(map(_has_waitaof, self._server.runners()))

    def _lost_notices(self, count: int) -> None:
        self._log.warning(
            "notices_not_published", count=count, advice="this user may not PUBLISH: see `duramen doctor`"
        )

    def _by_partition(self, agents: Sequence[str]) -> dict[int, list[str]]:
        members: dict[int, list[str]] = {}
        for agent in agents:
            members.setdefault(self.partition_of(agent), []).append(agent)
        return members


def _syncs_always(run: RunCommand) -> bool:
    settings = run("read the settings", b"CONFIG", b"GET", b"append*")
    found = dict(zip(settings[::2], settings[1::2], strict=True))
    return found.get(b"appendonly") == b"yes" and found.get(b"appendfsync") == b"always"


def _has_waitaof(run: RunCommand) -> bool:
    info = run("read the server's version", b"INFO")
    valkey = b"valkey_version:" in info
    version = re.search(rb"redis_version:(\d+)\.(\d+)", info)
    appends = b"aof_enabled:1" in info
    return appends and (valkey or (version is not None and (int(version[1]), int(version[2])) >= (7, 2)))


def _packed(texts: Iterable[str]) -> Iterator[bytes]:
    """Texts as they stand in the metadata of a line."""
    return (msgpack.packb(text).decode("latin-1").encode() for text in texts)


def _entry(agent: str, stored: bytes, line: bytes | None) -> Entry:
    try:
        head = head_of(stored, agent)
        return Entry(agent, head, *unpack_line(line))
    except (CorruptEvent, ValueError, TypeError):
        return damaged_entry(agent)
