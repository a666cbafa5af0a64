"""A running agent keeps keyframes by itself, so that no moment of its past is far from a state that is kept."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from attrs import frozen

from duramen.actors import Agent, AgentHandle, AgentSystem, Batch, Retention, Set, Settings
from duramen.events import EventRegistry, Unavailable, event_type
from duramen.projections.recovery.keyframes import EVERY
from duramen.projections.state.read_only import plain
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
REGISTRY = EventRegistry()
PATH = "acme/alice"
_KEYS = 7
_BATCH = 200


@event_type("noted", registry=REGISTRY)
@frozen
class Noted:
    n: int


class Noter(Agent):
    """Keeps the sum of what it was told, in its own state."""

    def initial(self) -> Any:
        return {"sum": 0}

    def apply(self, state: Any, event: Any) -> Any:
        return {"sum": state["sum"] + event.n}

    def on_receive(self, message: Any) -> None:
        for n in range(message):
            self.emit(Noted(n))


def live(agent: AgentHandle, first: int, last: int) -> None:
    """Bring an agent from `first - 1` events to `last`: number `seq` sets a key to `seq`."""
    for start in range(first, last + 1, _BATCH):
        changes = [Set(f"k{seq % _KEYS}", seq) for seq in range(start, min(start + _BATCH, last + 1))]
        agent.ask(Batch(changes))


def expected(seq: int) -> dict[str, int]:
    """What `live` has made of the memory of an agent that was spawned by event 1."""
    return {f"k{number % _KEYS}": number for number in range(max(2, seq - _KEYS + 1), seq + 1)}


def kept(system: AgentSystem, path: str = PATH) -> list[int]:
    return system.log.archive.keyframes(path)


def keeps(system: AgentSystem, count: int, path: str = PATH) -> list[int]:
    """Keyframes are kept after the commit, by a worker."""
    eventually(lambda: len(kept(system, path)) >= count, what="enough keyframes")
    return kept(system, path)


def pages_read(system: AgentSystem, call: Callable[[], object]) -> list[tuple[int, int | None]]:
    """Which parts of logs are read by a call."""
    log: Any = system.log
    real = log.pages
    pages: list[tuple[int, int | None]] = []

    def looked(agent: str, from_seq: int, to_seq: int | None) -> Any:
        pages.append((from_seq, to_seq))
        return real(agent, from_seq, to_seq)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "pages", looked)
        call()
    return pages


# -- they are kept -----------------------------------------------------------------------------------------------------


def test_a_running_agent_keeps_one_about_every_thousand_events(any_system: AgentSystem) -> None:
    live(any_system.spawn(PATH), 2, 5 * EVERY)
    seqs = keeps(any_system, 4)
    assert all(EVERY <= later - earlier <= EVERY + _BATCH for earlier, later in pairwise([0, *seqs]))


@pytest.mark.slow
def test_the_state_at_any_seq_is_the_fold_and_a_short_replay_away(any_system: AgentSystem) -> None:
    live(any_system.spawn(PATH), 2, 4_500)
    seqs = keeps(any_system, 4)
    chosen = [1, 999, 1_500, 2_999, 4_499, 4_500, *seqs, *(seq - 1 for seq in seqs), *(seq + 1 for seq in seqs)]
    for seq in chosen:
        found: Any = None

        def look(seq: int = seq) -> None:
            nonlocal found
            found = any_system.state_at(PATH, seq=seq)

        pages = pages_read(any_system, look)
        assert (found.seq, found.get()) == (seq, expected(seq))
        assert all(from_seq > seq - EVERY - _BATCH for from_seq, _ in pages), (seq, pages)
    assert any_system.verify(PATH).ok


def test_without_keyframes_the_same_look_begins_at_the_first_event(system: AgentSystem) -> None:
    """Control: what the test above counts is there to be counted."""
    live(system.spawn(PATH), 2, 3_000)
    system.log.archive.drop_keyframes(PATH, keeps(system, 2))
    assert (1, 1_900) in pages_read(system, lambda: system.state_at(PATH, seq=1_900))


def test_a_keyframe_has_the_agents_own_state(open_any: OpenSystem) -> None:
    system = open_any(agents={"noter": Noter}, registry=REGISTRY)
    agent = system.spawn(PATH, agent_type="noter")
    for _ in range(30):
        agent.ask(100)
    seq = keeps(system, 2)[1]
    assert pages_read(system, lambda: system.state_at(PATH, seq=seq)) in ([], [(seq + 1, seq)])
    assert plain(system.state_at(PATH, seq=seq).custom) == {
        "sum": sum(number % 100 for number in range(seq - 1)),
    }


@pytest.mark.slow
def test_few_events_or_a_state_that_outweighs_them_are_not_worth_one(system: AgentSystem) -> None:
    small, heavy, light = (system.spawn(f"acme/{name}") for name in ("small", "heavy", "light"))
    for number in range(5):
        heavy.set(f"text-{number}", "x" * 200_000)
    live(small, 2, EVERY - 1)
    for agent in (heavy, light):
        live(agent, 2, 6 * EVERY)
    seqs = keeps(system, 5, "acme/light")
    keeps(system, 1, "acme/heavy")
    assert kept(system, "acme/small") == []
    assert len(kept(system, "acme/heavy")) == 1, "what came since weighs less than the state"
    sizes = [len(system.log.archive.keyframe("acme/light", seq) or b"") for seq in seqs]
    page = system.log.read("acme/light", 1, 100_000)
    assert page is not None
    assert 0 < sum(sizes) <= sum(map(len, page.items)), "all together weigh no more than the log"


@pytest.mark.slow
def test_an_agent_that_comes_back_goes_on_keeping_them(open_any: OpenSystem) -> None:
    first = open_any()
    live(first.spawn(PATH), 2, 2_500)
    before = keeps(first, 2)
    first.close()
    second = open_any()
    live(second.agent(PATH), 2_501, 5_000)
    seqs = keeps(second, len(before) + 2)
    assert seqs[: len(before)] == before
    for seq in (before[-1] + 1, 3_333, seqs[-1]):
        assert second.state_at(PATH, seq=seq).get() == expected(seq)


@pytest.mark.slow
def test_an_agent_that_comes_back_often_keeps_them_all_the_same(open_any: OpenSystem) -> None:
    settings = Settings(snapshot_every=300)
    with open_any(settings=settings) as first:
        live(first.spawn(PATH), 2, 600)
    for start in range(601, 6_000, 600):
        with open_any(settings=settings) as system:
            live(system.agent(PATH), start, start + 599)
    last = open_any()
    seqs = [0, *kept(last)]
    assert 4 <= len(kept(last)) <= 10
    assert all(later - earlier < 2 * EVERY for earlier, later in pairwise(seqs))
    assert last.state_at(PATH, seq=4_444).get() == expected(4_444)
    assert last.verify(PATH).ok


# -- when they cannot be ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_that_cannot_be_kept_is_only_logged(any_system: AgentSystem, caplog: pytest.LogCaptureFixture) -> None:
    archive: Any = any_system.log.archive
    tried: list[int] = []

    def fails(agent: str, seq: int, stored: bytes) -> None:
        tried.append(seq)
        raise Unavailable("the server is lost")

    agent = any_system.spawn(PATH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "keep_keyframe", fails)
        live(agent, 2, 2_500)
        eventually(lambda: len(tried) == 2)
        assert agent.get() == expected(2_500)
        assert agent.status().status == "running"
    assert kept(any_system) == []
    assert any_system.state_at(PATH, seq=1_234).get() == expected(1_234)
    live(agent, 2_501, 4_500)
    assert min(keeps(any_system, 1)) > 2_500, "the next one is kept again"
    assert any_system.verify(PATH).ok
    assert caplog.text.count("after_commit_failed") == 2 and "Unavailable" in caplog.text


@pytest.mark.slow
def test_an_agent_goes_on_when_its_keyframes_are_gone(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    live(agent, 2, 2_500)
    any_system.log.archive.drop_keyframes(PATH, keeps(any_system, 2))
    assert any_system.state_at(PATH, seq=2_222).get() == expected(2_222)
    assert any_system.keep_keyframes(PATH) >= 1
    live(agent, 2_501, 3_500)
    assert any_system.state_at(PATH, seq=3_333).get() == expected(3_333)


# -- with the rest of an agent's life ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_trimming_drops_those_below_the_base(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    live(agent, 2, 5_000)
    seqs = keeps(any_system, 4)
    base = any_system.trim(PATH, keep_events=2_500).base
    assert base == 2_500
    assert kept(any_system) == [seq for seq in seqs if seq >= base]
    for seq in (base, base + 1, 3_999, 5_000):
        assert any_system.state_at(PATH, seq=seq).get() == expected(seq)
    live(agent, 5_001, 6_500)
    assert any_system.state_at(PATH, seq=6_100).get() == expected(6_100)
    assert any_system.verify(PATH).ok


@pytest.mark.slow
def test_an_agent_that_trims_itself_keeps_none_that_nobody_can_use(open_any: OpenSystem) -> None:
    system = open_any(settings=Settings(snapshot_every=500, retention=Retention(events=1_500)))
    live(system.spawn(PATH), 2, 6_000)

    def settled() -> bool:
        head = system.log.head(PATH)
        return head is not None and head.base >= 3_500 and min(kept(system), default=6_000) >= head.base

    eventually(settled)
    assert system.state_at(PATH, seq=5_900).get() == expected(5_900)


@pytest.mark.slow
def test_a_terminated_agent_keeps_its_past_and_a_new_session_goes_on(any_system: AgentSystem) -> None:
    agent = any_system.spawn(PATH)
    live(agent, 2, 2_500)
    keeps(any_system, 2)
    agent.terminate()
    ended = agent.status().seq
    assert any_system.state_at(PATH, seq=1_777).get() == expected(1_777)
    assert any_system.state_at(PATH).get() == {}
    any_system.spawn(PATH)
    live(agent, ended + 2, ended + 2_000)
    assert any_system.state_at(PATH, seq=1_777).get() == expected(1_777)
    assert keeps(any_system, 4)[-1] > ended
    assert any_system.state_at(PATH, seq=ended + 1_500).get() == expected(ended + 1_500)
    assert any_system.verify(PATH).ok


@pytest.mark.slow
def test_a_fork_keeps_its_own_and_needs_none_of_its_origin(any_system: AgentSystem) -> None:
    live(any_system.spawn(PATH), 2, 3_000)
    seqs = keeps(any_system, 2)
    fork = any_system.fork(PATH, 1_500, to="acme/fork")
    assert kept(any_system, "acme/fork") == []
    live(fork, 1_502, 4_000)
    own = keeps(any_system, 2, "acme/fork")
    assert min(own) >= 1_500 + EVERY, "counted from where it begins"
    assert kept(any_system) == seqs
    any_system.log.archive.drop_keyframes(PATH, seqs)
    any_system.trim(PATH, keep_events=0)
    for seq in (1_600, 2_700, 3_999):
        wanted = {name: number for name, number in expected(seq).items() if number != 1_501}
        found = any_system.state_at("acme/fork", seq=seq).get()
        assert {name: found[name] for name in wanted} == wanted
    assert any_system.verify().ok
