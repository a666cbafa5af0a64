"""A host that drains takes no more trees, lets what runs end, and hands on what it has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from duramen.actors import Agent, AgentSystem, Settings
from duramen.actors.dispatch import IDLE, Mailbox
from duramen.actors.runtime.passivation import Passivation
from duramen.events import AgentNotFound, InvalidMessage, NoHost, SystemClosed
from waiting import eventually

OpenSystem = Callable[..., AgentSystem]
PATH = "acme/alice"


class Worker(Agent):
    """Says which host has handled a message; waits for the gate if it is told to."""

    gate: threading.Event
    entered: threading.Event

    def on_receive(self, message: Any) -> str:
        if message == "wait":
            self.entered.set()
            self.gate.wait()
        self.append("done", message)
        return self.system.host


@pytest.fixture
def worker(gate: threading.Event) -> Iterator[type[Worker]]:
    class Gated(Worker):
        pass

    Gated.gate, Gated.entered = gate, threading.Event()
    yield Gated
    gate.set()


def owner(system: AgentSystem, path: str = PATH) -> str:
    return system.log.hosts.owner(path)[0].host


def runtime(system: AgentSystem, path: str = PATH) -> Any:
    mailbox = system._actors.find(path)
    assert mailbox is not None
    return mailbox.runner


@pytest.mark.slow
def test_the_agents_of_a_host_that_drains_live_elsewhere_from_then_on(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    for number in range(20):
        first.spawn(f"acme/a{number}", initial_state={"n": number}).spawn_child("sub")
    assert {owner(first, f"acme/a{number}") for number in range(20)} == {first.host}
    assert first.drain()
    assert first.is_draining
    assert {owner(first, f"acme/a{number}") for number in range(20)} == {""}
    for number in range(20):
        first.agent(f"acme/a{number}").set("n", -number)
        first.agent(f"acme/a{number}/sub").set("n", 1)
    first.spawn(PATH)
    assert {owner(first, path) for path in [PATH, *(f"acme/a{number}" for number in range(20))]} == {second.host}
    assert {record.host: record.state for record in second.hosts()} == {first.host: "draining", second.host: "up"}


def test_what_runs_ends_here_and_what_waits_behind_it_is_handled_by_the_next_host_in_order(
    open_any: OpenSystem, worker: type[Worker]
) -> None:
    first, second = open_any(agents={"worker": worker}), open_any(agents={"worker": worker})
    agent = first.spawn(PATH, agent_type="worker", initial_state={"done": []})
    far = second.agent(PATH)
    running = agent.ask("wait", block=False)
    assert worker.entered.wait(10)
    near_replies = [agent.ask(number, block=False) for number in range(10)]
    far_replies = [far.ask(number, block=False) for number in range(10, 20)]
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(first.drain)
        eventually(lambda: runtime(first)._leaves)
        assert not drained.done()
        worker.gate.set()
        assert drained.result(30)
    assert running.get(timeout=10) == first.host
    assert {reply.get(timeout=10) for reply in near_replies + far_replies} == {second.host}
    done = second.agent(PATH).get("done")
    assert [one for one in done if one == "wait" or one < 10] == ["wait", *range(10)]
    assert [one for one in done if one != "wait" and one >= 10] == list(range(10, 20))


@pytest.mark.slow
def test_callers_notice_nothing_of_a_host_that_drains_and_closes(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    client = open_any(host=False)
    paths = [f"acme/a{number}" for number in range(8)]
    for path in paths:
        first.spawn(path, initial_state={"l": []})
    sent, enough, stop = [0] * len(paths), threading.Event(), threading.Event()

    def call(index: int) -> None:
        while not stop.is_set():
            client.agent(paths[index]).append("l", sent[index])
            sent[index] += 1
            if min(sent) > 20:
                enough.set()

    with ThreadPoolExecutor(len(paths)) as pool:
        calls = [pool.submit(call, index) for index in range(len(paths))]
        assert enough.wait(30)
        assert first.drain()
        first.close()
        before = list(sent)
        eventually(lambda: all(now > then for now, then in zip(sent, before, strict=True)), timeout=30)
        stop.set()
        for one in calls:
            one.result(30)
    assert [second.agent(path).get("l") for path in paths] == [list(range(count)) for count in sent]
    assert {owner(second, path) for path in paths} == {second.host}


def test_without_another_host_what_waits_is_handled_here(open_any: OpenSystem, worker: type[Worker]) -> None:
    alone = open_any(agents={"worker": worker})
    agent = alone.spawn(PATH, agent_type="worker", initial_state={"done": []})
    replies = [agent.ask("wait", block=False), *(agent.ask(number, block=False) for number in range(10))]
    new = alone.agent("acme/new").ask("to nobody", block=False)
    assert worker.entered.wait(10)
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(alone.drain)
        eventually(lambda: alone.is_draining)
        worker.gate.set()
        assert drained.result(30)
    assert {reply.get(timeout=10) for reply in replies} == {alone.host}
    with pytest.raises(AgentNotFound):
        new.get(timeout=10)
    assert owner(alone) == ""


def test_an_agent_that_leaves_between_the_look_and_the_step_is_not_released_twice(
    open_any: OpenSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = open_any(settings=Settings(passivate_after=None))
    for path in (PATH, "acme/bob"):
        system.spawn(path)
    passivation, pages = Passivation(system._actors, system._services.dispatcher, None, None), system._actors.pages
    mailbox = system._actors.find(PATH)
    assert mailbox is not None
    eventually(lambda: mailbox.phase == IDLE)

    def stale_pages() -> Iterator[list[Mailbox]]:
        system._services.dispatcher.post(lambda: passivation._release(mailbox))
        eventually(lambda: system._actors.find(PATH) is None)
        yield [mailbox]
        yield from pages()

    monkeypatch.setattr(system._actors, "pages", stale_pages)
    assert system.drain(timeout=10), "the step that met it went on to the other agents"
    assert [owner(system), owner(system, "acme/bob")] == ["", ""]


def test_a_host_without_the_class_takes_nothing_from_one_that_drains(
    open_any: OpenSystem, worker: type[Worker]
) -> None:
    first, other = open_any(agents={"worker": worker}), open_any()
    first.spawn(PATH, agent_type="worker", initial_state={"done": []})
    first.spawn("acme/plain")
    assert first.drain()
    assert first.agent(PATH).ask("here") == first.host, "nobody else can"
    first.agent("acme/plain").set("n", 1)
    assert owner(first, "acme/plain") == other.host
    first.close()
    with pytest.raises(NoHost):
        open_any(host=False).agent(PATH).ask("nowhere")


@pytest.mark.slow
def test_a_tree_with_a_timer_stays_and_is_not_waited_for(open_any: OpenSystem) -> None:
    class Reminded(Agent):
        def on_receive(self, message: Any) -> None:
            self.schedule_once(1_000, "later")

    first, second = open_any(agents={"reminded": Reminded}), open_any(agents={"reminded": Reminded})
    first.spawn(PATH, agent_type="reminded").ask("start")
    first.spawn("acme/bob", agent_type="reminded")
    assert not first.drain(timeout=600)
    assert (owner(first), owner(first, "acme/bob")) == (first.host, "")
    second.agent(PATH).set("n", 1)
    assert owner(second) == first.host


def test_an_agent_has_its_timer_from_the_commit_on_that_set_it(
    open_any: OpenSystem, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    class Reminded(Agent):
        def on_receive(self, message: Any) -> None:
            asked.set()
            self.schedule_once(1_000, "later")

    first = open_any(agents={"reminded": Reminded})
    membership = first._services.hosting.membership
    # No effect begins that a worker thread would have to run: the timer must be there without one.
    monkeypatch.setattr(type(membership), "may_begin", lambda self: not asked.is_set() or gate.is_set())
    first.spawn(PATH, agent_type="reminded").ask("start")
    assert not membership.may_begin(), "control: effects are held back"
    assert not first.drain(timeout=600)
    assert owner(first) == first.host


def test_a_handler_that_does_not_end_keeps_its_tree_here(open_any: OpenSystem, worker: type[Worker]) -> None:
    first, _second = open_any(agents={"worker": worker}), open_any(agents={"worker": worker})
    agent = first.spawn(PATH, agent_type="worker", initial_state={"done": []})
    reply = agent.ask("wait", block=False)
    assert worker.entered.wait(10)
    assert not first.drain(timeout=0.05)
    assert owner(first) == first.host
    worker.gate.set()
    assert reply.get(timeout=10) == first.host
    assert first.drain()


def test_messages_stashed_for_a_resume_go_to_the_next_host(open_any: OpenSystem, worker: type[Worker]) -> None:
    first, second = open_any(agents={"worker": worker}), open_any(agents={"worker": worker})
    agent = first.spawn(PATH, agent_type="worker", initial_state={"done": []})
    agent.pause(when_paused="stash")
    reply = agent.ask("stashed", block=False)
    eventually(lambda: first.load().messages_waiting == 0)
    assert first.drain()
    second.agent(PATH).resume()
    assert reply.get(timeout=10) == second.host


def test_a_tree_of_which_only_absent_agents_were_asked_is_given_up(open_any: OpenSystem) -> None:
    first, second = open_any(), open_any()
    first.spawn(PATH)
    with pytest.raises(AgentNotFound):
        first.agent(f"{PATH}/nobody").set("n", 1)
    assert first.drain()
    second.agent(PATH).set("n", 1)
    assert owner(second) == second.host


def test_a_handler_cannot_drain_its_own_system(open_any: OpenSystem) -> None:
    class Draining(Agent):
        def on_receive(self, message: Any) -> Any:
            return self.system.drain()

    system = open_any(agents={"draining": Draining})
    with pytest.raises(InvalidMessage, match="waits for handlers"):
        system.spawn(PATH, agent_type="draining").ask("go")
    system.close()
    with pytest.raises(SystemClosed):
        system.drain()
