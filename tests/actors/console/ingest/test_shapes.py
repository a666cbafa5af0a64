"""What other programs have recorded is read by its shape, as chat messages with calls of tools and their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from duramen.actors.commands import Batch, Record
from duramen.actors.console.errors import InvalidRecording
from duramen.actors.console.ingest.json_items import file_source
from duramen.actors.console.ingest.recordings import RecordedSession, read_sessions
from duramen.actors.console.ingest.steps import steps_of
from duramen.events import Limits

SAMPLES = Path(__file__).parent / "recordings"
ASKED = ("user", "How high is the tower?")
LOOKED = ("assistant", "look_up c1 {'what': 'tower'}")
FOUND = ("tool", "96 m c1")
ANSWERED = ("assistant", "96 metres.")
SYSTEM = ("system", "You look things up.")
SAID: dict[str, list[tuple[str, str]]] = {
    "openai-chat.json": [SYSTEM, ASKED, LOOKED, FOUND, ANSWERED],
    "openai-responses.json": [
        ASKED,
        ("assistant", ""),
        LOOKED,
        FOUND,
        ("assistant", "web_search ws_1 {'type': 'search', 'query': 'tower'}"),
        ANSWERED,
    ],
    "anthropic.json": [
        SYSTEM,
        ASKED,
        ("assistant", "I look. look_up c1 {'what': 'tower'}"),
        FOUND,
        ("user", "In metres, please."),
        ANSWERED,
    ],
    "langchain.json": [SYSTEM, ASKED, LOOKED, FOUND, ANSWERED],
    "swe-agent.traj": [
        ("system", "You mend programs."),
        ("user", "Mend the typo."),
        ("assistant", "Let me look. bash c1 {'command': 'ls'}"),
        ("tool", "README.md c1"),
    ],
    "swe-agent-steps.traj": [
        ("assistant", "Let me look. shell None ls"),
        ("tool", "README.md"),
        ("assistant", "Done. shell None submit"),
        ("tool", ""),
    ],
    "pydantic-ai.json": [SYSTEM, ASKED, ("assistant", "I look. look_up c1 {'what': 'tower'}"), FOUND, ANSWERED],
    "claude-code.jsonl": [
        ("user", "Mend the typo."),
        ("assistant", "Bash c1 {'command': 'ls'}"),
        ("tool", "README.md c1"),
        ("assistant", "Mended."),
    ],
}


def read(file: Path) -> list[RecordedSession]:
    return list(read_sessions(file_source(str(file)), Limits()))


def said(message: dict[str, Any]) -> tuple[str, str]:
    """Who says what: text, calls of tools, and whose result it is."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    words = [part["text"] for part in parts if part.get("text")]
    for call in message.get("tool_calls") or []:
        arguments = call["function"]["arguments"]
        plain = json.loads(arguments) if arguments.startswith("{") else arguments
        words.append(f"{call['function']['name']} {call['id']} {plain}")
    if message.get("tool_call_id"):
        words.append(message["tool_call_id"])
    return message["role"], " ".join(words)


def test_there_is_a_sample_of_each_shape() -> None:
    assert sorted(SAID) == sorted(file.name for file in SAMPLES.iterdir())


@pytest.mark.parametrize("name", SAID)
def test_a_recording_is_one_session_of_chat_messages(name: str) -> None:
    (session,) = read(SAMPLES / name)
    assert [said(message) for message in session.messages] == SAID[name]


@pytest.mark.parametrize("name", SAID)
def test_sessions_on_lines_are_sessions_of_their_own(name: str, tmp_path: Path) -> None:
    text = (SAMPLES / name).read_text()
    values = [json.loads(line) for line in text.splitlines()] if name.endswith(".jsonl") else json.loads(text)
    file = tmp_path / "many.jsonl"
    file.write_text((json.dumps(values) + "\n") * 2)
    assert [[said(message) for message in session.messages] for session in read(file)] == [SAID[name]] * 2


def tool_of(record: Record) -> Any:
    data: Any = record.data
    return data["tool"]


@pytest.mark.parametrize("name", SAID)
def test_each_call_and_each_result_is_recorded_with_the_name_of_its_tool(name: str) -> None:
    (session,) = read(SAMPLES / name)
    batches = [step.message for step in steps_of(session) if isinstance(step.message, Batch)]
    records = [each for batch in batches for each in batch.operations if isinstance(each, Record)]
    called = [tool_of(each) for each in records if each.kind == "tool_call"]
    answered = [tool_of(each) for each in records if each.kind == "tool_output"]
    assert called == [
        call["function"]["name"] for message in session.messages for call in message.get("tool_calls") or []
    ]
    assert answered == [tool for tool in called if tool != "web_search"]  # whose result is not told


def test_nothing_of_a_message_is_lost() -> None:
    (session,) = read(SAMPLES / "claude-code.jsonl")
    assert session.messages[1]["usage"] == {"input_tokens": 9, "output_tokens": 5}
    assert session.messages[1]["line"]["uuid"] == "u-2"
    (session,) = read(SAMPLES / "langchain.json")
    assert session.messages[2]["usage"]["total_tokens"] == 14
    (session,) = read(SAMPLES / "pydantic-ai.json")
    assert [part["part_kind"] for part in session.messages[2]["parts"]] == ["thinking", "text", "tool-call"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([{"type": "human", "data": {"content": 2**70}}], "does not fit 64 bits"),
        ([{"type": "function_call", "call_id": "c", "name": 3, "arguments": "{}"}], "is not a call"),
        ([{"type": "item_reference", "id": "x"}], "is neither a message"),
        ([{"type": "summary", "summary": "x", "leafUuid": "u"}], "has no messages"),
        ({"object": "response", "output": None}, "output is not a list of messages"),
        ({"trajectory": [], "history": []}, "trajectory has no messages"),
        ({"choices": [{"text": "old"}]}, "is not a message"),
    ],
)
def test_what_is_no_recording_is_refused_with_its_place(content: Any, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InvalidRecording, match="x.json.*" + problem):
        read(file)
