"""Every key and channel that duramen uses, on one page.

All keys of a partition share the hash tag `{namespace:NN}` and so one cluster slot. No text of a user stands in a
key or channel: agent paths and checkpoint ids go in as hashes. NN is the partition: 00, 01 … 99, 100 … 4095.

| key | type | what it holds | life time |
|---|---|---|---|
| `duramen:{ns}` | HASH | format, number of partitions, identity of the log; `episodes` → `1` once the lists of episodes are complete; `embeddings:MID` → `1` for each hash of vectors; fingerprint of its integrity key, where it has one; else `secret`, which keys the messages between its processes | for ever |
| `duramen:{ns}:hosts` | HASH | host → msgpack [beat, state, machine, protocol, agent types, message types, load, ended at] | up to an hour after the host has ended |
| `duramen:{ns}:content:CONTENT` | STRING | what is too large for a message between processes | its TTL |
| `duramen:{ns}:embeddings:MID` | HASH | 16 bytes hash of a text → its vector, float32 little-endian; `dimensions` → how many numbers | for ever; may be deleted |
| `duramen:{ns}:views` | HASH | `live:NAME`, `next:NAME` → msgpack [token, revision, form, rest] of a consumer's view, `wish:NAME` → what it is asked to do | until removed |
| `duramen:{ns}:view:VID:live` `duramen:{ns}:view:VID:next` | STRING or HASH | a view that is kept whole (16 bytes of checksum, then msgpack), or msgpack an entry | until removed |
| `duramen:{ns:NN}:heads` | HASH | agent → msgpack [head, base, digest, fence, claimed at µs, updated at µs, largest]; level → last feed position with an event of it; `base` → entries trimmed from the feed; `~ID` → where the feed ended when this agent was last erased; `erasures` → how often the feed's entries were changed by that | for ever |
| `duramen:{ns:NN}:directory` | HASH | agent → msgpack [status, agent type, session id, whether a class of the user's is needed, metadata as msgpack or nil over 4 KiB] as of the last lifecycle event | for ever |
| `duramen:{ns:NN}:owners` | HASH | root agent → `epoch:host`, the host that has its tree; `epoch:`, or any other form: nobody has it | for ever |
| `duramen:{ns:NN}:erasing` | HASH | root of a tree of agents that is being erased → `1`, or `2` once its agents are gone, and the id of the host that does it | until that is done |
| `duramen:{ns:NN}:unfinished` | ZSET | agent → when its unfinished work is to be looked at, in ms; 0: at once | while it has some |
| `duramen:{ns:NN}:feed` | LIST | msgpack [agent, first seq, number of events, levels as bits] an append, in commit order | for ever |
| `duramen:{ns:NN}:episodes` | LIST | each episode of the partition's agents, in the order they were recorded: 16 bytes of checksum, then msgpack [agent, seq of its event, episode] | for ever |
| `duramen:{ns:NN}:log:ID` | LIST | the events of one agent: 16 bytes digest, then the body | for ever |
| `duramen:{ns:NN}:snapshot:ID` | STRING | the latest automatic snapshot | until the next |
| `duramen:{ns:NN}:bases` | HASH | agent → msgpack [base, digest of the event at base], where its log was trimmed | for ever |
| `duramen:{ns:NN}:base:ID` | STRING | the state at the base of a trimmed log | until it is trimmed again |
| `duramen:{ns:NN}:checkpoint:ID:CID` | STRING | one named checkpoint | its TTL, 7 days unless told otherwise |
| `duramen:{ns:NN}:keyframes:ID` | HASH | seq → a snapshot there, to begin a replay from; `setters:` seq → what has set its values | until the log is trimmed past it; may be deleted |
| `duramen:{ns:NN}:keyframe-seqs:ID` | ZSET | the seqs of these, each scored by itself | as those; may be deleted with them |
| `duramen:{ns:NN}:output:ID:OID` | LIST | one live output: a header, then entries, see below | its TTL, an hour after the latest entry unless told otherwise |
| `duramen:{ns:NN}:outputs:ID` | HASH | OID → name of each live output of an agent | 7 days after one was opened |
| `duramen:{ns:NN}:contents:ID` | HASH | digest → msgpack [size, written at ms] of each content of an agent that is too large for an event | for ever; a day while there is no such agent |
| `duramen:{ns:NN}:chunks:ID:DIGEST` | LIST | the chunks of such a content, of 1 MiB each | as contents |
| `duramen:{ns:NN}:staged:ID:TID` | LIST | events of an agent that is being imported, beside its log | a day after the last portion |
| `duramen:{ns:NN}:staged:ID:TID` | STRING, HASH or ZSET | checkpoints and keyframes of such an agent | a day |

| channel | what is published |
|---|---|
| `duramen:{ns:NN}:lifecycle` `:state` `:activity` `:trace` | msgpack [previous position, position, [[agent, first seq, [item …]] …], before, levels] a batch |
| `duramen:{ns:NN}:output:ID:OID` | msgpack [header, index, entry] an entry of a live output |
| `duramen:{ns:h:HOST}:in` | to the process of this host: frames of other processes, and its own beats, msgpack of a number |

ID is `blake2b(agent path, 16 bytes)` in hex, CID `blake2b(checkpoint id, 16 bytes)` in hex, MID the same of the name
of an embedding model, TID of the id of an import, VID of the name of a consumer, OID of the name of a live output. DIGEST is `blake2b(content, 32 bytes)` in hex. HOST is the host's id, CONTENT random or a keyed digest of what stands there.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final, cast

from ..errors import InvalidPath
from ..model import Granularity, hash_of_root

MOST_PARTITIONS: Final = 4_096
"""A cluster has 16,384 slots; more partitions would cost each reader of all feeds more than they spread."""
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def erasure_field(agent: str) -> str:
    """The field of the heads that says where the feed ended when an agent of this path was last erased."""
    return f"~{_identifier(agent)}"


def _identifier(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=65_536)
def partition_of(agent: str, partitions: int) -> int:
    """The partition of an agent: a stable hash of its root agent, so that a tree is always in one."""
    return int.from_bytes(hash_of_root(agent)) % partitions


class Keys:
    """The keys of one namespace. Raises InvalidPath for a namespace that is not `[A-Za-z0-9][A-Za-z0-9._-]*`."""

    def __init__(self, namespace: str) -> None:
        if type(cast("object", namespace)) is not str or not _NAMESPACE.match(namespace):
            raise InvalidPath(
                f"namespace {str(namespace)[:80]!r} is not allowed: use 1 to 64 of A-Z a-z 0-9 . _ -, "
                "the first a letter or digit"
            )
        self.namespace = f"duramen:{{{namespace}}}"
        self._open = f"duramen:{{{namespace}:"

    def _partition(self, partition: int) -> str:
        return f"{self._open}{partition:02d}}}:"

    @property
    def hosts(self) -> str:
        return f"{self.namespace}:hosts"

    def host_channel(self, host: str) -> str:
        return f"{self._open}h:{host}}}:in"

    def content(self, content_id: str) -> str:
        return f"{self.namespace}:content:{content_id}"

    @property
    def views(self) -> str:
        return f"{self.namespace}:views"

    def view(self, name: str, slot: str) -> str:
        return f"{self.namespace}:view:{_identifier(name)}:{slot}"

    def embeddings(self, model: str) -> str:
        return f"{self.namespace}:embeddings:{_identifier(model)}"

    def heads(self, partition: int) -> str:
        return f"{self._partition(partition)}heads"

    def directory(self, partition: int) -> str:
        return f"{self._partition(partition)}directory"

    def owners(self, partition: int) -> str:
        return f"{self._partition(partition)}owners"

    def erasing(self, partition: int) -> str:
        return f"{self._partition(partition)}erasing"

    def unfinished(self, partition: int) -> str:
        return f"{self._partition(partition)}unfinished"

    def feed(self, partition: int) -> str:
        return f"{self._partition(partition)}feed"

    def episodes(self, partition: int) -> str:
        return f"{self._partition(partition)}episodes"

    def log(self, partition: int, agent: str) -> str:
        return f"{self._partition(partition)}log:{_identifier(agent)}"

    def snapshot(self, partition: int, agent: str) -> str:
        return f"{self._partition(partition)}snapshot:{_identifier(agent)}"

    def bases(self, partition: int) -> str:
        return f"{self._partition(partition)}bases"

    def base(self, partition: int, agent: str) -> str:
        return f"{self._partition(partition)}base:{_identifier(agent)}"

    def checkpoint(self, partition: int, agent: str, checkpoint_id: str) -> str:
        return f"{self._partition(partition)}checkpoint:{_identifier(agent)}:{_identifier(checkpoint_id)}"

    def keyframes(self, partition: int, agent: str) -> str:
        return f"{self._partition(partition)}keyframes:{_identifier(agent)}"

    def keyframe_seqs(self, partition: int, agent: str) -> str:
        return f"{self._partition(partition)}keyframe-seqs:{_identifier(agent)}"

    def staged(self, partition: int, agent: str, token: str) -> str:
        return f"{self._partition(partition)}staged:{_identifier(agent)}:{_identifier(token)}"

    def output(self, partition: int, agent: str, name: str) -> str:
        """The key of a live output, and its channel."""
        return f"{self._partition(partition)}output:{_identifier(agent)}:{_identifier(name)}"

    def contents(self, partition: int, agent: str) -> str:
        return f"{self._partition(partition)}contents:{_identifier(agent)}"

    def chunks(self, partition: int, agent: str, digest: bytes) -> str:
        return f"{self._partition(partition)}chunks:{_identifier(agent)}:{digest.hex()}"

    def outputs(self, partition: int, agent: str) -> str:
        return f"{self._partition(partition)}outputs:{_identifier(agent)}"

    def channel(self, partition: int, level: Granularity) -> str:
        return f"{self._partition(partition)}{level.name.lower()}"
