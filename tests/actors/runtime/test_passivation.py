"""Idle agents leave memory and come back by themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem, Get, Set, Settings, Spawn
from duramen.actors.dispatch import Envelope, Mailbox
from duramen.actors.dispatch import dispatcher as dispatcher_module
from duramen.actors.dispatch import registry as registry_module
from duramen.actors.runtime import passivation as passivation_module
from duramen.actors.runtime.passivation import Passivation
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]


def _resident(system: AgentSystem) -> int:
    return len(system._actors)


def test_an_idle_agent_leaves_memory_and_a_message_brings_it_back(open_any: OpenSystem) -> None:
    system = open_any(settings=Settings(passivate_after=0.05))
    agent = system.spawn("acme/alice", initial_state={"goal": "rest"})
    eventually(lambda: _resident(system) == 0)
    assert agent.get("goal") == "rest"
    assert agent.set("seen", True).seq == 2


def test_without_a_limit_an_idle_agent_stays(open_system: OpenSystem) -> None:
    system = open_system(settings=Settings(passivate_after=None))
    system.spawn("acme/alice")
    assert _resident(system) == 1


@pytest.mark.slow
def test_more_agents_than_the_limit_send_the_longest_idle_to_rest(open_any: OpenSystem) -> None:
    system = open_any(settings=Settings(passivate_after=None, most_active=20))
    agents = [system.spawn(f"acme/a{number}", initial_state={"n": number}) for number in range(100)]
    eventually(lambda: _resident(system) <= 20)  # the last one leaves after the reply to the spawn
    assert [agent.get("n") for agent in agents] == list(range(100))
    eventually(lambda: _resident(system) <= 20)


def test_an_agent_with_a_stash_or_a_timer_does_not_leave(open_system: OpenSystem) -> None:
    ticked = threading.Event()

    class Ticking(Agent):
        def on_receive(self, message: object) -> None:
            if message == "start":
                self.schedule_once(0.3, "tick")
            else:
                ticked.set()

    system = open_system(agents={"ticking": Ticking}, settings=Settings(passivate_after=0.02))
    ticking = system.spawn("acme/ticking", agent_type="ticking")
    ticking.ask("start")
    paused = system.spawn("acme/paused")
    paused.pause(when_paused="stash")
    kept = paused.ask(Set("a", 1), block=False)
    assert ticked.wait(10)
    assert not kept.done
    paused.resume()
    assert kept.get(timeout=10).seq == 4
    eventually(lambda: _resident(system) == 0)


@pytest.mark.slow
def test_agents_that_were_all_busy_at_once_leave_when_they_are_not(open_system: OpenSystem) -> None:
    system = open_system(settings=Settings(passivate_after=None, most_active=100))
    replies = [system.agent(f"acme/a{number}").ask(Spawn(), block=False) for number in range(2_000)]
    assert all(reply.get(timeout=30).success for reply in replies)
    eventually(lambda: _resident(system) <= 110)


@pytest.mark.slow
@pytest.mark.parametrize(("after", "most"), [(0.0, None), (None, 10)])
def test_messages_are_handled_between_the_steps_of_a_sweep(
    open_system: OpenSystem, monkeypatch: pytest.MonkeyPatch, after: float | None, most: int | None
) -> None:
    monkeypatch.setattr(dispatcher_module, "_STEP_SECONDS", 0.0)  # a step an agent
    system = open_system(settings=Settings(passivate_after=None))
    for number in range(300):
        system.spawn(f"acme/a{number}")
    dispatcher = system._services.dispatcher
    passivation = Passivation(system._actors, dispatcher, after, most)
    left: list[int] = []
    handled = threading.Event()

    def note() -> None:
        left.append(_resident(system))
        handled.set()

    def begin() -> None:  # in the core, so that the sweep and the message begin together
        passivation.sweep()
        envelope = Envelope(Get("goal", None))
        envelope.add_done_callback(note)
        system._actors.send("acme/a0", envelope)

    dispatcher.post(begin)
    assert handled.wait(10)
    assert left[0] > 250
    eventually(lambda: _resident(system) <= 10)


@pytest.mark.slow
@pytest.mark.parametrize("work", ["idle", "longest idle", "all"])
def test_no_unit_of_a_sweep_grows_with_the_number_of_agents(
    open_system: OpenSystem, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """As with a million agents: many of them lie together."""
    monkeypatch.setattr(registry_module, "_LAST_SHARD", 0)
    system = open_system(settings=Settings(passivate_after=None))
    replies = [system.agent(f"acme/a{number}").ask(Spawn(), block=False) for number in range(1_000)]
    assert all(reply.get(timeout=30).success for reply in replies)
    looked: list[str] = []
    for name in ("_is_idle", "_last_used"):
        original = getattr(passivation_module, name)

        def counted(mailbox: Mailbox, original: Callable[[Mailbox], Any] = original) -> Any:
            looked.append(mailbox.path)
            return original(mailbox)

        monkeypatch.setattr(passivation_module, name, counted)
    passivation = Passivation(system._actors, system._services.dispatcher, 0.0, 10)
    units = {
        "idle": lambda: passivation._release_idle(0.0),
        "longest idle": lambda: passivation._release_longest_idle(10),
        "all": passivation._release_resources,
    }[work]()
    most = count = 0
    for _ in units:
        most, count = max(most, len(looked)), count + 1
        looked.clear()
    assert most <= 3 * 128, "one unit looked at too many agents"
    assert count > 1_000 / 128
    if work != "all":
        assert _resident(system) <= 10


def test_the_longest_idle_agents_leave_first(open_system: OpenSystem) -> None:
    system = open_system(settings=Settings(passivate_after=None))
    agents = [system.spawn(f"acme/a{number}") for number in range(100)]
    for agent in agents[::-1]:
        agent.set("n", 1)
    passivation = Passivation(system._actors, system._services.dispatcher, None, 50)
    passivation.sweep()
    eventually(lambda: _resident(system) == 45)
    left = sorted(mailbox.path for page in system._actors.pages() for mailbox in page)
    assert left == sorted(f"acme/a{number}" for number in range(45))
