"""Windows of a log, as the page asks for them: in any order, and again."""

from __future__ import annotations

import random

import pytest

from duramen.actors import AgentSystem
from duramen.actors.inspector.history import log_index, windows
from duramen.projections.history import TracedState
from duramen.projections.recovery import AgentLog

PATH = "acme/alice"
EVENTS = 1_600


@pytest.mark.slow
def test_windows_are_the_same_in_any_order(system: AgentSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_index, "_MOST_FRAMES", 2)  # so that most begin far from a state that the index holds
    monkeypatch.setattr(log_index, "_MOST_RECENT", 3)
    agent = system.spawn(PATH, initial_state={"l": []})
    number = 1
    while number < EVENTS:
        with agent.batch() as batch:
            for number in range(number + 1, number + 101):
                batch.append("l", number) if number % 3 else batch.set(f"k{number % 7}", number)
    agent_log = AgentLog(system.log, PATH, system.limits, system.registry)

    def indexed() -> log_index.LogIndex:
        index = log_index.LogIndex(agent_log.of(PATH), 0)
        index.extend(lambda: False)
        return index

    used, fresh, chance = indexed(), indexed(), random.Random(1)
    seqs = [chance.randint(1, EVENTS) for _ in range(3)] + [1_050, 1_250, 1_050, 850]
    for seq in seqs:
        found = windows.window(agent_log, used, seq)
        fresh._recent.clear()
        assert found == windows.window(agent_log, fresh, seq)
        assert found["traced"]


@pytest.mark.slow
def test_a_window_beside_the_last_one_begins_where_that_ended(
    system: AgentSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_index, "_MOST_FRAMES", 2)
    agent = system.spawn(PATH)
    for _ in range(20):
        with agent.batch() as batch:
            for number in range(100):
                batch.set("k", number)
    agent_log = AgentLog(system.log, PATH, system.limits, system.registry)
    index = log_index.LogIndex(agent_log.of(PATH), 0)
    index.extend(lambda: False)

    def begins_at(seq: int) -> int:
        frame: TracedState | None = index.frame_before(seq)
        assert frame is not None
        return frame.seq

    assert begins_at(1_200) == 0, "control: no state is held between"
    windows.window(agent_log, index, 1_300)
    assert [begins_at(seq) for seq in (1_000, 1_200, 1_399, 1_400)] == [1_000, 1_200, 1_200, 1_400]
