"""Every key and channel that duramen uses, on one page.

All keys of a partition share the hash tag `{namespace:NN}` and so one cluster slot. No text of a user stands in a
key or channel: agent paths and checkpoint ids go in as hashes. NN is the partition, 00, 01 …

| key | type | what it holds | life time |
|---|---|---|---|
| `duramen:{ns}` | HASH | format, number of partitions, identity of the log | for ever |
| `duramen:{ns:NN}:heads` | HASH | agent → msgpack [head, base, digest, fence, claimed at µs, updated at µs] | for ever |
| `duramen:{ns:NN}:directory` | HASH | agent → msgpack [status, agent type, session id] as of the last lifecycle event | for ever |
| `duramen:{ns:NN}:feed` | LIST | msgpack [agent, first seq, number of events, levels as bits] an append, in commit order | for ever |
| `duramen:{ns:NN}:marks` | HASH | level → last feed position with an event of it; `base` → entries trimmed from the feed | for ever |
| `duramen:{ns:NN}:log:ID` | LIST | the events of one agent: 16 bytes digest, then the body | for ever |
| `duramen:{ns:NN}:snapshot:ID` | STRING | the latest automatic snapshot | until the next |
| `duramen:{ns:NN}:checkpoint:ID:CID` | STRING | one named checkpoint | its TTL, 7 days unless told otherwise |

| channel | what is published |
|---|---|
| `duramen:{ns:NN}:lifecycle` `:state` `:activity` `:trace` | msgpack [previous position, position, [[agent, seq, item] …]] a batch |

ID is `blake2b(agent path, 16 bytes)` in hex, CID `blake2b(checkpoint id, 16 bytes)` in hex.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final, cast

from .errors import InvalidPath
from .model import Granularity

__all__ = ["Keys", "partition_of"]

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def _identifier(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=65_536)
def partition_of(agent: str, partitions: int) -> int:
    """The partition of an agent: a stable hash of its root agent, so that a tree is always in one."""
    first, second = agent.split("/", 2)[:2]
    root = blake2b(f"{first}/{second}".encode(), digest_size=8).digest()
    return int.from_bytes(root) % partitions


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

    def heads(self, partition: int) -> str:
        return f"{self._partition(partition)}heads"

    def directory(self, partition: int) -> str:
        return f"{self._partition(partition)}directory"

    def feed(self, partition: int) -> str:
        return f"{self._partition(partition)}feed"

    def marks(self, partition: int) -> str:
        return f"{self._partition(partition)}marks"

    def log(self, partition: int, agent: str) -> str:
        return f"{self._partition(partition)}log:{_identifier(agent)}"

    def snapshot(self, partition: int, agent: str) -> str:
        return f"{self._partition(partition)}snapshot:{_identifier(agent)}"

    def checkpoint(self, partition: int, agent: str, checkpoint_id: str) -> str:
        return f"{self._partition(partition)}checkpoint:{_identifier(agent)}:{_identifier(checkpoint_id)}"

    def channel(self, partition: int, level: Granularity) -> str:
        return f"{self._partition(partition)}{level.name.lower()}"
