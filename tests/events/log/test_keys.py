"""Keys and channels: golden, in one slot a partition, and free of users' text."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from duramen.events.errors import InvalidPath
from duramen.events.log.keys import Keys, partition_of
from duramen.events.model.event import Granularity

segments = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
paths = st.lists(segments, min_size=2, max_size=6).map("/".join)
namespaces = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
counts = st.integers(1, 99)


def all_keys(keys: Keys, partition: int, agent: str, checkpoint: str) -> list[str]:
    return [
        keys.heads(partition),
        keys.directory(partition),
        keys.feed(partition),
        keys.log(partition, agent),
        keys.snapshot(partition, agent),
        keys.checkpoint(partition, agent, checkpoint),
        *(keys.channel(partition, level) for level in Granularity),
    ]


def test_the_keys_are_these() -> None:
    """Golden: whoever changes one loses what is stored."""
    assert Keys("default").namespace == "duramen:{default}"
    assert all_keys(Keys("default"), 3, "acme/alice", "lunch") == [
        "duramen:{default:03}:heads",
        "duramen:{default:03}:directory",
        "duramen:{default:03}:feed",
        "duramen:{default:03}:log:4c64f7e71452f44105238776d860009e",
        "duramen:{default:03}:snapshot:4c64f7e71452f44105238776d860009e",
        "duramen:{default:03}:checkpoint:4c64f7e71452f44105238776d860009e:e16aa2d3efabee51dc0ec36e41c2a820",
        "duramen:{default:03}:lifecycle",
        "duramen:{default:03}:state",
        "duramen:{default:03}:activity",
        "duramen:{default:03}:trace",
    ]


def test_the_keys_of_consumers_are_these_and_in_the_slot_of_the_namespace() -> None:
    keys = Keys("default")
    made = [keys.views, keys.view("costs", "live"), keys.view("costs", "next")]
    assert made == [
        "duramen:{default}:views",
        "duramen:{default}:view:9375c1b09fecbeb5d89446e797446f80:live",
        "duramen:{default}:view:9375c1b09fecbeb5d89446e797446f80:next",
    ]
    assert {key_slot(key.encode()) for key in made} == {key_slot(keys.namespace.encode())}


@pytest.mark.parametrize(
    ("agent", "partitions", "partition"),
    [
        ("acme/alice", 16, 3),
        ("acme/alice", 1, 0),
        ("acme/alice", 99, 66),
        ("acme/bob", 16, 9),
        ("x/y", 16, 11),
        ("x/y", 7, 6),
    ],
)
def test_the_partition_of_an_agent_is_this(agent: str, partitions: int, partition: int) -> None:
    assert partition_of(agent, partitions) == partition


@pytest.mark.slow
@given(agent=paths, below=st.lists(segments, max_size=5), partitions=counts)
def test_a_whole_tree_is_in_one_partition(agent: str, below: list[str], partitions: int) -> None:
    root = "/".join(agent.split("/")[:2])
    found = {partition_of("/".join([start, *below]), partitions) for start in (root, agent)}
    assert len(found) == 1
    assert found == {int.from_bytes(blake2b(root.encode(), digest_size=8).digest(), "big") % partitions}


@pytest.mark.slow
@given(namespace=namespaces, partition=st.integers(0, 98), agent=paths, checkpoint=st.text(max_size=50))
def test_all_keys_of_a_partition_are_in_one_slot(namespace: str, partition: int, agent: str, checkpoint: str) -> None:
    found = all_keys(Keys(namespace), partition, agent, checkpoint)
    assert len({key_slot(key.encode()) for key in found}) == 1
    assert len(set(found)) == len(found)


@given(namespace=namespaces, agent=paths, checkpoint=st.text(max_size=50))
def test_a_key_has_nothing_of_an_agents_or_checkpoints_name(namespace: str, agent: str, checkpoint: str) -> None:
    prefix = f"duramen:{{{namespace}:07}}:"
    for key in all_keys(Keys(namespace), 7, agent, checkpoint):
        assert key.startswith(prefix)
        assert re.fullmatch(r"[a-z]+(:[0-9a-f]{32}){0,2}", key.removeprefix(prefix))


@given(one=st.tuples(namespaces, st.integers(0, 98)), other=st.tuples(namespaces, st.integers(0, 98)))
def test_two_partitions_share_no_key(one: tuple[str, int], other: tuple[str, int]) -> None:
    first = {Keys(one[0]).namespace, *all_keys(Keys(one[0]), one[1], "a/b", "c")}
    second = {Keys(other[0]).namespace, *all_keys(Keys(other[0]), other[1], "a/b", "c")}
    if one == other:
        assert first == second
    else:
        shared = {Keys(one[0]).namespace} if one[0] == other[0] else set()
        assert first & second == shared


@given(text=st.text(max_size=70))
def test_a_namespace_is_allowed_only_in_its_plain_form(text: str) -> None:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text) and not text.endswith("\n"):
        assert Keys(text).namespace == f"duramen:{{{text}}}"
    else:
        with pytest.raises(InvalidPath):
            Keys(text)


@pytest.mark.parametrize("namespace", [None, 5, b"default", ["default"]])
def test_a_namespace_that_is_no_text_is_refused(namespace: Any) -> None:
    with pytest.raises(InvalidPath):
        Keys(namespace)
