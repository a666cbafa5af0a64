"""Hosts, owners and channels on a server: see the protocol, and the scripts in `lua/hosts/`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from time import time
from typing import Any, Final, Literal, cast
from uuid import uuid4

import msgpack

from ...errors import DuramenError
from ...log import (
    ClaimAnswer,
    Head,
    HostRecord,
    Keys,
    Located,
    MessagePublisher,
    MessageStream,
    Owner,
    Unfinished,
    UnfinishedPage,
    owner_of,
    pack_host,
    unpack_host,
)
from ...logging import get_logger
from ...model import root_of
from ..append_format import head_of
from ..client import RedisClient, Script, pack_for_lua
from .message_stream import RedisMessages
from .publisher import ClusterPublisher, RedisPublisher

_MOST_UNFINISHED: Final = 1_000
"""Agents on one page: Lua's stack takes less than 8,000 values."""


class RedisHostStore:
    """The hosts of one namespace of one server.

    `beats` has connections of its own, for hosts: a beat must not wait for a connection while agents use all of those
    of `server`. `secret` is the one of the integrity key, if there is one.
    """

    def __init__(
        self,
        server: RedisClient,
        beats: RedisClient,
        keys: Keys,
        partition_of: Callable[[str], int],
        secret: bytes | None,
    ) -> None:
        self._server = server
        self._beats = beats
        self._keys = keys
        self._partition_of = partition_of
        self._secret = secret
        self._hosts = [keys.hosts]
        self._beat = Script("hosts/beat")
        self._change = Script("hosts/change")
        self._claim = Script("hosts/claim")
        self._give = Script("hosts/give")
        self._unfinished = Script("hosts/unfinished", read_only=True)
        self._time = Script("hosts/time", read_only=True)
        self._streams: dict[str, RedisMessages] = {}
        self._log = get_logger("hosts")

    @property
    def secret(self) -> bytes:
        if self._secret is None:
            made = secrets.token_bytes(32)
            self._secret = cast(
                "bytes",
                self._server.run_script(
                    Script("namespace/secret"), [self._keys.namespace], [made], "read the namespace's secret"
                ),
            )
        return self._secret

    # -- hosts -----------------------------------------------------------------------------------------------------

    def join(self, record: HostRecord) -> None:
        self._change_host("join as a host", record.host, b"join", pack_host(record))

    def beat(self, host: str, load: int) -> int | None:
        arguments = [host.encode(), b"%d" % load]
        beat: int | None = self._beats.run_script(self._beat, self._hosts, arguments, "beat")
        if beat is not None:
            self._publish_beat(host, beat)
        return beat

    def _publish_beat(self, host: str, beat: int) -> None:
        """Publish by a command of its own: in a cluster the channel lies in another slot than the hosts."""
        stream = self._streams.get(host)
        if stream is None:
            return
        stream.expect_beat()
        channel = self._keys.host_channel(host).encode()
        try:
            self._beats.execute("publish a beat", self._beats.publish_command, channel, msgpack.packb(beat))
        except DuramenError as error:  # the beat itself has gone through
            stream.expect_no_beat()
            self._log.info("beat_not_published", error=type(error).__name__)

    def time(self) -> int | None:
        found = self._beats.run_script(self._time, self._hosts, [], "read the server's time")
        return None if found is None else int(found[0]) * 1_000_000 + int(found[1])

    def set_state(self, host: str, state: Literal["draining", "closed"]) -> bool:
        found = self._change_host("change this host's state", host, state.encode(), b"%d" % time())
        return found not in (None, b"buried")

    def announce(self, host: str, agent_types: Sequence[str]) -> None:
        self._change_host("announce agent types", host, b"types", pack_for_lua(agent_types))

    def hosts(self) -> list[HostRecord]:
        rows = self._beats.read_hash(self._keys.hosts, "list hosts")
        records = (unpack_host(host.decode(errors="replace"), rows[host]) for host in sorted(rows))
        return [record for record in records if record is not None]

    def find(self, host: str) -> HostRecord | None:
        stored = self._beats.execute("look at a host", b"HMGET", self._keys.hosts.encode(), host.encode())[0]
        return None if stored is None else unpack_host(host, stored)

    def bury(self, host: str, beat: int) -> bool:
        found = self._change_host("bury a host", host, b"buried", b"%d" % time(), b"%d" % beat)
        return found in (None, b"buried", b"closed")

    def forget(self, hosts: Collection[str]) -> None:
        calls = [(self._hosts, [host.encode(), b"forget"]) for host in hosts]
        self._beats.run_scripts(self._change, calls, "forget hosts")

    def _change_host(self, doing: str, host: str, *arguments: bytes) -> bytes | None:
        state: bytes | None = self._beats.run_script(self._change, self._hosts, [host.encode(), *arguments], doing)
        return state

    # -- owners ----------------------------------------------------------------------------------------------------

    def owner(self, agent: str) -> tuple[Owner, Head | None]:
        commands = self._look(agent)[:2]
        owner, head = self._server.execute_all("look who has an agent", commands)
        return owner_of(owner[0]), _head_in(head[0], agent)

    def locate(self, agent: str) -> Located:
        return self.locate_all([agent])[0]

    def locate_all(self, agents: Sequence[str]) -> list[Located]:
        commands = [command for agent in agents for command in self._look(agent)]
        found = self._server.execute_all("look who has an agent", commands)
        return [
            Located(owner_of(owner[0]), _head_in(head[0], agent), line[0])
            for agent, owner, head, line in zip(agents, found[::3], found[1::3], found[2::3], strict=True)
        ]

    def _look(self, agent: str) -> list[tuple[bytes, bytes, bytes]]:
        partition, name = self._partition_of(agent), agent.encode()
        return [
            (b"HMGET", self._keys.owners(partition).encode(), root_of(agent).encode()),
            (b"HMGET", self._keys.heads(partition).encode(), name),
            (b"HMGET", self._keys.directory(partition).encode(), name),
        ]

    def claim(self, agent: str, seen: Owner, head: Head, host: str, now: int) -> ClaimAnswer:
        return self.claim_all([(agent, seen, head)], host, now)[0]

    def claim_all(self, claims: Sequence[tuple[str, Owner, Head]], host: str, now: int) -> list[ClaimAnswer]:
        calls = [self._claim_call(*claim, host, now) for claim in claims]
        replies = cast("list[list[Any]]", self._server.run_scripts(self._claim, calls, "claim"))
        return [
            ClaimAnswer(bool(claimed), owner_of(owner), _head_in(stored, agent), int(length))
            for (agent, _, _), (claimed, owner, stored, length) in zip(claims, replies, strict=True)
        ]

    def _claim_call(
        self, agent: str, seen: Owner, head: Head, host: str, now: int
    ) -> tuple[Sequence[str], Sequence[bytes]]:
        partition = self._partition_of(agent)
        keys = [self._keys.owners(partition), self._keys.heads(partition), self._keys.log(partition, agent)]
        arguments = [
            *_seen(agent, seen)[:1],
            agent.encode(),
            *_seen(agent, seen)[1:],
            b"%d" % head.seq,
            head.digest,
            head.fence.encode(),
            host.encode(),
            b"%d" % now,
        ]
        return keys, arguments

    def take(self, agent: str, seen: Owner, host: str) -> Owner:
        return self._give_tree("take a tree", agent, seen, Owner(seen.epoch + 1, host))

    def release(self, agent: str, held: Owner) -> bool:
        nobody = Owner(held.epoch)
        return self._give_tree("release a tree", agent, held, nobody) == nobody

    def _give_tree(self, doing: str, agent: str, seen: Owner, given: Owner) -> Owner:
        keys = [self._keys.owners(self._partition_of(agent))]
        arguments = [*_seen(agent, seen), given.text.encode()]
        return owner_of(self._server.run_script(self._give, keys, arguments, doing))

    def unfinished(
        self, partition: int, limit: int, *, after: Unfinished | None = None, until_ms: int | None = None
    ) -> UnfinishedPage:
        keys = [self._keys.unfinished(partition), self._keys.owners(partition)]
        last = (b"", b"") if after is None else (b"%d" % after.due_ms, after.agent.encode())
        until = b"" if until_ms is None else b"%d" % until_ms
        arguments = [until, b"%d" % (time() * 1000), b"%d" % min(limit, _MOST_UNFINISHED), *last]
        reply = self._server.run_script(self._unfinished, keys, arguments, "look for unfinished work")
        now, rows, later = cast("list[Any]", reply)
        each = iter(rows)
        agents = [
            Unfinished(agent.decode(errors="replace"), int(float(due)), owner_of(owner))
            for agent, due, owner in zip(each, each, each, strict=True)
        ]
        return UnfinishedPage(int(now), agents, None if later is None else int(float(later)))

    # -- channels --------------------------------------------------------------------------------------------------

    def publish(self, host: str, message: bytes) -> int:
        channel = self._keys.host_channel(host).encode()
        return int(self._server.execute("send to another process", self._server.publish_command, channel, message))

    def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> None:
        publish = self._server.publish_command
        commands = [(publish, self._keys.host_channel(host).encode(), message) for host, message in messages]
        self._server.execute_all("send to other processes", commands)

    def publisher(self) -> MessagePublisher:
        nodes = self._server.nodes
        if nodes is not None:
            return ClusterPublisher(self._server, nodes, self._keys)
        return RedisPublisher(self._server, self._keys)

    def listen(self, host: str) -> MessageStream:
        stream = RedisMessages(self._server, host, self._keys.host_channel(host), self._forget_stream)
        self._streams[host] = stream
        return stream

    def _forget_stream(self, stream: RedisMessages) -> None:
        for host, one in list(self._streams.items()):
            if one is stream:
                self._streams.pop(host, None)

    def put_content(self, content: bytes, ttl_ms: int) -> str:
        content_id = uuid4().hex
        key = self._keys.content(content_id).encode()
        self._server.execute("store a large message", b"SET", key, content, b"PX", b"%d" % ttl_ms)
        return content_id

    def get_content(self, content_id: str) -> bytes | None:
        key = self._keys.content(content_id).encode()
        content: bytes | None = self._server.execute("load a large message", b"GET", key)
        return content


def _seen(agent: str, seen: Owner) -> list[bytes]:
    return [root_of(agent).encode(), b"%d" % seen.epoch, seen.host.encode()]


def _head_in(stored: bytes | None, agent: str) -> Head | None:
    return None if stored is None else head_of(stored, agent)
