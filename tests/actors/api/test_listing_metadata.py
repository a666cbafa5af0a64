"""Agents are listed by the metadata of their sessions, whatever texts these are, and only those that have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from duramen.actors import AgentSystem

OpenSystem = Callable[..., AgentSystem]

METADATA: dict[str, dict[str, Any]] = {
    "acme/plain": {"user": "kim", "n": 1},
    "acme/other": {"user": "kimberley"},
    "acme/beside": {"kim": "user", "x": "kim"},
    "acme/script": {"user": "ユーザー é \x00 😀", "n": 1.0},
    "acme/large": {"user": "kim", "notes": "x" * 5_000},
    "acme/nested": {"in": {"user": "kim"}},
    "acme/number": {"user": 1, "n": True},
    "acme/none": {},
}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"user": "kim"}, {"acme/plain", "acme/large"}),
        ({"user": "kim", "n": 1}, {"acme/plain"}),
        ({"user": "ユーザー é \x00 😀"}, {"acme/script"}),
        ({"user": "\ud800"}, set()),
        ({"n": 1}, {"acme/plain"}),
        ({"in": {"user": "kim"}}, {"acme/nested"}),
        ({"kim": "user"}, {"acme/beside"}),
        ({"missing": "kim"}, set()),
        ({}, set(METADATA)),
    ],
)
def test_agents_are_found_by_their_metadata(any_system: AgentSystem, wanted: Any, expected: set[str]) -> None:
    for path, metadata in METADATA.items():
        any_system.spawn(path, metadata=metadata)
    assert {entry.agent for entry in any_system.agents(metadata=wanted)} == expected


def test_many_are_found_once_each_and_up_to_a_limit(open_any: OpenSystem) -> None:
    system = open_any(partitions=2)
    for number in range(120):
        system.spawn(f"acme/a-{number}", metadata={"user": f"u-{number % 3}"}).set("n", number)
    found = [entry.agent for entry in system.agents(metadata={"user": "u-1"})]
    assert sorted(found) == sorted(f"acme/a-{number}" for number in range(1, 120, 3))
    assert {entry.seq for entry in system.agents(metadata={"user": "u-1"})} == {2}
    assert len(list(system.agents(metadata={"user": "u-1"}, limit=7))) == 7
    system.erase("acme/a-1")
    assert len(list(system.agents(metadata={"user": "u-1"}))) == 39
