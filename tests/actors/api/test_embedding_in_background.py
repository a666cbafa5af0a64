"""The consumer that embeds episodes: on one host at a time, each text once, taken over where that host has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from duramen.actors import AgentSystem
from duramen.events import EmbeddingFailed, InvalidMessage
from duramen.projections.consumers import host_of
from duramen.projections.episodes import episode_text, hash_of_text
from hashing import Recorder, hashed
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
NAME = "embedding.m"


def ended(system: AgentSystem, path: str, text: str) -> str:
    """Have a session of its own; the text of its episode."""
    found = system.spawn(path).terminate(task_description=text)
    episode = system.episodes.get(found.data["episode_id"])
    assert episode is not None
    return episode_text(episode)


def embedding(system: AgentSystem, embed: Any = None, **options: Any) -> Recorder:
    calls = embed or Recorder()
    system.episodes.use_embedding(calls, **{"name": "m", "background": True, **options})
    return calls


def stored(system: AgentSystem, *texts: str) -> list[bool]:
    """For each text, whether its vector is stored."""
    return [found is not None for found in system.log.embeddings("m").load([hash_of_text(text) for text in texts])]


def owner(system: AgentSystem) -> str:
    record = system.log.consumer_store().find(NAME).live
    assert record is not None
    return host_of(record)


def test_an_episode_is_embedded_though_nobody_searches(open_any: OpenSystem) -> None:
    system = open_any()
    before = ended(system, "acme/before", "Explained the refund policy")
    calls = embedding(system)
    after = ended(system, "acme/after", "Booked a train")
    eventually(lambda: stored(system, before, after) == [True, True])
    found = system.episodes.search("train", limit=1)
    assert [one.episode.agent for one in found] == ["acme/after"]
    assert sorted(calls.texts) == sorted([before, after, "train"])


def test_without_it_only_a_search_embeds(system: AgentSystem) -> None:
    calls = embedding(system, background=False)
    text = ended(system, "acme/a", "Booked a train")
    assert (system.projections(), calls.texts) == ([], [])
    system.episodes.search("train")
    assert calls.texts == [text, "train"]


def test_one_of_many_hosts_embeds_and_the_others_load_what_it_has_stored(open_any: OpenSystem) -> None:
    systems = [open_any() for _ in range(3)]
    recorders = [embedding(system) for system in systems]
    texts = [ended(system, f"acme/a{at}", f"Session {at}") for at, system in enumerate(systems * 2)]
    eventually(lambda: all(stored(systems[0], *texts)))
    assert sorted(recorders[0].texts) == sorted(texts)
    assert [recorder.texts for recorder in recorders[1:]] == [[], []]
    assert [len(system.episodes.search("Session 4")) for system in systems] == [6, 6, 6]
    assert [recorder.texts for recorder in recorders[1:]] == [["Session 4"], ["Session 4"]]
    assert owner(systems[0]) == owner(systems[1]) != ""
    assert eventually(lambda: systems[0].consumers.get(NAME).lag == 0)


@pytest.mark.slow
def test_another_host_takes_over_where_the_first_has_ended(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    recorders = [embedding(first), embedding(second)]
    text = ended(first, "acme/a", "Booked a train")
    eventually(lambda: stored(second, text) == [True])
    first.close()
    later = ended(second, "acme/b", "Missed a train")
    eventually(lambda: stored(second, text, later) == [True, True])
    assert [recorder.texts for recorder in recorders] == [[text], [later]]


@pytest.mark.slow
def test_a_host_that_has_stopped_embedding_leaves_it_to_another_one(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    for system in (first, second):
        embedding(system)
    embedding(first, name="other", background=False)
    text = ended(second, "acme/a", "Booked a train")
    eventually(lambda: stored(second, text) == [True])
    assert owner(second) == second._hosted.host


def test_a_host_that_lives_keeps_it_whatever_happens_to_others(open_any: OpenSystem) -> None:
    first, second, third = (open_any() for _ in range(3))
    for system in (first, second):
        embedding(system)
    before = owner(second)
    third.close()
    text = ended(second, "acme/a", "Booked a train")
    eventually(lambda: stored(second, text) == [True])
    assert owner(second) == before


def test_it_goes_on_after_a_restart_and_asks_for_nothing_that_is_stored(open_any: OpenSystem) -> None:
    first = open_any()
    embedding(first)
    text = ended(first, "acme/a", "Booked a train")
    eventually(lambda: stored(first, text) == [True])
    first.close()
    second = open_any()
    missed = ended(second, "acme/b", "Missed a train")
    calls = embedding(second)
    eventually(lambda: stored(second, missed) == [True])
    assert len(second.episodes.search("train")) == 2
    assert sorted(calls.texts) == sorted([missed, "train"])
    other = embedding(open_any(), name="other", background=False)  # the control: another model
    assert other.texts == []


def test_it_tries_again_for_as_long_as_the_embedding_fails(system: AgentSystem) -> None:
    calls = Recorder()
    calls.fail = RuntimeError("hunter2")
    embedding(system, calls)
    text = ended(system, "acme/a", "Booked a train")
    eventually(lambda: len(calls.calls) > 1)
    with pytest.raises(EmbeddingFailed):
        system.episodes.search("train")
    calls.fail = None
    eventually(lambda: stored(system, text) == [True])
    assert eventually(lambda: system.consumers.get(NAME).lag == 0)


def test_it_tries_again_with_the_episodes_that_were_there_before(system: AgentSystem) -> None:
    text = ended(system, "acme/a", "Booked a train")
    calls = Recorder()
    calls.fail = RuntimeError("hunter2")
    embedding(system, calls)
    eventually(lambda: len(calls.calls) > 1)
    assert stored(system, text) == [False]
    calls.fail = None
    eventually(lambda: stored(system, text) == [True])


@pytest.mark.slow
def test_another_host_embeds_the_episodes_that_the_first_has_not_come_to(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    text = ended(first, "acme/a", "Booked a train")
    failing = Recorder()
    failing.fail = RuntimeError("hunter2")
    embedding(first, failing)
    calls = embedding(second)
    eventually(lambda: failing.calls)
    assert calls.texts == []
    first.close()
    eventually(lambda: stored(second, text) == [True])
    assert calls.texts == [text]


def test_what_is_erased_while_it_is_embedded_leaves_no_vector(open_any: OpenSystem, gate: threading.Event) -> None:
    system, other, entered = open_any(), open_any(), threading.Event()

    def slow(texts: list[str]) -> object:
        entered.set()
        assert gate.wait(30)
        return hashed(texts)

    embedding(system, slow)
    texts = [ended(other, path, f"The secret of {path}") for path in ("acme/a", "acme/b")]
    assert entered.wait(30)
    other.erase("acme/a")
    gate.set()
    eventually(lambda: stored(system, *texts)[1])
    last = ended(other, "acme/c", "Booked a train")
    eventually(lambda: stored(system, last) == [True])
    assert stored(system, *texts) == [False, True]


def test_a_vector_that_is_stored_while_its_agent_is_erased_goes_too(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, other = ended(system, "acme/a", "The secret of a"), ended(system, "acme/b", "That of b")
    cache, erase = system.log.embeddings("m"), system.log.archive.erase

    def store_and_erase(*arguments: Any, **options: Any) -> int:
        cache.store({hash_of_text(each): b"vector" for each in (text, other)})
        return erase(*arguments, **options)

    monkeypatch.setattr(system.log.archive, "erase", store_and_erase)
    assert system.erase("acme/a").episodes == 1
    assert stored(system, text, other) == [False, True]


def test_another_embedding_takes_its_place(system: AgentSystem) -> None:
    first = embedding(system)
    text = ended(system, "acme/a", "Booked a train")
    eventually(lambda: stored(system, text) == [True])
    second = Recorder(lambda texts: hashed(texts, 16))
    system.episodes.use_embedding(second, name="other model", background=True)
    later = ended(system, "acme/b", "Missed a train")
    eventually(lambda: later in second.texts)
    assert sorted(second.texts) == sorted([text, later])
    assert first.texts == [text]
    statuses = {info.name: info.status for info in system.projections()}
    assert statuses.pop(NAME) == "closed"
    assert [name.startswith("embedding.") for name in statuses] == [True]


def test_a_consumer_of_the_users_own_may_not_have_its_name(system: AgentSystem) -> None:
    embedding(system)
    with pytest.raises(InvalidMessage, match="attached to this system already"):
        system.react(NAME, lambda event, reaction: None)
