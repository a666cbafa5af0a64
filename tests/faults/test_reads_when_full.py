"""At `maxmemory` a server refuses writes; what only reads, or makes room, works, from here and from a new system."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from duramen.actors import AgentSystem, Outcome
from duramen.events import Event, Trimmed
from duramen.events.errors import Unavailable
from duramen.projections import Projection
from servers import Server, redis_server, valkey_server

PATH = "acme/alice"


class Count(Projection[int]):
    version = 1

    def initial(self) -> int:
        return 0

    def apply(self, state: int, event: Event) -> int:
        return state + 1


READS: dict[str, Callable[[AgentSystem, Path], Any]] = {
    "get": lambda system, _: system.agent(PATH).get("n"),
    "keys": lambda system, _: system.agent(PATH).keys(),
    "status": lambda system, _: system.agent(PATH).status().status,
    "checkpoints": lambda system, _: [found.checkpoint_id for found in system.agent(PATH).checkpoints()],
    "peek": lambda system, _: system.peek(PATH).memory,
    "events": lambda system, _: [event.seq for event in system.events(PATH)],
    "agents": lambda system, _: len(list(system.agents())),
    "verify": lambda system, _: system.verify().ok,
    "state_at": lambda system, _: system.state_at(PATH, seq=2).memory,
    "replay": lambda system, _: [event.seq for event, _ in system.replay(PATH)],
    "diff": lambda system, _: system.diff(PATH, 1, 2).added,
    "blame": lambda system, _: system.blame(PATH, "n").seq,
    "export": lambda system, folder: system.export_session(PATH, folder / "session").agents[0].seq,
    "episodes": lambda system, _: [episode.task_description for episode in system.episodes.list()],
    "subscribe": lambda system, _: next(iter(system.subscribe(f"{PATH}/**", from_start=True))).seq,
}


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Any:
    with valkey_server() if request.param == "valkey" else redis_server() as found:
        yield found


@pytest.mark.parametrize("read", READS)
def test_what_only_reads_works_when_the_server_is_full(server: Server, read: str, tmp_path: Path) -> None:
    with AgentSystem.open(server.url) as system:
        alice = system.spawn(PATH)
        alice.set("n", 1)
        alice.pause("lunch")
        alice.resume("lunch")
        system.spawn("acme/bob").terminate(Outcome.SUCCESS, task_description="done").raise_for_failure()
        expected = READS[read](system, tmp_path)
        server.client().config_set("maxmemory", 1)
        for _ in range(2):
            with pytest.raises(Unavailable, match="OOM"):
                alice.set("n", 2)
            assert READS[read](system, tmp_path) == expected
        with AgentSystem.open(server.url) as another:
            assert READS[read](another, tmp_path) == expected
            with pytest.raises(Unavailable, match="OOM"):
                another.agent(PATH).set("n", 2)
        server.client().config_set("maxmemory", 0)
        assert alice.set("n", 3).seq == alice.set("n", 4).seq - 1
        assert system.verify().ok


def filled_up(server: Server, system: AgentSystem) -> None:
    """An agent of half a megabyte, and a server that has no room for more."""
    agent = system.spawn(PATH)
    for number in range(500):
        agent.set("text", f"{number:04}" * 250)
    used = int(server.client().info("memory")["used_memory"])
    server.client().config_set("maxmemory", used - 50_000)
    with pytest.raises(Unavailable, match="OOM"):
        agent.set("text", "control: there is no room")


@pytest.mark.parametrize("elsewhere", [False, True], ids=["the system that has the agent", "a new system"])
def test_trimming_makes_room_on_a_full_server(server: Server, elsewhere: bool) -> None:
    with AgentSystem.open(server.url) as system:
        filled_up(server, system)
        with AgentSystem.open(server.url) if elsewhere else nullcontext(system) as trimming:
            done = trimming.trim(PATH, keep_events=10)
            assert (done.base, done.removed, done.held_by) == (491, 491, None)
            partition = trimming.log.partition_of(PATH)
            with pytest.raises(Trimmed):  # the feed, too
                trimming.log.feed_page(partition, 0, 1)
        agent = system.agent(PATH)
        assert agent.set("text", "there is room").seq == 502
        assert agent.get() == {"text": "there is room"}
        assert [event.seq for event in system.events(PATH, from_seq=492)] == list(range(492, 503))
        assert system.verify().ok


def test_a_consumer_that_holds_the_log_can_be_removed_from_a_full_server(server: Server) -> None:
    with AgentSystem.open(server.url) as system:
        system.spawn("acme/bob")
        with system.attach(Count(), name="count") as runner:
            runner.wait_for(saved=True)
        filled_up(server, system)
        assert system.trim(PATH, keep_events=0).held_by == "consumer 'count'"
        system.consumers.remove("count")
        assert system.trim(PATH, keep_events=0).removed == 501
        assert system.agent(PATH).set("text", "there is room").seq == 502
