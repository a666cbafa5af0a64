"""Where trees are placed: evenly over the hosts, and a host that comes or goes moves its share and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from random import Random

import pytest

from duramen.actors.hosts.hosting import place, weight

Place = Callable[[str, Collection[str]], str]


def hosts_of(count: int, seed: int = 1) -> list[str]:
    random = Random(seed)
    return [f"{random.getrandbits(128):032x}" for _ in range(count)]


def trees_of(count: int) -> list[str]:
    return [f"project-{number % 7}/agent-{number}" for number in range(count)]


@pytest.mark.slow
def test_a_host_that_joins_takes_trees_from_others_and_moves_none_between_them() -> None:
    hosts, trees = hosts_of(50), trees_of(1_000)
    joined = hosts_of(1, seed=2)[0]
    before = {tree: place(tree, hosts) for tree in trees}
    after = {tree: place(tree, [*hosts, joined]) for tree in trees}
    moved = [tree for tree in trees if before[tree] != after[tree]]
    assert {after[tree] for tree in moved} == {joined}
    assert 0 < len(moved) < 60, "its share is 20"


@pytest.mark.slow
def test_a_host_that_leaves_gives_its_trees_to_all_others_and_moves_no_other() -> None:
    hosts, trees = hosts_of(50), trees_of(2_000)
    before = {tree: place(tree, hosts) for tree in trees}
    after = {tree: place(tree, hosts[1:]) for tree in trees}
    moved = [tree for tree in trees if before[tree] != after[tree]]
    assert {before[tree] for tree in moved} == {hosts[0]}
    assert max(Counter(after[tree] for tree in moved).values()) <= 6, "nearly each goes to another host"


def by_remainder(root: str, hosts: Collection[str]) -> str:
    """How not to do it."""
    return list(hosts)[int.from_bytes(weight(root, ""), "big") % len(hosts)]


def test_placing_by_a_remainder_would_move_nearly_all() -> None:
    """Control."""
    hosts, trees = hosts_of(50), trees_of(500)
    joined = [*hosts, *hosts_of(1, seed=2)]
    assert sum(by_remainder(tree, hosts) != by_remainder(tree, joined) for tree in trees) > 450


def test_the_order_in_which_hosts_are_listed_does_not_matter() -> None:
    hosts = hosts_of(50)
    turned = Random(3).sample(hosts, len(hosts))
    assert [place(tree, hosts) for tree in trees_of(200)] == [place(tree, turned) for tree in trees_of(200)]


@pytest.mark.slow
def test_a_thousand_hosts_have_their_shares_and_each_that_joins_takes_one_of_them() -> None:
    """As even as chance: with m trees a host, the counts have variance m. A joiner's share is one part of 1,001."""
    hosts, trees = hosts_of(1_000), trees_of(4_000)
    greatest = {tree: max((weight(tree, host), host) for host in hosts) for tree in trees}
    counts = Counter(host for _, host in greatest.values())
    mean = len(trees) / len(hosts)
    variance = sum((counts[host] - mean) ** 2 for host in hosts) / len(hosts)
    assert 0.85 * mean < variance < 1.15 * mean
    assert max(counts.values()) <= 15, "of a mean of 4"

    joiners = hosts_of(100, seed=2)
    moved = [sum(weight(tree, joiner) > greatest[tree][0] for tree in trees) for joiner in joiners]
    assert 320 < sum(moved) < 480, "400 in the mean: 4 for each of a hundred that might join"
    assert max(moved) <= 15
