"""Checkpoints that have left working memory are read, gone on from, copied and deleted like the others."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver

from duramen import AgentSystem
from duramen.adapters.langgraph import DuramenSaver, archive, writer

MOST, KEPT = 9, 3


@pytest.fixture(autouse=True)
def _leaving_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MOST", MOST)
    monkeypatch.setattr(writer, "KEPT", KEPT)
    monkeypatch.setattr(archive, "KEPT", KEPT)


@pytest.fixture
def ids() -> Iterator[str]:
    return (f"{number:08}" for number in count(1))


def on(thread_id: str, checkpoint_id: str | None = None) -> RunnableConfig:
    place = {} if checkpoint_id is None else {"checkpoint_id": checkpoint_id}
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", **place}}


class Author:
    """Puts the same checkpoints into several savers: lists that grow, shrink and change, other values, and writes."""

    def __init__(self, savers: list[Any], seed: int, ids: Iterator[str]) -> None:
        self.savers = savers
        self.chance = random.Random(seed)
        self.ids = ids
        self.values: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, str]] = {}

    def put(self, parent: str | None, run: str = "r") -> str:
        checkpoint_id = next(self.ids)
        values = {key: list(value) for key, value in self.values.get(parent or "", {}).items()}
        versions = dict(self.versions.get(parent or "", {}))
        changed = {}
        for channel in self.chance.sample(["a", "b", "c"], self.chance.randint(1, 3)):
            value = values.setdefault(channel, [])
            if value and self.chance.random() < 0.2:
                del value[self.chance.randrange(len(value)) :]
            value += [f"{checkpoint_id} {channel} {number}" for number in range(self.chance.randint(0, 2))]
            versions[channel] = changed[channel] = self.savers[0].get_next_version(versions.get(channel), None)
        self.values[checkpoint_id], self.versions[checkpoint_id] = values, versions
        for each in self.savers:
            checkpoint = {**empty_checkpoint(), "id": checkpoint_id, "ts": "now"}
            checkpoint |= {"channel_values": values, "channel_versions": versions}
            each.put(on("t", parent), checkpoint, {"run_id": run, "step": int(checkpoint_id)}, changed)
        if self.chance.random() < 0.4:
            self.put_writes(checkpoint_id)
        return checkpoint_id

    def put_writes(self, checkpoint_id: str) -> None:
        task = f"task {self.chance.random()}"
        for each in self.savers:
            each.put_writes(on("t", checkpoint_id), [("a", ["w"]), ("b", task)], task, "path")


def seen(saver: Any, thread_id: str = "t") -> list[CheckpointTuple]:
    return list(saver.list(on(thread_id)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_whatever_was_put_reads_as_from_the_saver_in_memory(seed: int, ids: Iterator[str]) -> None:
    with AgentSystem.open("memory://") as system:
        ours, theirs = DuramenSaver(system), InMemorySaver()
        author, last = Author([ours, theirs], seed, ids), None
        known: list[str] = []
        for number in range(60):
            if number % 13 == 12:
                last = author.chance.choice(known)  # go on from anywhere in the past
                author.put_writes(author.chance.choice(known))
            last = author.put(last)
            known.append(last)
        fresh = DuramenSaver(system)
        assert seen(ours) == seen(fresh) == seen(theirs)
        for checkpoint_id in known:
            assert fresh.get_tuple(on("t", checkpoint_id)) == theirs.get_tuple(on("t", checkpoint_id))
        assert len(system.agent(ours.path("t")).get("live//checkpoints".replace("//", "/~/"))) <= MOST + 1


def grown(system: AgentSystem, ids: Iterator[str], number: int = 30) -> tuple[DuramenSaver, InMemorySaver, Author]:
    ours, theirs = DuramenSaver(system), InMemorySaver()
    author, last = Author([ours, theirs], 1, ids), None
    for each in range(number):
        last = author.put(last, run=f"r{each % 3}")
    return ours, theirs, author


@pytest.mark.slow
def test_pages_of_a_listing_with_filters_are_those_of_the_saver_in_memory(
    system: AgentSystem, ids: Iterator[str]
) -> None:
    ours, theirs, _ = grown(system, ids)
    for arguments in ({"limit": 20}, {"before": on("t", "00000015")}, {"filter": {"run_id": "r1"}, "limit": 7}):
        found, expected = (list(each.list(on("t"), **arguments)) for each in (ours, theirs))
        assert found == expected
        assert found


@pytest.mark.slow
def test_a_copy_has_what_has_left_and_goes_its_own_way(system: AgentSystem, ids: Iterator[str]) -> None:
    ours, theirs, author = grown(system, ids)
    ours.copy_thread("t", "u")
    author.savers = [ours]
    author.put("00000030")

    def contents(found: list[CheckpointTuple]) -> list[Any]:
        return [(each.checkpoint, each.metadata, each.pending_writes) for each in found]

    assert contents(seen(ours, "u")) == contents(seen(theirs))
    assert len(seen(ours)) == 31


@pytest.mark.slow
def test_runs_are_deleted_wherever_their_checkpoints_are(system: AgentSystem, ids: Iterator[str]) -> None:
    ours, theirs, _ = grown(system, ids)
    ours.delete_for_runs(["r1"])
    assert seen(ours) == [each for each in seen(theirs) if each.metadata.get("run_id") != "r1"]


def test_pruning_forgets_what_has_left(system: AgentSystem, ids: Iterator[str]) -> None:
    ours, theirs, _ = grown(system, ids)
    ours.prune(["t"])
    assert seen(ours) == seen(theirs)[:1]
    assert ours.get_tuple(on("t", "00000001")) is None


@pytest.mark.slow
def test_what_was_trimmed_from_the_log_is_not_listed_any_more(system: AgentSystem, ids: Iterator[str]) -> None:
    ours, theirs, _ = grown(system, ids)
    system.trim(ours.path("t"), keep_events=1)
    left = seen(ours)
    assert left == seen(theirs)[: len(left)]
    assert KEPT <= len(left) <= MOST + 1
    assert ours.get_tuple(on("t", "00000001")) is None


def test_checkpoints_that_another_saver_has_let_leave_make_no_page_of_their_own(ids: Iterator[str]) -> None:
    """Each saver counts what it has put: both come to the limit, and the first of them lets all but a few leave."""
    with AgentSystem.open("memory://") as system:
        one, other = (Author([DuramenSaver(system)], 1, ids) for _ in range(2))
        for _ in range(MOST + 1):
            one.put(None)
            other.put(None)
        pages = system.agent(one.savers[0].path("t")).get("pages")[""]
        assert [len(page.runs) for page in archive.Page.all_of(pages)] == [2 * MOST + 1 - KEPT]
        for _ in range(MOST):
            other.put(None)
        assert len(system.agent(one.savers[0].path("t")).get("pages")[""]) == 2
