"""Subscribers and consumers that start, stop, crash and reconnect while a stream is written and everything fails.

The same at full size, 50 followers of 5,000 events a second for a minute, by hand: see `nemesis`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from faults.evidence import Evidence, StoredEvent
from faults.followers import PLACES, PageResult, noted
from faults.judgement import Judge, kept_of
from faults.nemesis import CONSUMERS, KINDS, Child, Size, WriterProcess, demonstrate
from servers import Server, valkey_server
from waiting import eventually

SMALL = Size(followers=16, each=4, rate=1_500, seconds=12.0, proxied=2, pause=0.35)
AGENTS = [f"project-{number}/agent" for number in range(4)]


@pytest.fixture
def server() -> Iterator[Server]:
    """One that loses nothing that it has acknowledged when it is killed."""
    with valkey_server(aof=True) as running:
        yield running


@pytest.mark.timeout(300)
def test_under_every_fault_each_follower_sees_its_exact_suffix_once_and_in_order(server: Server, seed: int) -> None:
    outcome = demonstrate(SMALL, seed, server)
    assert outcome.problems == [], outcome.summary
    assert outcome.faults["died"] > 0, "nobody was killed between taking and storing"


# -- one process, killed at places that are named ----------------------------------------------------------------------


def told_of(kind: str, folder: Path, **more: Any) -> dict[str, Any]:
    """All events of all agents, from the first; of `values`, those that set a step of a plan, from now on."""
    values = kind == "values"
    return {
        "name": kind,
        "kind": kind,
        "pattern": "*/*/plan/**" if values else "**",
        "project": None,
        "under": "plan" if values else None,
        "level": "TRACE",
        "from_start": not values,
        "buffer": 200,
        "path": str(folder / f"{kind}.{'db' if kind == 'sink' else 'json'}"),
        **more,
    }


@define
class Stage:
    """A writer and one process of followers."""

    evidence: Evidence
    child: Child
    writer: WriterProcess

    def kill_at(self, place: str, after: int) -> None:
        self.child.order(do="die", place=place, after=after)
        eventually(self.child.revive, 60, what=f"killed at {place}")
        self.child.report()  # it has begun again

    def problems(self) -> list[str]:
        """Of all followers, when they have come to the end of the log."""
        self.writer.finish()
        judge, found = Judge.of(self.evidence, AGENTS), list(self.child.problems)
        for told in self.child.followers:
            eventually(partial(self._has_come_to, judge.last(told), told), 30, what="come to the end")
            found += judge.problems(told, self.child.report()[told["name"]])
            if told["kind"] in CONSUMERS:
                eventually(partial(self._is_kept, judge, told), what="stored")
        self.child.end()
        return found

    def _is_kept(self, judge: Judge, told: Mapping[str, Any]) -> bool:
        return not judge.differences(told, kept_of(self.evidence, told), {})

    def _has_come_to(self, last: Mapping[str, int], told: Mapping[str, Any]) -> bool:
        seen = self.child.report()[told["name"]]["seen"]
        return all(seen.get(agent, (0, 0, 0))[2] >= seq for agent, seq in last.items())


@pytest.fixture
def staged(server: Server, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "log.txt").open("w"))

        def stage(*followers: Mapping[str, Any], rate: int = 300) -> Stage:
            evidence = Evidence(server)
            place = {"url": server.url, "socket": server.socket_path, "namespace": evidence.namespace}
            writer = WriterProcess({**place, "agents": AGENTS, "rate": rate, "seed": 1}, log)
            stack.callback(writer.close)
            writer.writing()
            child = Child({**place, "followers": list(followers)}, log)
            stack.callback(child.close)
            child.start()
            child.report()
            return Stage(evidence, child, writer)

        yield stage


def test_a_follower_of_any_kind_that_is_killed_between_taking_and_storing_counts_each_event_once(
    staged: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = staged(*(told_of(kind, tmp_path) for kind in KINDS))
    for number, place in enumerate(sorted({place for places in PLACES.values() for place in places})):
        stage.kill_at(place, 3 + number)
    assert stage.problems() == []
    assert stage.child.starts > len(PLACES) // 2


def test_control_a_follower_that_stores_what_it_saw_without_its_cursor_is_found_to_count_twice(
    staged: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = staged(told_of("iterator", tmp_path, control="careless"))
    stage.kill_at("between", 5)
    found = stage.problems()
    assert any(" after " in problem for problem in found), found


@pytest.mark.parametrize("kind", ["callback", "async"])
def test_control_a_subscriber_that_does_not_hear_one_change_is_found(
    staged: Callable[..., Stage], tmp_path: Path, kind: str
) -> None:
    stage = staged(told_of(kind, tmp_path, control="deaf", at=40))
    eventually(lambda: sum(entry[1] for entry in stage.child.report()[kind]["seen"].values()) > 60)
    (problem,) = stage.problems()
    assert "and should be" in problem


# -- the judge itself --------------------------------------------------------------------------------------------------


LOG = {"a/b": [StoredEvent(seq, "memory_set", {"path": "x", "value": 1}, None, bytes([seq])) for seq in range(1, 7)]}
ALL: Mapping[str, Any] = {
    "name": "one",
    "kind": "batches",
    "pattern": "**",
    "project": None,
    "under": None,
    "level": "TRACE",
}


def account(seqs: Sequence[int]) -> PageResult:
    """Of a follower that has seen these events of `a/b`."""
    entry: list[Any] | None = None
    for seq in seqs:
        entry = noted(entry, seq, bytes([seq]))
    return {} if entry is None else {"a/b": entry}


@pytest.mark.parametrize(
    ("seqs", "begun", "right"),
    [
        ([1, 2, 3, 4, 5, 6], None, True),
        ([1, 2, 3, 4, 5], None, False),
        ([2, 3, 4, 5, 6], None, False),
        ([1, 2, 4, 5, 6], None, False),
        ([1, 2, 2, 3, 4, 5, 6], None, False),
        ([1, 3, 2, 4, 5, 6], None, False),
        ([], None, False),
        ([4, 5, 6], (2, 4), True),
        ([3, 4, 5, 6], (2, 4), True),
        ([5, 6], (2, 4), True),
        ([6], (2, 4), False),
        ([2, 3, 4, 5, 6], (2, 4), False),
        ([], (2, 4), False),
        ([], (2, 6), True),
        ([6], (2, 6), True),
        ([5], (2, 6), False),
    ],
)
def test_an_account_is_right_only_if_each_event_is_in_it_once_and_in_order_from_where_it_began(
    seqs: Sequence[int], begun: tuple[int, int] | None, right: bool
) -> None:
    began = {} if begun is None else {"before": {"a/b": begun[0]}, "after": {"a/b": begun[1]}}
    assert (Judge(LOG).differences(ALL, account(seqs), began) == []) is right


def test_an_account_of_an_agent_that_does_not_concern_the_follower_is_wrong() -> None:
    assert Judge(LOG).differences({**ALL, "project": "c"}, account([1]), {}) == ["a/b does not concern it"]
