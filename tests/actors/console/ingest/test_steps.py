from __future__ import annotations

from typing import Any

import pytest

from duramen.actors import AgentSystem, Append, Batch, Outcome, Pause, Record, Resume, Spawn, Terminate
from duramen.actors.console.ingest.recordings import RecordedSession
from duramen.actors.console.ingest.steps import done_steps, steps_of

USER = {"role": "user", "content": "what is the weather?"}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"in": "Oslo"}'}}
ASKS = {"role": "assistant", "content": None, "tool_calls": [CALL], "usage": {"total_tokens": 7}}
TELLS = {"role": "tool", "tool_call_id": "c1", "content": "rain"}
SAYS = {"role": "assistant", "content": "It rains."}


def session(*messages: dict[str, Any], reward: float | None = None) -> RecordedSession:
    return RecordedSession("task-1", "task-1-abc", list(messages) or [USER], reward, {"recording": "x"})


def operations(*messages: dict[str, Any]) -> list[list[Any]]:
    batches = [step.message for step in steps_of(session(*messages)) if step.kind == "message"]
    return [list(batch.operations) for batch in batches if isinstance(batch, Batch)]


def test_a_session_is_spawned_paused_and_resumed_half_way_and_terminated() -> None:
    steps = steps_of(session(USER, ASKS, TELLS, SAYS))
    assert [step.kind for step in steps] == [
        *["spawn", "message", "message"],
        *["pause", "resume", "message", "message", "terminate"],
    ]
    spawn, pause, resume = (steps[at].message for at in (0, 3, 4))
    assert isinstance(spawn, Spawn)
    assert (spawn.agent_type, spawn.session_id, spawn.metadata) == ("recorded", "task-1-abc", {"recording": "x"})
    assert isinstance(pause, Pause)
    assert isinstance(resume, Resume)
    assert (pause.checkpoint_id, resume.checkpoint_id) == ("half-way", "half-way")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_even_a_short_session_has_a_pause_with_something_before_it(count: int) -> None:
    kinds = [step.kind for step in steps_of(session(*[USER] * count))]
    assert kinds.index("pause") == 2
    assert kinds.count("message") == count


def test_every_step_has_a_command_id_of_its_own_that_is_the_same_each_time() -> None:
    first, second = (steps_of(session(USER, ASKS, TELLS, SAYS)) for _ in range(2))
    assert first == second
    ids = [step.command_id for step in first]
    assert [getattr(step.message, "command_id", None) for step in first] == ids
    assert len(set(ids)) == len(ids)
    assert all(command_id.startswith("task-1-abc/") for command_id in ids)
    assert "task-1-abc/message-4" in ids


def test_each_message_goes_in_as_it_came_with_the_records_that_belong_to_it() -> None:
    assert operations(USER, ASKS, TELLS, SAYS) == [
        [Append("messages", USER)],
        [
            Append("messages", ASKS),
            Record("completion", {"content": None, "usage": {"total_tokens": 7}}),
            Record("tool_call", {"tool": "weather", "tool_call_id": "c1", "arguments": '{"in": "Oslo"}'}),
        ],
        [
            Append("messages", TELLS),
            Record("tool_output", {"tool": "weather", "tool_call_id": "c1", "result": "rain"}),
        ],
        [Append("messages", SAYS), Record("completion", {"content": "It rains."})],
    ]


def test_every_call_of_a_message_is_recorded() -> None:
    other = {"id": "c2", "function": {"name": "news"}}
    records = operations({**ASKS, "tool_calls": [CALL, other]}, {**TELLS, "tool_call_id": "c2"})
    assert [record.data["tool"] for record in records[0][2:]] == ["weather", "news"]
    assert records[1][1].data == {"tool": "news", "tool_call_id": "c2", "result": "rain"}


@pytest.mark.parametrize(
    ("message", "tool"),
    [
        ({**TELLS, "name": "its own name"}, "its own name"),
        ({**TELLS, "tool_call_id": "never called"}, "unknown"),
        ({"role": "tool", "content": "x"}, "unknown"),
        ({"role": "function", "name": "old", "content": "x"}, "old"),
    ],
)
def test_a_result_is_of_the_tool_that_is_known(message: dict[str, Any], tool: str) -> None:
    assert operations(ASKS, message)[1][1].data["tool"] == tool


@pytest.mark.parametrize(
    ("reward", "outcome", "details"),
    [
        (1, Outcome.SUCCESS, {"reward": 1}),
        (1.0, Outcome.SUCCESS, {"reward": 1.0}),
        (0.0, Outcome.FAILURE, {"reward": 0.0}),
        (0.3, Outcome.PARTIAL, {"reward": 0.3}),
        (2, Outcome.SUCCESS, {"reward": 2}),
        (-1, Outcome.FAILURE, {"reward": -1}),
        (None, Outcome.SUCCESS, None),
    ],
)
def test_the_outcome_is_the_one_the_recording_gives(reward: float | None, outcome: Outcome, details: Any) -> None:
    end = steps_of(session(USER, reward=reward))[-1].message
    assert isinstance(end, Terminate)
    assert (end.outcome, end.outcome_details) == (outcome, details)


@pytest.mark.parametrize(
    ("messages", "description"),
    [
        ([{"role": "system", "content": "be kind"}, USER], "what is the weather?"),
        ([{"role": "user", "content": "x" * 500}], "x" * 500),
        ([{"role": "user", "content": "x" * 501}], "x" * 499 + "…"),
        (
            [{"role": "user", "content": ""}, {"role": "user", "content": " \n"}, {"role": "user", "content": " b "}],
            " b ",
        ),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}]}], "a\nb"),
        ([SAYS], None),
        ([{"role": "user", "content": {"odd": 1}}], None),
    ],
)
def test_the_description_is_what_the_user_asked_for_first(messages: list[Any], description: str | None) -> None:
    end = steps_of(session(*messages))[-1].message
    assert isinstance(end, Terminate)
    assert end.task_description == description


def test_what_is_behind_an_agent_is_known_after_each_step() -> None:
    steps = steps_of(session(USER, ASKS, TELLS, SAYS, reward=1.0))
    with AgentSystem.open("memory://") as system:
        agent = system.agent("p/task-1")
        for count, step in enumerate(steps, 1):
            agent.ask(step.message)
            assert done_steps(system.peek("p/task-1"), steps) == count


def test_the_steps_of_another_session_are_not_taken_for_these() -> None:
    with AgentSystem.open("memory://") as system:
        for step in steps_of(session(USER)):
            system.agent("p/task-1").ask(step.message)
        other = RecordedSession("task-1", "task-1-other", [USER], None, {})
        assert done_steps(system.peek("p/task-1"), steps_of(other)) == 0
