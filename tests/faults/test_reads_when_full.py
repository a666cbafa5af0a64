"""At `maxmemory` a server refuses writes, and everything that only reads works, from here and from a new system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duramen.actors import AgentSystem, Outcome
from duramen.events.errors import Unavailable
from servers import Server, redis_server, valkey_server

PATH = "acme/alice"

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
