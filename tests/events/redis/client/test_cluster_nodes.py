"""What a node of a cluster says about the others, and what becomes of it."""

from __future__ import annotations

from typing import Any

import redis
from redis.exceptions import AskError, MovedError

from duramen.events.log.keys import Keys
from duramen.events.redis.client.cluster_nodes import ClusterNodes, _owners_in, slot_of

A, B = ("10.0.0.1", 7000), ("10.0.0.2", 7000)


def nodes() -> ClusterNodes:
    return ClusterNodes([A], lambda address, seconds: redis.ConnectionPool(host=address[0], port=address[1]))


def test_each_slot_has_the_node_that_stands_first_in_its_row() -> None:
    rows: list[Any] = [
        [0, 99, [b"10.0.0.1", 7000, b"id", []], [b"10.0.0.9", 7000, b"replica", []]],
        [200, 16_383, [b"node.example", 7001, b"id", []]],
    ]
    owners = _owners_in(rows, A)
    assert len(owners) == 16_384
    assert owners[0] == owners[99] == A
    assert owners[100:200] == [None] * 100
    assert owners[200] == owners[16_383] == ("node.example", 7001)


def test_a_node_without_a_host_is_the_one_that_was_asked_and_one_that_nobody_knows_is_none() -> None:
    rows: list[Any] = [
        [0, 0, [None, 7005, b"id", []]],
        [1, 1, [b"", 7006, b"id", []]],
        [2, 2, [b"?", 7007, b"id", []]],
    ]
    assert _owners_in(rows, A)[:3] == [("10.0.0.1", 7005), ("10.0.0.1", 7006), None]


def test_moved_is_remembered_and_ask_is_not() -> None:
    known = nodes()
    assert known.note_moved(AskError("7 10.0.0.2:7000"), A) == B
    assert (known.known_owner(7), known.version) == (None, 0)
    assert known.note_moved(MovedError("7 10.0.0.2:7000"), A) == B
    assert (known.known_owner(7), known.version) == (B, 1)
    known.note_moved(MovedError("7 10.0.0.2:7000"), A)
    assert known.version == 1  # nothing new
    assert known.note_moved(MovedError("7 :7003"), A) == ("10.0.0.1", 7003)


def test_all_keys_and_channels_of_a_partition_are_in_one_slot() -> None:
    keys = Keys("default")
    agent = "acme/alice"
    names = {keys.heads(7), keys.log(7, agent), keys.owners(7), keys.checkpoint(7, agent, "lunch")}
    assert len({slot_of(name.encode()) for name in names}) == 1
    assert len({slot_of(keys.heads(number).encode()) for number in range(16)}) > 1
