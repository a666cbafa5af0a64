"""The nodes of a cluster: which of them has each slot, and connections to each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import SystemRandom
from threading import Lock
from time import monotonic
from typing import Any, Final, cast

import redis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError

from .errors import Retry, classify_error
from .script import encode_command
from .tls import check_tls_mismatch, require_protocol
from .wire import CONNECTION_ERRORS, Wire

Address = tuple[str, int]
"""Host and port."""

PoolOf = Callable[[Address, float | None], redis.ConnectionPool]
"""Makes a pool of connections to one node; the number, if there is one, is the most seconds that it waits."""

SLOTS: Final = 16_384
_ASK_SECONDS: Final = 1.0
"""How long a node may take to say who has which slots: another one is asked then."""
_PAUSE: Final = 0.05
"""Seconds within which nobody asks again: many threads lose a node at the same time."""
_LOOK: Final = encode_command((b"CLUSTER", b"INFO")) + encode_command((b"CLUSTER", b"SLOTS"))
_random: Final = SystemRandom()


def slot_of(key: bytes) -> int:
    """Return the slot of a key or channel: that of its hash tag."""
    return key_slot(key)


class ClusterNodes:
    """Which node has each slot, as far as is known, and a pool of connections to each. Thread-safe.

    What is known may be late. A node that is asked for a slot it does not have says who has it (`note_moved`), and
    one that cannot be reached is a reason to ask the others (`refresh`).
    """

    def __init__(self, seeds: Sequence[Address], pool_of: PoolOf) -> None:
        """`seeds` are asked first, in any order; one that answers is enough."""
        self.seeds = tuple(seeds)
        self._pool_of = pool_of
        self._pools: dict[Address, redis.ConnectionPool] = {}
        self._owners: list[Address | None] = [None] * SLOTS
        self._version = 0
        self._refreshing = Lock()
        self._refreshed_at = 0.0
        self._making = Lock()

    @property
    def settings(self) -> redis.ConnectionPool:
        """A pool whose settings, such as time-outs, are those of all."""
        return self.pool(self.seeds[0])

    @property
    def version(self) -> int:
        """A number that grows when a slot is known to be elsewhere; 0: nothing is known yet."""
        return self._version

    @property
    def primaries(self) -> dict[Address, int]:
        """The nodes that have slots, as far as is known, each with one of its slots."""
        return {owner: slot for slot, owner in enumerate(self._owners) if owner is not None}

    def repeat(self) -> ClusterNodes:
        """Return `ClusterNodes` of the same cluster, without a connection, that learn by themselves."""
        return ClusterNodes([*dict.fromkeys((*self.seeds, *self.primaries))], self._pool_of)

    def owner_of(self, slot: int | None) -> Address:
        """Return the node that has a slot; any node for None.

        Raises ClusterDownError if no node is known to have it, and what `refresh` raises.
        """
        number = _random.randrange(SLOTS) if slot is None else slot
        owner = self._owners[number]
        if owner is None:
            self.refresh()
            owner = self._owners[number]
        if owner is None:
            raise ClusterDownError("no node has the slot")
        return owner

    def known_owner(self, slot: int) -> Address | None:
        """Return the node that has a slot, as far as is known. Asks nobody."""
        return self._owners[slot]

    def connect(self, address: Address) -> Wire:
        """Return a connection to a node. Raises CONNECTION_ERRORS, and UnsafeServer for a node that may not be used."""
        return Wire(self.pool(address))

    def pool(self, address: Address) -> redis.ConnectionPool:
        """Return the pool of a node. Raises UnsafeServer for one that may not be used."""
        pool = self._pools.get(address)
        if pool is None:
            with self._making:
                pool = self._pools.get(address)
                if pool is None:
                    pool = self._pools[address] = self._pool_of(address, None)
        return pool

    def note_moved(self, error: AskError, answered: Address) -> Address:
        """Return the node that the answer of another one names; remember it, if the slot is there for good."""
        host, port = cast("tuple[str, int]", cast("Any", error).node_addr)  # redis-py leaves their types open
        address = (host or answered[0], port)
        if isinstance(error, MovedError) and self._owners[error.slot_id] != address:
            self._owners[error.slot_id] = address
            self._version += 1
        return address

    def refresh(self, first: Address | None = None) -> None:
        """Ask a node who has which slots, `first` before the others; no more than a few times a second.

        Raises the error of the last node that was asked, if none has answered, and at once an error that will stay.
        """
        with self._refreshing:
            if monotonic() < self._refreshed_at + _PAUSE:
                return
            try:
                self._learn(self._best_answer(first))
            finally:
                self._refreshed_at = monotonic()

    def _best_answer(self, first: Address | None) -> list[Address | None]:
        """Return the owners of all slots by a node that sees the cluster whole, or else by any that answers."""
        trouble: Exception = ClusterDownError("no node has the slot")
        late: list[Address | None] | None = None
        for address in self._candidates(first):
            try:
                is_whole, owners = self._ask(address)
            except (redis.RedisError, OSError) as error:
                trouble = error
                if classify_error(error) is Retry.FATAL:
                    raise
                continue
            if is_whole:
                return owners
            late = late or owners
        if late is None:
            raise trouble
        return late

    def _candidates(self, first: Address | None) -> list[Address]:
        known = [*{*self.seeds, *self.primaries}]
        _random.shuffle(known)
        return [*dict.fromkeys([first, *known] if first else known)]

    def _ask(self, address: Address) -> tuple[bool, list[Address | None]]:
        pool = self._pool_of(address, _ASK_SECONDS)
        try:
            if not self._version:
                require_protocol(pool)
            wire = Wire(pool)
            try:
                wire.send(_LOOK)
                info, rows = wire.read(), wire.read()
            finally:
                wire.discard()
        except (*CONNECTION_ERRORS, redis.RedisError) as error:
            if not self._version:
                check_tls_mismatch(pool, error)
            raise
        return b"cluster_state:ok" in info, _owners_in(rows, address)

    def _learn(self, owners: list[Address | None]) -> None:
        # A node that knows no owner of a slot knows less than the one that has named it.
        merged = [new or old for new, old in zip(owners, self._owners, strict=True)]
        if merged != self._owners:
            self._owners = merged
            self._version += 1

    def disconnect(self) -> None:
        """Close all connections."""
        for pool in list(self._pools.values()):
            pool.disconnect()


def _owners_in(rows: Any, asked: Address) -> list[Address | None]:
    """Return the owner of each slot by the reply to CLUSTER SLOTS. An empty host is the one that was asked."""
    owners: list[Address | None] = [None] * SLOTS
    for first, last, (host, port, *_), *_ in rows:
        name = (host or b"").decode(errors="replace")
        if name != "?":
            owners[first : last + 1] = [(name or asked[0], int(port))] * (last + 1 - first)
    return owners
