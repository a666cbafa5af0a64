"""Messages stashed in one process are handled, or refused, when another process goes on with the agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from duramen.actors import Agent, AgentHandle, AgentSystem, Append, Set
from duramen.events import AgentNotRunning

OpenSystem = Callable[..., AgentSystem]
SECONDS = 15.0


class Kind(Agent):
    def on_receive(self, message: Any) -> Any:
        self.append("l", message)
        return f"handled {message}"


def stashing(open_any: OpenSystem) -> tuple[AgentHandle, AgentHandle]:
    """The same agent in two processes, paused by the first one, which has stashed nothing yet."""
    here, there = open_any(agents={"kind": Kind}), open_any(agents={"kind": Kind})
    agent = here.spawn("p/a", agent_type="kind")
    agent.pause("tea", when_paused="stash")
    return agent, there.agent("p/a")


RESUMES: dict[str, Callable[[AgentHandle], Any]] = {
    "resume": lambda agent: agent.resume(),
    "resume from the checkpoint": lambda agent: agent.resume("tea"),
    "resume after a look": lambda agent: (agent.status(), agent.get(), agent.resume()),
}


@pytest.mark.parametrize("resume", RESUMES)
def test_they_are_handled_in_order_when_another_process_resumes_the_agent(open_any: OpenSystem, resume: str) -> None:
    agent, elsewhere = stashing(open_any)
    replies = [
        agent.ask(Append("l", 1), block=False),
        agent.ask(2, block=False),
        agent.ask(Append("l", 3), block=False),
    ]
    assert agent.status().status == "paused"

    RESUMES[resume](elsewhere)

    results = [reply.get(timeout=SECONDS) for reply in replies]
    assert results[1] == "handled 2"
    assert elsewhere.get("l") == [1, 2, 3]
    assert agent.get("l") == [1, 2, 3]


def test_they_are_refused_when_another_process_ends_the_agent(open_any: OpenSystem) -> None:
    agent, elsewhere = stashing(open_any)
    replies = [agent.ask(Set("x", 1), block=False), agent.ask("own", block=False)]
    elsewhere.terminate()
    for reply in replies:
        with pytest.raises(AgentNotRunning):
            reply.get(timeout=SECONDS)


def test_they_wait_while_another_process_only_looks(open_any: OpenSystem) -> None:
    agent, elsewhere = stashing(open_any)
    reply = agent.ask(Set("x", 1), block=False)
    for _ in range(3):
        assert elsewhere.status().status == "paused"
        assert agent.status().status == "paused"
        assert agent.get() == {}
    assert not reply.done
    elsewhere.resume()
    assert reply.get(timeout=SECONDS).seq == 4


def test_they_wait_through_a_second_pause_by_another_process(open_system: OpenSystem) -> None:
    agent, elsewhere = stashing(open_system)
    first = agent.ask(Set("x", 1), block=False)
    elsewhere.resume()
    first.get(timeout=SECONDS)
    elsewhere.pause("coffee", when_paused="stash")
    second = agent.ask(Set("y", 2), block=False)
    assert agent.status().status == "paused"  # stashed by now
    elsewhere.resume()
    second.get(timeout=SECONDS)
    assert elsewhere.get() == {"x": 1, "y": 2}
