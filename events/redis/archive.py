"""The archive of a log on a Redis or Valkey server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..errors import CorruptEvent, DuramenError, NotPermitted, UnsafeServer
from ..log import (
    ADD_TO_LIST,
    NOTHING_UNFINISHED,
    Adoption,
    BegunErasure,
    Head,
    Keys,
    Put,
    Raw,
    RawPartition,
    SmallAgent,
    erasure_field,
    partition_of,
)
from ..logging import get_logger
from ..model import Granularity
from .append_format import head_of
from .client import RedisClient, RunCommand, Script, pack_for_lua

_EPISODES: Final = 1_000
"""Episodes of a partition that are read at once."""
_ERASURES: Final = b"1000"
"""Erasures of a partition that are looked for at once, at least."""
_FEED_STEP: Final = 1_000
"""Entries of a feed in one step of an erasure, each of which holds up the server."""
_DAY_MS: Final = 24 * 60 * 60 * 1000
_KEYFRAMES: Final = ("keyframe-seqs", "keyframes")
_SETTERS: Final = b"setters:%d"
_KEYFRAMES_LOOKED_AT: Final = b"1000"


class RedisArchive:
    """An `Archive` on a server. Thread-safe: it has no state."""

    def __init__(self, server: RedisClient, keys: Keys, partitions: int, publish: bytes = b"PUBLISH") -> None:
        self._server = server
        self._partitions = partitions
        self._keys = keys
        self._publish = publish
        self._keyframe = Script("agents/keyframe", read_only=True)
        self._setters = Script("agents/setters", read_only=True)
        self._keep_setters = Script("agents/keep_setters")
        self._stage = Script("agents/stage")
        self._adopt = Script("agents/adopt")
        self._erase = Script("erasures/erase")
        self._erase_feed = Script("erasures/erase_feed")
        self._take_erasure = Script("erasures/take")
        self._end_erasure = Script("erasures/end")
        self._permissions = Script("namespace/permissions")

    def _partition_of(self, agent: str) -> int:
        return partition_of(agent, self._partitions)

    # -- keyframes -------------------------------------------------------------------------------------------------

    def keyframes(self, agent: str) -> list[int]:
        try:
            found = self._server.execute("look for keyframes", b"ZRANGE", self._keyframe_seqs(agent), b"0", b"-1")
        except NotPermitted:
            return []  # an optimisation: the events can be read without it
        return [int(seq) for seq in found]

    def keyframe_before(self, agent: str, seq: int) -> tuple[int, bytes] | None:
        partition = self._partition_of(agent)
        keys = [self._keys.keyframe_seqs(partition, agent), self._keys.keyframes(partition, agent)]
        try:
            found = self._server.run_script(self._keyframe, keys, [b"%d" % seq], "look for a keyframe")
        except NotPermitted:
            return None
        return (int(found[0]), found[1]) if found and found[1] is not None else None

    def keyframe(self, agent: str, seq: int) -> bytes | None:
        stored: bytes | None = self._server.execute("load a keyframe", b"HMGET", self._keyframes(agent), b"%d" % seq)[0]
        return stored

    def keep_keyframe(self, agent: str, seq: int, stored: bytes) -> None:
        # The seq first: a snapshot whose seq was lost between the two would stay for ever.
        self._server.execute("keep a keyframe", b"ZADD", self._keyframe_seqs(agent), b"%d" % seq, b"%d" % seq)
        # Setters last: those that are put beside the former snapshot meanwhile go with it.
        self._server.execute_all(
            "keep a keyframe",
            [
                (b"HSET", self._keyframes(agent), b"%d" % seq, stored),
                (b"HDEL", self._keyframes(agent), _SETTERS % seq),
            ],
        )

    def drop_keyframes(self, agent: str, seqs: Sequence[int]) -> None:
        if seqs:
            fields = [b"%d" % seq for seq in seqs]
            beside = [_SETTERS % seq for seq in seqs]
            self._server.execute_all(
                "drop keyframes",
                [
                    (b"HDEL", self._keyframes(agent), *fields, *beside),
                    (b"ZREM", self._keyframe_seqs(agent), *fields),
                ],
            )

    def setters_before(self, agent: str, seq: int) -> tuple[int, bytes, bytes] | None:
        partition = self._partition_of(agent)
        keys = [self._keys.keyframe_seqs(partition, agent), self._keys.keyframes(partition, agent)]
        arguments = [b"%d" % seq, _KEYFRAMES_LOOKED_AT]
        try:
            found = self._server.run_script(self._setters, keys, arguments, "look for setters")
        except NotPermitted:
            return None
        return (int(found[0]), found[1], found[2]) if found else None

    def setters(self, agent: str, seq: int) -> bytes | None:
        stored: bytes | None = self._server.execute("load setters", b"HMGET", self._keyframes(agent), _SETTERS % seq)[0]
        return stored

    def keep_setters(self, agent: str, seq: int, stored: bytes) -> bool:
        keys = [self._keys.keyframes(self._partition_of(agent), agent)]
        return bool(self._server.run_script(self._keep_setters, keys, [b"%d" % seq, stored], "keep setters"))

    def _keyframes(self, agent: str) -> bytes:
        return self._keys.keyframes(self._partition_of(agent), agent).encode()

    def _keyframe_seqs(self, agent: str) -> bytes:
        return self._keys.keyframe_seqs(self._partition_of(agent), agent).encode()

    # -- as it is --------------------------------------------------------------------------------------------------

    def agents(self) -> list[str]:
        found: list[str] = []
        for partition in range(self._partitions):
            heads = self._server.read_hash(self._keys.heads(partition), "list agents")
            # Only the paths of agents have a slash; the other fields are positions of the feed.
            found += [agent.decode(errors="replace") for agent in heads if b"/" in agent]
        return found

    def heads(self, agents: Sequence[str]) -> list[Head | None]:
        key = self._keys.heads(self._partition_of(agents[0])).encode()
        found = self._server.execute("read heads", b"HMGET", key, *[agent.encode() for agent in agents])
        return [None if stored is None else head_of(stored, agent) for agent, stored in zip(agents, found, strict=True)]

    def raw(self, agent: str, at: int, count: int) -> Raw:
        partition = self._partition_of(agent)
        log, heads = self._keys.log(partition, agent).encode(), self._keys.heads(partition).encode()
        stored = self._server.execute("read a head", b"HMGET", heads, agent.encode())[0]
        head, damaged = _head(stored, agent)
        items: list[bytes]
        try:
            length, items = self._server.execute_all(
                "read a log as it is",
                [(b"LLEN", log), (b"LRANGE", log, b"%d" % at, b"%d" % (at + max(1, count) - 1))],
            )
        except UnsafeServer:  # the key holds another type
            length, items = -1, []
        return Raw(head, damaged, int(length), items)

    def read_small(self, agents: Sequence[str], most_bytes: int) -> list[SmallAgent | None]:
        try:
            return self._read_small(agents, most_bytes)
        except (UnsafeServer, NotPermitted):  # the key of one holds another type, or keyframes may not be read
            return [None] * len(agents)

    def _read_small(self, agents: Sequence[str], most_bytes: int) -> list[SmallAgent | None]:
        k, partition = self._keys, self._partition_of(agents[0])
        logs = {agent: k.log(partition, agent).encode() for agent in agents}
        fields = [agent.encode() for agent in agents]
        stored, *lengths = self._server.execute_all(
            "read small agents",
            [(b"HMGET", k.heads(partition).encode(), *fields), *[(b"LLEN", log) for log in logs.values()]],
        )
        small: dict[str, tuple[Head, int]] = {}
        for agent, row, length in zip(agents, stored, lengths, strict=True):
            head, _ = _head(row, agent)
            # Without a base: its state is then not much larger than its events, and so is its snapshot.
            if head is not None and head.base == 0 and 0 < head.largest * length <= most_bytes:
                small[agent] = (head, length)
        commands: list[Sequence[bytes]] = []
        for agent, (_, length) in small.items():
            commands.append((b"LRANGE", logs[agent], b"0", b"%d" % (length - 1)))
            commands.append((b"ZRANGE", self._keyframe_seqs(agent), b"0", b"-1"))
            commands.append((b"GET", k.snapshot(partition, agent).encode()))
        replies = iter(self._server.execute_all("read small agents", commands))
        found: dict[str, SmallAgent] = {}
        for (agent, (head, length)), items, seqs, snapshot in zip(
            small.items(), replies, replies, replies, strict=True
        ):
            found[agent] = SmallAgent(Raw(head, False, length, items), [int(seq) for seq in seqs], snapshot)
        return [found.get(agent) for agent in agents]

    def raw_partition(self, partition: int) -> RawPartition:
        key = self._keys.heads(partition)
        stored = self._read_hash(key)
        agents = {field.decode(errors="replace"): head for field, head in stored.items() if b"/" in field}
        heads = {agent: _head(head, agent)[0] for agent, head in agents.items()}
        directory = self._read_hash(self._keys.directory(partition))
        fields = [b"base", *[b"%d" % level for level in Granularity]]
        try:
            (base, *marks), length = self._server.execute_all(
                "read a feed as it is",
                [(b"HMGET", key.encode(), *fields), (b"LLEN", self._keys.feed(partition).encode())],
            )
        except UnsafeServer:
            base, marks, length = b"", [], -1
        return RawPartition(
            heads,
            {agent.decode(errors="replace"): line for agent, line in directory.items()},
            _number(base or b"0"),
            int(length),
            {int(level): _number(mark) for level, mark in zip(Granularity, marks, strict=False) if mark is not None},
        )

    def _read_hash(self, key: str) -> dict[bytes, bytes]:
        """A hash; empty where the key holds another type."""
        try:
            return self._server.read_hash(key, "read a partition as it is")
        except UnsafeServer:
            return {}

    # -- moving ----------------------------------------------------------------------------------------------------

    def put(self, puts: Sequence[Put]) -> None:
        for put in puts:
            if put.ttl_ms == ADD_TO_LIST:
                self._server.execute("add to a list", b"RPUSH", put.key.encode(), put.value)
                continue
            life = (b"PX", b"%d" % put.ttl_ms) if put.ttl_ms else ()
            self._server.execute("write a checkpoint", b"SET", put.key.encode(), put.value, *life)

    def stage(self, agent: str, token: str, at: int, previous: bytes, items: Sequence[bytes]) -> int:
        key = self._keys.staged(self._partition_of(agent), agent, token)
        arguments = [b"%d" % at, previous, b"%d" % _DAY_MS, *items]
        return int(self._server.run_script(self._stage, [key], arguments, "stage events"))

    def episodes(self, starts: Sequence[int]) -> tuple[list[list[bytes]], list[int]]:
        commands: list[Sequence[bytes]] = []
        for partition, start in enumerate(starts):
            episodes, heads = self._keys.episodes(partition).encode(), self._keys.heads(partition).encode()
            commands.append((b"LRANGE", episodes, b"%d" % start, b"%d" % (start + _EPISODES - 1)))
            commands.append((b"HMGET", heads, b"erasures"))
        replies = self._server.execute_all("read episodes", commands)
        return replies[::2], [int(erasures or 0) for (erasures,) in replies[1::2]]

    def has_all_episodes(self) -> bool:
        found = self._server.execute("read the namespace", b"HMGET", self._keys.namespace.encode(), b"episodes")
        return bool(found[0])

    def mark_all_episodes(self) -> None:
        self._server.execute("mark the episodes", b"HSET", self._keys.namespace.encode(), b"episodes", b"1")

    # -- erasing ---------------------------------------------------------------------------------------------------

    def begin_erasure(self, root: str, by: str) -> None:
        key = self._keys.erasing(self._partition_of(root)).encode()
        self._server.execute("begin to erase", b"HSET", key, root.encode(), _note(BegunErasure(by)))

    def end_erasure(self, root: str, begun: BegunErasure) -> bool:
        keys = [self._keys.erasing(self._partition_of(root))]
        arguments = [root.encode(), _note(begun)]
        return bool(self._server.run_script(self._end_erasure, keys, arguments, "end an erasure"))

    def erasing(self, partition: int) -> dict[str, BegunErasure]:
        found = self._server.read_hash(self._keys.erasing(partition), "look for erasures")
        return {root.decode(errors="replace"): _begun(note) for root, note in sorted(found.items())}

    def begun_erasures(self) -> list[tuple[str, BegunErasure]]:
        keys = [self._keys.erasing(partition).encode() for partition in range(self._partitions)]
        commands = [(b"HSCAN", key, b"0", b"COUNT", _ERASURES) for key in keys]
        found: list[tuple[str, BegunErasure]] = []
        for _, fields in self._server.execute_all("look for erasures", commands):
            for root, note in zip(fields[::2], fields[1::2], strict=True):
                found.append((root.decode(errors="replace"), _begun(note)))
        return found

    def take_erasure(self, root: str, host: str, by: str) -> bool:
        keys = [self._keys.erasing(self._partition_of(root))]
        arguments = [root.encode(), _note(BegunErasure(host)), _note(BegunErasure(by))]
        return bool(self._server.run_script(self._take_erasure, keys, arguments, "go on with an erasure"))

    def erase_from_feed(self, root: str, position: int) -> tuple[int, int]:
        partition = self._partition_of(root)
        keys = [self._keys.heads(partition), self._keys.feed(partition)]
        arguments = [root.encode(), b"%d" % position, b"%d" % _FEED_STEP]
        reached, end = self._server.run_script(self._erase_feed, keys, arguments, "erase from the feed")
        return int(reached), int(end)

    def rewrite_files(self) -> bool | None:
        needed = [pack_for_lua([["INFO"], ["BGREWRITEAOF"]])]
        refused = self._server.run_script_on_each(self._permissions, needed, "ask for this user's permissions")
        if any(each is None or each for each in refused):
            return False  # it would stand in the server's ACL LOG, with every erasure
        begun = [_begin_rewrite(run) for run in self._server.runners()]
        return None if all(each is None for each in begun) else False not in begun

    def erase(
        self, root: str, agents: Sequence[str], position: int, keys: Sequence[str], by: str, *, is_taken: bool
    ) -> int:
        k, partition = self._keys, self._partition_of(root)
        shared = [k.heads, k.directory, k.feed, k.bases, k.unfinished, k.owners, k.erasing]
        own = [k.log, k.snapshot, k.base, k.keyframes, k.keyframe_seqs, k.outputs, k.contents]
        rows: list[tuple[str, str, list[bytes]]] = []
        all_keys = [key(partition) for key in shared] + [key(partition, agent) for agent in agents for key in own]
        for agent in agents:
            outputs = self._server.read_hash(k.outputs(partition, agent), "look for live outputs")
            all_keys += [k.output(partition, agent, name.decode(errors="replace")) for name in outputs.values()]
            digests = list(self._server.read_hash(k.contents(partition, agent), "list contents"))
            all_keys += [k.chunks(partition, agent, digest) for digest in digests]
            rows.append((agent, erasure_field(agent), digests))
        whole, taken = (b"1" if each else b"" for each in (root.count("/") == 1, is_taken))
        arguments = [root.encode(), b"%d" % position, whole, pack_for_lua(rows), by.encode(), taken]
        return int(self._server.run_script(self._erase, [*all_keys, *keys], arguments, "erase agents"))

    def replace_episode(self, partition: int, at: int, stored: bytes, by: bytes) -> None:
        key = self._keys.episodes(partition).encode()
        found = self._server.execute("read episodes", b"LRANGE", key, b"%d" % at, b"%d" % at)
        if found == [stored]:
            self._server.execute("erase an episode", b"LSET", key, b"%d" % at, by)

    def stage_value(self, agent: str, token: str, key: str, value: bytes) -> None:
        staged = self._staged(agent, token, key).encode()
        self._server.execute("stage a checkpoint", b"SET", staged, value, b"PX", b"%d" % _DAY_MS)

    def stage_keyframe(self, agent: str, token: str, seq: int, stored: bytes) -> None:
        seqs, frames = (self._staged(agent, token, name).encode() for name in _KEYFRAMES)
        life, field = b"%d" % _DAY_MS, b"%d" % seq
        self._server.execute_all(
            "stage a keyframe",
            [
                (b"ZADD", seqs, field, field),
                (b"HSET", frames, field, stored),
                (b"PEXPIRE", seqs, life),
                (b"PEXPIRE", frames, life),
            ],
        )

    def _staged(self, agent: str, token: str, name: str) -> str:
        return self._keys.staged(self._partition_of(agent), agent, f"{token} {name}")

    def adopt(self, adoptions: Sequence[Adoption], token: str) -> str | None:
        partition = self._partition_of(adoptions[0].agent)
        k = self._keys
        keys = [key(partition) for key in (k.heads, k.directory, k.feed, k.bases, k.unfinished)]
        rows: list[list[Any]] = []
        for a in adoptions:
            keys += [k.staged(partition, a.agent, token), k.log(partition, a.agent)]
            keys += [put.key for put in a.puts]
            puts = [(put.value, put.ttl_ms) for put in a.puts]
            moves = [(self._staged(a.agent, token, key), key, ttl_ms) for key, ttl_ms in a.staged_values]
            if a.has_keyframes:
                kept = (k.keyframe_seqs(partition, a.agent), k.keyframes(partition, a.agent))
                moves += [
                    (self._staged(a.agent, token, name), key, 0) for name, key in zip(_KEYFRAMES, kept, strict=True)
                ]
            for staged, key, _ in moves:
                keys += [staged, key]
            if a.contents:
                keys.append(k.contents(partition, a.agent))
                keys += [k.chunks(partition, a.agent, digest) for digest in a.contents]
            lives = [ttl_ms for *_, ttl_ms in moves]
            row = [a.agent, a.seq, a.base, a.digest, a.fence, a.updated_at, a.entry, a.levels, puts, a.before]
            due = NOTHING_UNFINISHED if a.due_ms is None else a.due_ms
            rows.append([*row, a.largest, lives, a.first_in_feed, due, len(a.contents)])
        channels = [k.channel(partition, level).encode() for level in Granularity]
        reply = self._server.run_script(
            self._adopt, keys, [pack_for_lua(rows), self._publish, *channels], "adopt agents"
        )
        if reply is None:
            return None
        problem, agent = reply[0], reply[1].decode()
        if problem == b"exists":
            return str(agent)
        get_logger("log").warning("adoption_refused", agent=agent, problem=problem.decode())
        raise CorruptEvent(
            f"what stands on the server for {agent} is not what was staged for it; try again", agent=agent
        )


def _number(stored: bytes) -> int:
    return int(stored) if stored.isdigit() else -1


def _head(stored: bytes | None, agent: str) -> tuple[Head | None, bool]:
    if stored is None:
        return None, False
    try:
        return head_of(stored, agent), False
    except CorruptEvent:
        return None, True


def _begun(note: bytes) -> BegunErasure:
    return BegunErasure(note[1:].decode(errors="replace"), note[:1] == b"2")


def _note(begun: BegunErasure) -> bytes:
    return (b"2" if begun.done else b"1") + begun.host.encode()


def _begin_rewrite(run: RunCommand) -> bool | None:
    """Have a server rewrite its append-only file; False if it is at it, and None if it has none."""
    state = run("look at the append-only file", b"INFO", b"persistence")
    if b"aof_enabled:1" not in state:
        return None
    if b"aof_rewrite_in_progress:1" in state:
        return False
    try:
        run("rewrite the append-only file", b"BGREWRITEAOF")
    except DuramenError:  # another one has begun meanwhile
        return False
    return True
