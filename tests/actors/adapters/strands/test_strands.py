"""The repository does what Strands' own does with files; its sessions are agents.

Strands is imported by the tests that use it, by name: every worker loads every file.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from duramen import AgentSystem
from duramen.events import InvalidPath


def types(name: str) -> Any:
    return getattr(import_module("strands.types.session"), name)


def refused() -> Any:
    return import_module("strands.types.exceptions").SessionException


def repository(system: AgentSystem, **options: Any) -> Any:
    return import_module("duramen.adapters.strands").DuramenSessionRepository(system, **options)


def session(session_id: str) -> Any:
    return types("Session")(session_id=session_id, session_type="AGENT")


def agent(agent_id: str, **state: Any) -> Any:
    return types("SessionAgent")(agent_id=agent_id, state=state, conversation_manager_state={})


def message(text: str, message_id: int) -> Any:
    content = [{"text": text}, {"image": {"format": "png", "source": {"bytes": b"\xff\x00"}}}]
    return types("SessionMessage")({"role": "user", "content": content}, message_id)


class Many:
    """Agents that work together, as far as a repository asks."""

    def __init__(self, id: str, state: dict[str, Any]) -> None:
        self.id = id
        self._state = state

    def serialize_state(self) -> dict[str, Any]:
        return self._state


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_calls_give_what_the_repository_of_files_gives(seed: int, system: AgentSystem, tmp_path: Path) -> None:
    theirs = import_module("strands.session.file_session_manager").FileSessionManager("-", storage_dir=str(tmp_path))
    chance = random.Random(seed)
    both = repository(system), theirs

    def same(call: Any) -> None:
        found = []
        for each in both:
            try:
                found.append(call(each))
            except Exception as error:
                found.append(type(error))
        assert found[0] == found[1]

    for number in range(60):
        name, who, at = chance.choice(["s-1", "s 2:é"]), chance.choice(["a", "b c"]), chance.randint(0, 11)
        made, said = agent(who, n=number), message("é" * chance.choice([1, 200_000]), at)
        many = Many(who, {"n": number})
        match chance.choice(["session", "agent", "message", "message", "list", "redact", "many", "delete"]):
            case "session":
                new = session(name)
                same(lambda each: each.create_session(new))
                same(lambda each: each.read_session(name))
            case "agent" if both[0].read_session(name) is not None:
                same(lambda each: each.update_agent(name, made))
                same(lambda each: each.create_agent(name, made))
                same(lambda each: each.read_agent(name, who))
            case "message" if both[0].read_agent(name, who) is not None:
                same(lambda each: each.create_message(name, who, said))
                same(lambda each: each.read_message(name, who, at))
            case "list":
                limit, offset = chance.choice([None, 0, 2, 50]), chance.choice([0, 1, 20])
                same(lambda each: each.list_messages(name, who, limit, offset=offset))
            case "redact":
                said.redact_message = {"role": "user", "content": [{"text": "(taken out)"}]}
                same(lambda each: each.update_message(name, who, said))
            case "many" if both[0].read_session(name) is not None:
                same(lambda each: each.update_multi_agent(name, many))
                same(lambda each: each.create_multi_agent(name, many))
                same(lambda each: each.read_multi_agent(name, who))
            case "delete" if chance.random() < 0.3:
                same(lambda each: each.delete_session(name))


def test_of_many_who_create_a_session_at_once_one_does(system: AgentSystem) -> None:
    def create(_: int) -> bool:
        try:
            repository(system).create_session(session("s-1"))
        except refused():
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, range(8))) == [False] * 7 + [True]


def test_a_message_is_one_commit_and_a_number(system: AgentSystem) -> None:
    one = repository(system)
    one.create_session(session("s-1"))
    one.create_agent("s-1", agent("a"))
    before = system.agent(one.path("s-1")).status().seq
    one.create_message("s-1", "a", message("hello", 0))
    assert system.agent(one.path("s-1")).status().seq == before + 1
    with pytest.raises(ValueError, match="integer"):
        one.read_message("s-1", "a", "0")


def test_an_agent_of_strands_goes_on_in_another_process(system: AgentSystem) -> None:
    strands = import_module("strands")
    manager = import_module("strands.session.repository_session_manager").RepositorySessionManager
    seen = list[int]()

    class Model(import_module("strands.models").Model):  # type: ignore[misc]
        def update_config(self, **config: Any) -> None: ...

        def get_config(self) -> Any:
            return {}

        async def structured_output(self, *args: Any, **kwargs: Any) -> Any:
            yield {}

        async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(len(messages))
            yield {"messageStart": {"role": "assistant"}}
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": "hi"}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "end_turn"}}

    for _ in range(2):  # each with a repository of its own
        session_manager = manager("s-1", repository(system))
        strands.Agent(model=Model(), agent_id="a", session_manager=session_manager, callback_handler=None)("hello")
    assert seen == [1, 3]


def test_the_project_must_be_a_name() -> None:
    with AgentSystem.open("memory://") as system, pytest.raises(InvalidPath):
        repository(system, project="")
