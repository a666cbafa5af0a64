"""Logs of earlier releases, and of before durable work, are read by today's code and come to what they came to then."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from duramen.actors import AgentSystem
from duramen.events import MemoryLog
from duramen.events.model.vocabulary import OWN_TYPES
from duramen.projections.recorded import as_test, check_replay, load_log, record_log, same, view_after
from duramen.projections.recorded.sealing import store_items
from golden.claims import REGISTRY, Claims
from golden.record import PATH, record

FILES = sorted(Path(__file__).parent.glob("*.jsonl"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_golden_log_is_read_and_folded_as_it_was(file: Path) -> None:
    recorded = load_log(file)
    report = check_replay(recorded, registry=REGISTRY, projections={"Claims": Claims()})
    assert report.ok, [as_test(found) for found in report.differences]
    assert report.events == len(recorded.items) > 20


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_agent_goes_on_from_a_golden_log(file: Path) -> None:
    recorded = load_log(file)
    log = MemoryLog()
    store_items(log, recorded.agent, recorded.items)
    with AgentSystem.open(log=log, registry=REGISTRY) as system:
        agent = system.agent(PATH)
        assert same(agent.get(), view_after(recorded.stored().events())["memory"])
        assert agent.set("more", True).seq == len(recorded.items) + 1


def test_this_release_has_its_golden_log() -> None:
    assert version("duramen") in {file.stem for file in FILES}


def test_the_newest_golden_log_has_every_type_of_event() -> None:
    """A type that is new needs a new golden log; before a release, the one of the release to come is made again."""
    newest = load_log(Path(__file__).with_name(f"{version('duramen')}.jsonl"))
    types = {raw[0] for raw in newest.stored().raws()}
    # The log of a fork begins where its origin's ends: what it begins with is no file's. What expires is erased.
    assert types == OWN_TYPES - {"forked", "expired", "work_cancel_sent"} | {"claim_found"}


@pytest.mark.slow
def test_what_is_recorded_today_is_what_was_recorded() -> None:
    """Times and digests apart: the same life leads to the same states and views."""
    old, new = load_log(Path(__file__).with_name(f"{version('duramen')}.jsonl")), record()
    assert same(old.changes, new.changes)
    assert old.views == new.views


def test_a_golden_log_from_a_store_is_the_one_from_a_file(tmp_path: Path) -> None:
    recorded = load_log(FILES[0])
    log = MemoryLog()
    store_items(log, recorded.agent, recorded.items)
    again = record_log(log, recorded.agent, {"Claims": Claims()}, registry=REGISTRY)
    assert list(again.items) == recorded.items
    assert same(again.changes, recorded.changes)
    assert again.views == recorded.views
    with AgentSystem.open(log=log, registry=REGISTRY) as system:
        expected, agent = view_after(recorded.stored().events()), system.agent(PATH)
        assert same(agent.get(), expected["memory"])
        status = agent.status()
        assert (status.status, status.session_id, status.agent_type) == (
            expected["status"],
            expected["session_id"],
            expected["agent_type"],
        )
