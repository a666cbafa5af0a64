"""Processes that only look at an agent, beside the process that runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from duramen.actors import AgentSystem, Get, GetStatus
from faults.programs import running
from servers import Server, redis_server, valkey_server

AGENT = "acme/alice"
HANDLERS = 20

OWNER = """\
import json, sys
from duramen.actors import Agent, AgentSystem
from duramen.events import DuramenError

url, namespace, handlers = sys.argv[1:]

class Working(Agent):
    def on_receive(self, message):
        self.append("done", message)
        print("begun", flush=True)
        sys.stdin.readline()
        return message

def outcome(reply):
    try:
        return reply.get(timeout=60)
    except DuramenError as error:
        return type(error).__name__

with AgentSystem.open(url, namespace=namespace, agents={"working": Working}) as system:
    agent = system.spawn("acme/alice", agent_type="working")
    replies = [agent.ask(number, block=False) for number in range(int(handlers))]
    print(json.dumps([outcome(reply) for reply in replies]), flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with valkey_server() if request.param == "valkey" else redis_server() as found:
        yield found


def test_no_handler_is_fenced_by_reads_of_another_process(server: Server) -> None:
    namespace = f"t{uuid4().hex}"
    with (
        running(OWNER, server.url, namespace, str(HANDLERS)) as owner,
        AgentSystem.open(server.url, namespace=namespace) as system,
    ):
        agent = system.agent(AGENT)
        fences: set[str] = set()
        for number in range(HANDLERS):
            owner.expect("begun")
            for _ in range(20):
                assert agent.get("done", []) == list(range(number))
                assert agent.status().status == "running"
            sent = [agent.ask(message, block=False) for message in (Get(), GetStatus())]
            assert [type(reply.get(timeout=60)).__name__ for reply in sent] == ["dict", "AgentStatus"]
            head = system.log.head(AGENT)
            assert head is not None
            fences.add(head.fence)
            owner.say("go on")
        assert json.loads(owner.hear()) == list(range(HANDLERS))
        assert agent.get("done") == list(range(HANDLERS))
        assert agent.status().seq == HANDLERS + 1
        assert len(fences) == 1


def test_a_takeover_by_force_fences_the_handler_still(server: Server) -> None:
    """The control: what claims the agent is seen by its handler."""
    namespace = f"t{uuid4().hex}"
    with (
        running(OWNER, server.url, namespace, "1") as owner,
        AgentSystem.open(server.url, namespace=namespace) as system,
    ):
        owner.expect("begun")
        assert system.log.claim([AGENT], "another", 1)[0] is not None
        owner.say("go on")
        assert json.loads(owner.hear()) == ["Fenced"]
